package files

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/blob"
	"github.com/claude-duo/duo/maildir/envelope"
)

const (
	maxWants   = 20_000 // that one host may give
	maxSources = 16     // of one want
	hostPlaces = 4      // of one host among them
	wantAge    = 30 * 24 * time.Hour

	missingRest = 5 * time.Second
	laterRest   = 250 * time.Millisecond
	wrongRest   = time.Minute
	longestRest = time.Hour
	laterLimit  = 5 * time.Minute
	diskRest    = 30 * time.Second
	pushEvery   = time.Minute
)

// wants is what is mentioned here and has still to come, and who gets it from where. The
// records on disk are the truth: what stands here besides them is made again.
type wants struct {
	home   *maildir.Home
	store  *blob.Store
	logger *slog.Logger
	now    func() time.Time

	mu     sync.Mutex
	loaded bool
	all    map[string]*want
	from   map[string]int // how many, by host
	lines  map[*line]bool // the links that are up
	pause  time.Time      // nothing is asked for before: the disk took nothing
}

// want is a blob that has still to come.
type want struct {
	blob.Want
	line   *line // that gets it now
	part   int64 // bytes that are here
	by     giver
	single bool            // what several hosts gave was wrong: one has to give all of it
	urgent bool            // somebody has asked for it
	pushed time.Time       // when the hosts were to be asked anew for that reason
	hosts  map[string]*try // by host
}

// giver is who gave what is here of a blob.
type giver struct {
	host string // empty for none
	more bool   // others too, or nobody knows who
}

// try is how a host has answered.
type try struct {
	fails int // it has no such file, or gave a wrong one
	later int // it has the file not yet
	due   time.Time
}

func newWants(home *maildir.Home, store *blob.Store, logger *slog.Logger, now func() time.Time) *wants {
	return &wants{
		home: home, store: store, logger: logger, now: now,
		all: make(map[string]*want), from: make(map[string]int), lines: make(map[*line]bool),
	}
}

// load reads the records once. The lock is held.
func (ws *wants) load() {
	if ws.loaded {
		return
	}
	list, err := ws.store.Wanted()
	if err != nil {
		ws.logger.Warn("wanted files are not read", "path", ws.home.BlobsDir(), "err", err)
		return
	}
	ws.loaded = true
	for _, w := range list {
		if _, ok := ws.store.Has(w.SHA256); ok { // killed before the record went
			_ = ws.store.Forget(w.SHA256)
			continue
		}
		part, _ := ws.store.Part(w.SHA256)
		ws.put(&want{Want: w, part: part, by: giver{more: part > 0}})
	}
}

func (ws *wants) put(w *want) {
	w.hosts = make(map[string]*try)
	ws.all[w.SHA256] = w
	ws.count(w, 1)
}

func (ws *wants) drop(w *want) {
	delete(ws.all, w.SHA256)
	ws.count(w, -1)
}

func (ws *wants) count(w *want, n int) {
	for host := range w.givers() {
		if ws.from[host] += n; ws.from[host] == 0 {
			delete(ws.from, host)
		}
	}
}

// givers are the hosts that may have it.
func (w *want) givers() map[string]bool {
	hosts := make(map[string]bool)
	for _, s := range w.Sources {
		hosts[s.Host] = true
	}
	return hosts
}

// add notes, durably, that a host may have a blob that is not here. It changes nothing
// where the blob is here.
func (ws *wants) add(a envelope.Attachment, from blob.Source) error {
	from.Host = strings.ToLower(from.Host)
	if size, ok := ws.store.Has(a.SHA256); ok {
		return ws.store.Use(a.SHA256, size, ws.now())
	}
	if a.Size > ws.home.Config.Limits.Attachment { // it stays where it is
		return nil
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.load()
	w, known := ws.all[a.SHA256]
	if !known {
		w = &want{Want: blob.Want{SHA256: a.SHA256, Since: ws.now().UnixMilli()}}
	}
	noted := w.Want
	noted.Sources = withSource(w.Sources, from)
	noted.Size = max(w.Size, a.Size)
	if known && noted.Size == w.Size && slices.Equal(noted.Sources, w.Sources) {
		return nil
	}
	if !w.givers()[from.Host] && ws.from[from.Host] >= maxWants {
		ws.logger.Warn("too many files have still to come: one is not asked for", "peer", from.Host, "conv", from.Conversation)
		return nil
	}
	if err := ws.store.Note(noted); err != nil {
		return err
	}
	if known {
		ws.count(w, -1)
		w.Sources, w.Size = noted.Sources, noted.Size // the sum never changes, and links read it without the lock
		ws.count(w, 1)
	} else {
		w.Want = noted
		ws.put(w)
	}
	ws.wake()
	return nil
}

// withSource adds a source. The newest places of a host stay, so that it pushes out
// no other one's.
func withSource(list []blob.Source, s blob.Source) []blob.Source {
	if slices.Contains(list, s) {
		return list
	}
	list = slices.DeleteFunc(slices.Clone(list), func(o blob.Source) bool { // the same place, before it had a number
		return s.Seq > 0 && o == blob.Source{Host: s.Host, Conversation: s.Conversation}
	})
	own := 0
	for _, o := range list {
		if o.Host == s.Host {
			own++
		}
	}
	switch {
	case own >= hostPlaces:
		i := slices.IndexFunc(list, func(o blob.Source) bool { return o.Host == s.Host })
		list = slices.Delete(list, i, i+1)
	case len(list) >= maxSources:
		return list
	}
	return append(list, s)
}

// wake makes all links look for something to ask. The lock is held.
func (ws *wants) wake() {
	for l := range ws.lines {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

func (ws *wants) open(l *line) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.load()
	ws.lines[l] = true
}

func (ws *wants) close(l *line) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.lines, l)
	for _, w := range ws.all {
		if w.line == l {
			w.line = nil
		}
	}
	ws.wake()
}

