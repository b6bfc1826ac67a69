package clients

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/rogpeppe/go-internal/diff"
)

const (
	maxFile   = 16 << 20 // of a client's file
	backupEnd = ".duo-bak"
)

// Plan is what would be done to one client.
type Plan struct {
	Client   string
	Title    string
	Scope    Scope
	Way      string // "plugin" or "files"
	Changes  []Change
	Commands [][]string
	Notes    []string // what the user has to know or do

	env     Env
	install install // to be recorded, or what was
	undo    bool
	keep    []string // files that get their text back after the commands
	forgets bool     // there is a record to be taken out
}

// Change is what happens to one file. Nil stands for no file.
type Change struct {
	Path     string
	Old, New []byte

	target  string // Path without links
	mode    fs.FileMode
	info    fs.FileInfo // nil for no file
	role    string
	content content
	made    []string
}

// Own reports whether the file is duo's alone.
func (c Change) Own() bool {
	_, own := c.content.(whole)
	return own
}

// Diff is the change as a unified diff, with the line ends of other systems left out.
func (c Change) Diff() string {
	clean := func(text []byte) []byte { return bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")) }
	text := string(diff.Diff(c.Path, clean(c.Old), c.Path, clean(c.New)))
	_, text, _ = strings.Cut(text, "\n") // the first line repeats the path
	return text
}

// Empty reports whether there is nothing to do.
func (p *Plan) Empty() bool { return len(p.Changes) == 0 && len(p.Commands) == 0 && !p.forgets }

// Install plans to put duo into a client. Where files is true, it is written into the
// client's files even where the client has a command for it.
func Install(env Env, name string, scope Scope, files bool) (*Plan, error) {
	c := all[name]
	record, err := readRecord(env.Dir)
	if err != nil {
		return nil, err
	}
	if err := record.clash(name, env, scope); err != nil {
		return nil, err
	}
	was := record.find(name, env, scope)
	if was != nil && env.Outbox == "" {
		env.Outbox = was.Outbox
	}
	p := &Plan{Client: name, Title: c.title(), Scope: scope, Way: wayFiles, Notes: c.notes(env, scope), env: env}
	list := c.files(env, scope)
	if plugin := c.plugin(env); plugin != nil && scope == User && !files && (was == nil && has(c) || was != nil && was.Way == wayPlugin) {
		p.Way, list, p.Commands, p.keep = wayPlugin, plugin.files, plugin.in, plugin.keep
	}
	p.install = install{Client: name, Scope: scope, Project: projectOf(env, scope), Way: p.Way}
	if was != nil {
		p.install = was.clone()
	}
	p.install.Outbox = env.Outbox
	for _, f := range list {
		if err := p.put(f, record); err != nil {
			return nil, refuse(f.path, err)
		}
	}
	if was != nil && len(p.Changes) == 0 && !was.Begun {
		p.Commands = nil // it was let in before
	}
	p.install.Begun = len(p.Commands) > 0
	return p, nil
}

func projectOf(env Env, scope Scope) string {
	if scope == Project {
		return env.Project
	}
	return ""
}

// put plans what happens to one file when duo is installed.
func (p *Plan) put(f file, record *record) error {
	change, err := look(f)
	if err != nil {
		return err
	}
	if change.New, change.made, err = f.content.put(change.Old); err != nil {
		return err
	}
	if change.Old != nil && bytes.Equal(change.Old, change.New) {
		p.install.share(record, change.target)
		return nil
	}
	if err := change.writable(); err != nil {
		return err
	}
	p.Changes = append(p.Changes, change)
	p.install.note(change)
	return nil
}

// look reads a file as it is now.
func look(f file) (Change, error) {
	change := Change{Path: f.path, target: withoutLinks(f.path), mode: 0o600, role: f.role, content: f.content}
	if _, err := os.Lstat(f.path); errors.Is(err, fs.ErrNotExist) {
		return change, nil
	}
	target, err := filepath.EvalSymlinks(f.path)
	if err != nil {
		return change, fmt.Errorf("follow link: %w", err)
	}
	change.target = target
	info, err := os.Stat(target)
	switch {
	case err != nil:
		return change, err
	case !info.Mode().IsRegular():
		return change, errors.New("it is no plain file")
	case info.Size() > maxFile:
		return change, fmt.Errorf("it has %d bytes, want at most %d", info.Size(), maxFile)
	}
	change.mode, change.info = info.Mode().Perm(), info
	change.Old, err = os.ReadFile(target)
	if change.Old == nil {
		change.Old = []byte{}
	}
	return change, err
}

// withoutLinks is the path of a file that is not there, as it will be when it is.
func withoutLinks(path string) string {
	dir := filepath.Dir(path)
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	} else if dir != path {
		dir = withoutLinks(dir)
	}
	return filepath.Join(dir, filepath.Base(path))
}

