package clients

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir/durable"
)

// record is what was installed, as installed.json in the home has it.
type record struct {
	Installs []install `json:"installs"`
}

// install is duo in one client, in one scope.
type install struct {
	Client  string    `json:"client"`
	Scope   Scope     `json:"scope"`
	Project string    `json:"project,omitempty"`
	Way     string    `json:"way"`
	Outbox  string    `json:"outbox,omitempty"` // that Codex's sandbox was opened for
	Begun   bool      `json:"begun,omitempty"`  // the client's commands have not ended yet
	Files   []written `json:"files"`
	Folders []string  `json:"folders,omitempty"` // that were made, outermost first
}

// written is what was done to one file.
type written struct {
	Role    string   `json:"role"`
	Path    string   `json:"path"`
	Target  string   `json:"target"`            // the path without links
	Created bool     `json:"created,omitempty"` // there was none
	Before  string   `json:"before,omitempty"`  // sum of the text as it was
	Edited  bool     `json:"edited,omitempty"`  // somebody else has written in it since: it cannot be as it was
	After   string   `json:"after"`
	Made    []string `json:"made,omitempty"` // the places in it that were made
}

func (i install) String() string {
	if i.Project != "" {
		return string(i.Scope) + " " + i.Project
	}
	return string(i.Scope)
}

func (i install) is(client string, env Env, scope Scope) bool {
	return i.Client == client && i.Scope == scope && i.Project == projectOf(env, scope)
}

func (i install) clone() install {
	i.Files, i.Folders = slices.Clone(i.Files), slices.Clone(i.Folders)
	return i
}

// file is what was done to the file at a path without links, nil for nothing.
func (i *install) file(target string) *written {
	n := slices.IndexFunc(i.Files, func(w written) bool { return w.Target == target })
	if n < 0 {
		return nil
	}
	return &i.Files[n]
}

// note adds a change. What a file was like before we came stays known as long as nobody else
// has written in it.
func (i *install) note(c Change) {
	i.noteFolders(filepath.Dir(c.target))
	made := written{Role: c.role, Path: c.Path, Target: c.target, Created: c.Old == nil, After: sum(c.New), Made: c.made}
	if c.Old != nil {
		made.Before = sum(c.Old)
	}
	was := i.file(c.target)
	if was == nil {
		i.Files = append(i.Files, made)
		return
	}
	was.Made = append(was.Made, made.Made...)
	if c.Old == nil {
		was.Created, was.Edited = true, false
	} else if was.After != made.Before && was.After != made.After {
		was.Edited = true
	}
	was.After = made.After
}

// share adds a file that another install has written and this one needs too, with the folders
// that were made for it: the last one to go takes it along.
func (i *install) share(r *record, target string) {
	for _, other := range r.Installs {
		w := other.file(target)
		if w == nil || i.file(target) != nil {
			continue
		}
		i.Files = append(i.Files, *w)
		for _, dir := range other.Folders {
			if strings.HasPrefix(target, dir+string(filepath.Separator)) && !slices.Contains(i.Folders, dir) {
				i.Folders = append(i.Folders, dir)
			}
		}
	}
}

// noteFolders adds the folders that have to be made for a file.
func (i *install) noteFolders(dir string) {
	var missing []string
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		missing = append(missing, dir)
	}
	for _, dir := range slices.Backward(missing) {
		if !slices.Contains(i.Folders, dir) {
			i.Folders = append(i.Folders, dir)
		}
	}
}

// at is a list of files at the paths where they were written.
func (i install) at(list []file) []file {
	list = slices.Clone(list)
	for _, w := range i.Files {
		n := slices.IndexFunc(list, func(f file) bool { return f.role == w.Role })
		if n >= 0 {
			list[n].path = w.Path
		}
	}
	return list
}

func (r *record) find(client string, env Env, scope Scope) *install {
	n := slices.IndexFunc(r.Installs, func(i install) bool { return i.is(client, env, scope) })
	if n < 0 {
		return nil
	}
	return &r.Installs[n]
}

// clash makes sure that a client would not find duo twice: its hooks would run twice.
func (r *record) clash(client string, env Env, scope Scope) error {
	for _, i := range r.Installs {
		if i.Client != client || i.Scope == scope {
			continue
		}
		if _, err := os.Stat(i.Project); i.Project != "" && (err != nil || i.Project != env.Project) {
			continue // it is not there any more, or duo is used elsewhere
		}
		return api.Errorf(api.AlreadyInstalled, "duo is in %s already (%s): its hooks would run twice", all[client].title(), i).
			WithNext("duo uninstall %s --scope %s", client, i.Scope)
	}
	return nil
}

// shared reports whether another install has written a file too.
func (r *record) shared(path string, mine *install) bool {
	return slices.ContainsFunc(r.Installs, func(i install) bool {
		return (mine == nil || i.Client != mine.Client || i.Scope != mine.Scope || i.Project != mine.Project) &&
			slices.ContainsFunc(i.Files, func(w written) bool { return w.Path == path })
	})
}

func (r *record) put(i install) {
	r.drop(i)
	r.Installs = append(r.Installs, i)
}

func (r *record) drop(i install) {
	r.Installs = slices.DeleteFunc(r.Installs, func(other install) bool {
		return other.Client == i.Client && other.Scope == i.Scope && other.Project == i.Project
	})
}

func recordPath(dir string) string { return filepath.Join(dir, "installed.json") }

func readRecord(dir string) (*record, error) {
	data, err := os.ReadFile(recordPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return &record{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what was installed: %w", err)
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, refuse(recordPath(dir), err)
	}
	return &r, nil
}

const (
	lockWait  = 5 * time.Second // what is done under the lock takes milliseconds
	lockRetry = 10 * time.Millisecond
)

// lockRecord keeps other processes from changing the record, until unlock is called. The
// lock is on the folder, which may go with the record.
func lockRecord(dir string) (unlock func(), err error) {
	for end := time.Now().Add(lockWait); ; time.Sleep(lockRetry) {
		if err := durable.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
		f, err := os.Open(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("lock what was installed: %w", err)
		}
		locked, err := durable.TryLock(f)
		mine, statErr := f.Stat()
		there, lookErr := os.Stat(dir)
		if locked && statErr == nil && lookErr == nil && os.SameFile(mine, there) {
			return func() { f.Close() }, nil
		}
		_ = f.Close() // nothing was written
		if err == nil && time.Now().After(end) {
			err = errors.New("another duo install goes on")
		}
		if err != nil {
			return nil, fmt.Errorf("lock what was installed: %w", err)
		}
	}
}

// updateRecord changes the record. One without installs is removed.
func updateRecord(dir string, change func(*record)) error {
	unlock, err := lockRecord(dir)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := readRecord(dir)
	if err != nil {
		return err
	}
	change(r)
	if len(r.Installs) == 0 {
		if err := os.Remove(recordPath(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		_ = os.Remove(dir) // it stays where something else is in it
		return nil
	}
	return durable.ReplaceJSON(recordPath(dir), r, 0o600)
}