// pick gives a link a blob to get, nil for none, and says when to look again at the
// latest, zero for when it is woken.
func (ws *wants) pick(l *line) (picked *want, again time.Time) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.load()
	now := ws.now()
	if now.Before(ws.pause) {
		return nil, ws.pause
	}
	if l.busy >= perLink || ws.from[l.host] == 0 {
		return nil, time.Time{}
	}
	for _, w := range ws.all {
		if w.line != nil || l.silent[w.SHA256] || len(w.places(l.host)) == 0 {
			continue
		}
		if t := w.hosts[l.host]; t != nil && now.Before(t.due) {
			if again.IsZero() || t.due.Before(again) {
				again = t.due
			}
			continue
		}
		if picked == nil || w.before(picked) {
			picked = w
		}
	}
	if picked == nil {
		return nil, again
	}
	picked.line = l
	l.busy++
	return picked, again
}

func (w *want) before(other *want) bool {
	if w.urgent != other.urgent {
		return w.urgent
	}
	return cmp.Or(cmp.Compare(w.Since, other.Since), cmp.Compare(w.SHA256, other.SHA256)) < 0
}

// tried counts how often a host has not given a blob.
func (w *want) tried(host string) int {
	if t := w.hosts[host]; t != nil {
		return t.fails + t.later
	}
	return 0
}

// places are the sources at a host.
func (w *want) places(host string) (list []blob.Source) {
	for _, s := range w.Sources {
		if s.Host == host {
			list = append(list, s)
		}
	}
	return list
}

func (w *want) try(host string) *try {
	t := w.hosts[host]
	if t == nil {
		t = &try{}
		w.hosts[host] = t
	}
	return t
}

// leave takes a blob from the link that gets it, so that another one may.
func (ws *wants) leave(w *want, l *line) {
	if w.line == l {
		w.line = nil
	}
	l.busy--
	ws.wake()
}

// absent notes that a host has not given a blob.
func (w *want) absent(host string, later bool, now time.Time) {
	t := w.try(host)
	if later {
		t.later++
		t.due = now.Add(rest(laterRest, t.later, laterLimit))
		return
	}
	t.fails++
	t.due = now.Add(rest(missingRest, t.fails, longestRest))
}

// wrong notes that what has come is not the blob.
func (w *want) wrong(host string, now time.Time) {
	w.single = w.single || w.by.more
	w.part, w.by = 0, giver{}
	t := w.try(host)
	t.fails++
	t.due = now.Add(rest(wrongRest, t.fails, longestRest))
}

// rest grows with each time, up to a limit, and is never the same.
func rest(first time.Duration, times int, limit time.Duration) time.Duration {
	d := first << min(times-1, 20)
	if d > limit || d <= 0 {
		d = limit
	}
	return d/2 + rand.N(d)
}

// gave notes who gave a piece.
func (g giver) gave(host string) giver {
	return giver{host: host, more: g.more || g.host != "" && g.host != host}
}

// sweep forgets what has come otherwise, what is mentioned nowhere any more, and what
// nobody has given anything of for long.
func (ws *wants) sweep(ctx context.Context) error {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.load()
	now := ws.now()
	for sum, w := range ws.all {
		if err := ctx.Err(); err != nil {
			return err
		}
		if w.line != nil || !ws.useless(w, now) {
			continue
		}
		if err := ws.store.Forget(sum); err != nil {
			return err
		}
		ws.drop(w)
	}
	return nil
}

func (ws *wants) useless(w *want, now time.Time) bool {
	if _, ok := ws.store.Has(w.SHA256); ok {
		return true
	}
	last := time.UnixMilli(w.Since)
	if _, at := ws.store.Part(w.SHA256); at.After(last) {
		last = at
	}
	if now.Sub(last) > wantAge {
		ws.logger.Info("file is not waited for any more", "path", w.SHA256)
		return true
	}
	return now.Sub(last) > unused && !slices.ContainsFunc(w.Sources, ws.stands)
}

// stands reports whether what mentions a blob is there still.
func (ws *wants) stands(s blob.Source) bool {
	if s.Conversation == "" {
		return true // calls go by themselves, and their files with the age
	}
	_, err := os.Lstat(ws.home.LogPath(s.Conversation))
	return !errors.Is(err, fs.ErrNotExist)
}

// state describes how far a blob has come, and from where. Somebody waits for it: so it
// comes before others, and who had no answer to give is asked again.
func (ws *wants) state(sum string) (text string, soon, ok bool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.load()
	w, ok := ws.all[sum]
	if !ok {
		return "", false, false
	}
	w.urgent = true
	if now := ws.now(); now.Sub(w.pushed) >= pushEvery {
		w.pushed = now
		for _, t := range w.hosts {
			t.due = now
		}
	}
	ws.wake()
	share := fmt.Sprintf("%s of %s", kib(w.part), kib(w.Size))
	if w.line != nil {
		return "is on its way from " + w.line.host + ": " + share, true, true
	}
	var linked, away []string
	for host := range w.givers() {
		if slices.ContainsFunc(ws.linked(), func(h string) bool { return h == host }) {
			linked = append(linked, host)
		} else {
			away = append(away, host)
		}
	}
	slices.Sort(linked)
	slices.Sort(away)
	if len(linked) > 0 {
		return "is awaited from " + strings.Join(linked, ", ") + ": " + share, true, true
	}
	return "waits for a link to " + strings.Join(away, ", ") + ": " + share, false, true
}

func (ws *wants) linked() (hosts []string) {
	for l := range ws.lines {
		hosts = append(hosts, l.host)
	}
	return hosts
}

func kib(n int64) string {
	if n < 10<<10 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}