// writable makes sure that the owner of the file lets it be written: the folder alone
// decides whether it can be replaced.
func (c Change) writable() error {
	switch {
	case c.Old == nil:
		return nil
	case c.mode&0o200 == 0:
		return errors.New("it is read-only")
	case !durable.OwnedBySelf(c.info) && os.Geteuid() != 0:
		return errors.New("it belongs to another user")
	}
	return nil
}

func refuse(path string, err error) error {
	return api.Errorf(api.BadConfig, "%s: %w", path, err).WithNext("cat %s", frame.ShellWord(path))
}

// Uninstall plans to take duo out of a client.
func Uninstall(env Env, name string, scope Scope) (*Plan, error) {
	c := all[name]
	record, err := readRecord(env.Dir)
	if err != nil {
		return nil, err
	}
	was := record.find(name, env, scope)
	if was != nil {
		env.Outbox = was.Outbox
	}
	p := &Plan{Client: name, Title: c.title(), Scope: scope, Way: wayFiles, env: env, undo: true}
	list := c.files(env, scope)
	if plugin := c.plugin(env); plugin != nil && was != nil && was.Way == wayPlugin {
		p.Way, list, p.keep = wayPlugin, plugin.files, plugin.keep
		if has(c) {
			p.Commands = plugin.out
		}
	}
	if was != nil {
		p.install, p.forgets = *was, true
		list = was.at(list)
	}
	for _, f := range list {
		if record.shared(f.path, was) {
			continue
		}
		if err := p.take(f); err != nil {
			return nil, refuse(f.path, err)
		}
	}
	return p, nil
}

// take plans what happens to one file when duo is taken out.
func (p *Plan) take(f file) error {
	change, err := look(f)
	if err != nil || change.Old == nil {
		return err
	}
	was := p.install.file(change.target)
	if change.New, err = without(change, was, change.Old); err != nil {
		return err
	}
	if change.New != nil && bytes.Equal(change.Old, change.New) {
		if change.Own() {
			p.Notes = append(p.Notes, change.Path+" was edited and stays")
		}
		return nil
	}
	if err := change.writable(); err != nil {
		return err
	}
	p.Changes = append(p.Changes, change)
	return nil
}

// without is the text of a file without what is ours: what it was before where nobody has
// edited it since.
func without(c Change, was *written, text []byte) ([]byte, error) {
	untouched := was != nil && was.After == sum(text) && !was.Edited
	switch {
	case untouched && was.Created:
		return nil, nil
	case untouched && was.Before != "":
		if backup, err := os.ReadFile(c.target + backupEnd); err == nil && sum(backup) == was.Before {
			return backup, nil
		}
	}
	var made []string
	if was != nil {
		made = append([]string{}, was.Made...)
	}
	left, err := c.content.take(text, made)
	if err != nil {
		return nil, err
	}
	if was != nil && was.Created && c.content.empty(left) {
		return nil, nil
	}
	return left, nil
}

func sum(text []byte) string {
	hash := sha256.Sum256(text)
	return hex.EncodeToString(hash[:])
}
