package switchboard

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
)

const (
	maxRecord  = 4 * envelope.MaxLine
	maxDone    = 10_000 // requests of this host that are kept when they are done
	maxDoneFar = 256    // of another host
	doneFor    = 90 * 24 * time.Hour
)

// records are the files of requests: those of which something can still come in open,
// the others in done. Copies of the requests of other hosts are in folders of the same
// names in far, for each host.
type records struct {
	dir string

	mu   sync.Mutex
	kept map[string][]kept // those that are done, by where they are, the oldest first
	host map[string]string // where one that is done is, by id; none for those of this host
}

// kept is a record that is done.
type kept struct {
	id string
	at time.Time // when it was
}

func (r *records) openIn(dir string, now time.Time) (ids []string, err error) {
	r.dir, r.kept, r.host = dir, make(map[string][]kept), make(map[string]string)
	for _, folder := range []string{"open", "done"} {
		if err := durable.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			return nil, fmt.Errorf("open records of calls: %w", err)
		}
	}
	hosts, err := r.hosts()
	if err != nil {
		return nil, err
	}
	for _, at := range hosts {
		for _, folder := range []string{"open", "done"} {
			list, err := r.openFolder(filepath.Join(at, folder))
			if err != nil {
				return nil, err
			}
			ids = append(ids, list...)
		}
		r.keep(at)
		old, err := r.drop(at, now)
		if err != nil {
			return nil, err
		}
		ids = slices.DeleteFunc(ids, func(id string) bool { return slices.Contains(old, id) })
	}
	return ids, nil
}

func (r *records) openFolder(folder string) (ids []string, err error) {
	if err := maildir.RemoveTemps(filepath.Join(r.dir, folder)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open records of calls: %w", err)
	}
	return r.list(folder)
}

// hosts lists where records are: "" for those of this host, then folders of copies.
func (r *records) hosts() ([]string, error) {
	hosts := []string{""}
	entries, err := os.ReadDir(filepath.Join(r.dir, "far"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open records of calls: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() && envelope.CheckHost(e.Name()) == nil {
			hosts = append(hosts, filepath.Join("far", e.Name()))
		}
	}
	return hosts, nil
}

// keep remembers which records are done, in the order in which they were.
func (r *records) keep(at string) {
	entries, _ := os.ReadDir(filepath.Join(r.dir, at, "done")) // without them it only takes longer until they go
	var list []kept
	for _, e := range entries {
		info, err := e.Info()
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if _, noID := envelope.ParseID(id); ok && noID == nil && err == nil {
			list = append(list, kept{id, info.ModTime()})
		}
	}
	slices.SortFunc(list, func(a, b kept) int { return a.at.Compare(b.at) })
	r.kept[at] = list
	if at == "" {
		return
	}
	for _, k := range list {
		r.host[k.id] = at
	}
}

// drop removes the records that are done for too long, or are too many, and returns their
// ids. The caller holds the lock, or is the only one there.
func (r *records) drop(at string, now time.Time) (gone []string, err error) {
	most := maxDoneFar
	if at == "" {
		most = maxDone
	}
	for list := r.kept[at]; len(list) > most || len(list) > 0 && now.Sub(list[0].at) > doneFor; list = r.kept[at] {
		id := list[0].id
		if err := os.Remove(r.path(filepath.Join(at, "done"), id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return gone, fmt.Errorf("remove record of a call: %w", err)
		}
		r.kept[at] = list[1:]
		delete(r.host, id)
		gone = append(gone, id)
	}
	return gone, nil
}

// folderOf is the folder of a record.
func folderOf(r call.Request, folder string) string {
	if r.Far == nil {
		return folder
	}
	return filepath.Join("far", r.From.Host, folder)
}

func (r *records) path(folder, id string) string { return filepath.Join(r.dir, folder, id+".json") }

func (r *records) list(folder string) (ids []string, err error) {
	f, err := os.Open(filepath.Join(r.dir, folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list records of calls: %w", err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list records of calls: %w", err)
	}
	for _, name := range names {
		stem, ok := strings.CutSuffix(name, ".json")
		if id, err := envelope.ParseID(stem); ok && err == nil && id == stem {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// loadOpen reads the records in open, oldest first, and says which cannot be read.
func (r *records) loadOpen() (requests []call.Request, bad map[string]error) {
	bad = make(map[string]error)
	hosts, err := r.hosts()
	if err != nil {
		bad[r.dir] = err
	}
	for _, at := range hosts {
		folder := filepath.Join(at, "open")
		ids, err := r.list(folder)
		if err != nil {
			bad[filepath.Join(r.dir, folder)] = err
		}
		for _, id := range ids {
			request, err := r.read(folder, id)
			if err == nil && folderOf(request, "open") != folder {
				err = errors.New("it is of another host")
			}
			if err != nil {
				bad[r.path(folder, id)] = err
				continue
			}
			requests = append(requests, request)
		}
	}
	sortByTime(requests)
	return requests, bad
}

func sortByTime(list []call.Request) {
	slices.SortFunc(list, func(a, b call.Request) int {
		return cmp.Or(cmp.Compare(a.CreatedAt, b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
}

func (r *records) read(folder, id string) (call.Request, error) {
	data, err := durable.ReadPlain(r.path(folder, id), maxRecord)
	if err != nil {
		return call.Request{}, err
	}
	var request call.Request
	if err = json.Unmarshal(data, &request); err == nil && request.ID != id {
		err = fmt.Errorf("the id is %q, want that of the file", request.ID)
	}
	return request, err
}

// done reads a record that is put away.
func (r *records) done(id string) (call.Request, error) {
	r.mu.Lock()
	at := r.host[id]
	r.mu.Unlock()
	return r.read(filepath.Join(at, "done"), id)
}

// ended lists the records that are done, the last one first.
func (r *records) ended() []string {
	r.mu.Lock()
	all := slices.Concat(slices.Collect(maps.Values(r.kept))...)
	r.mu.Unlock()
	slices.SortStableFunc(all, func(a, b kept) int { return b.at.Compare(a.at) })
	ids := make([]string, len(all))
	for i, k := range all {
		ids[i] = k.id
	}
	return ids
}

// put writes a record into open, durably.
func (r *records) put(request call.Request) error {
	if request.Far != nil {
		for _, folder := range []string{"open", "done"} {
			if err := durable.MkdirBelow(r.dir, filepath.Join(r.dir, folderOf(request, folder)), 0o700); err != nil {
				return fmt.Errorf("write copy of a call: %w", err)
			}
		}
	}
	return r.write(folderOf(request, "open"), request)
}

func (r *records) write(folder string, request call.Request) error {
	data, err := json.Marshal(request)
	if err == nil {
		err = durable.Replace(r.path(folder, request.ID), append(data, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write record of a call: %w", err)
	}
	return nil
}

// finish moves a record from open to done. A crash that undoes this leaves a record
// that is finished again. It returns the ids of older ones, which are gone now.
func (r *records) finish(request call.Request, now time.Time) (gone []string, err error) {
	id := request.ID
	err = os.Rename(r.path(folderOf(request, "open"), id), r.path(folderOf(request, "done"), id))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("finish record of a call: %w", err)
	}
	at := folderOf(request, "")
	r.mu.Lock()
	defer r.mu.Unlock()
	if at != "" {
		r.host[id] = at
	}
	r.kept[at] = append(r.kept[at], kept{id, now})
	return r.drop(at, now)
}
