// Package watch notices that files of a home may have changed. What it tells is a
// hint: events get lost and arrive twice, so whoever is told looks at the folder.
// After an overflow or an error it tells to look at everything, and from time to time
// that a look would do no harm.
package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/fsnotify/fsnotify"
)

// Hints receives what may have changed. Its methods return at once.
type Hints interface {
	Agent(name string)       // an agent's folder may have come, gone or lost a folder
	Outbox(agent string)     // a drop may have come
	Inbox(agent string)      // an item may have been read
	Log(conversation string) // a log may have grown
	Everything()             // anything: look at agents, folders and logs
	Routine()                // nothing that is known: from time to time, look at some of that
}

// Watcher watches one home.
type Watcher struct {
	home    *maildir.Home
	hints   Hints
	logger  *slog.Logger
	polling atomic.Bool
	failed  atomic.Int64

	mu sync.Mutex
	fs *fsnotify.Watcher // nil while polling
}

// New returns a watcher; Run starts it.
func New(home *maildir.Home, hints Hints, logger *slog.Logger) *Watcher {
	return &Watcher{home: home, hints: hints, logger: logger}
}

// Polling reports whether events do not work here, so that the watcher looks at
// everything at short intervals.
func (w *Watcher) Polling() bool { return w.polling.Load() }

// Failures counts how often events were lost.
func (w *Watcher) Failures() int { return int(w.failed.Load()) }

// Start begins to watch. After it returned, changes are noticed.
func (w *Watcher) Start() error {
	if reason := w.cannotWatch(); reason != "" {
		w.poll(reason)
		return nil
	}
	events, err := fsnotify.NewBufferedWatcher(4096)
	if err != nil {
		w.poll(err.Error())
		return nil
	}
	w.mu.Lock()
	w.fs = events
	w.mu.Unlock()
	for _, dir := range []string{w.home.AgentsDir(), w.home.ConversationsDir()} {
		if err := events.Add(dir); err != nil {
			return errors.Join(fmt.Errorf("watch %q: %w", dir, err), events.Close())
		}
	}
	return nil
}

func (w *Watcher) cannotWatch() string {
	if w.home.Config.Watch.Poll {
		return "watch.poll is set"
	}
	kind, err := durable.Remote(w.home.Dir)
	if err != nil {
		return err.Error()
	}
	if kind != "" {
		return kind + " does not tell of changes and its locks are not reliable; move the home to a local disk"
	}
	return ""
}

func (w *Watcher) poll(reason string) {
	if !w.polling.Swap(true) {
		w.logger.Warn("polling instead of watching", "path", w.home.Dir, "err", reason)
	}
}

// Agent watches the folders of an agent, again where they were made anew.
func (w *Watcher) Agent(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fs == nil {
		return
	}
	for _, sub := range []string{mailbox.OutboxNew, mailbox.InboxNew} {
		dir := filepath.Join(w.home.AgentDir(name), sub)
		err := w.fs.Add(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, fsnotify.ErrClosed) {
			w.poll(fmt.Sprintf("watch %q: %v", dir, err)) // the limit of watches is reached
		}
	}
}

// Run passes on what happens until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	var events <-chan fsnotify.Event
	var failures <-chan error
	if w.fs != nil {
		events, failures = w.fs.Events, w.fs.Errors
		defer w.fs.Close()
	}
	tick := time.NewTimer(w.interval())
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-events:
			if !ok {
				events = nil
				w.poll("the watcher has ended")
				continue
			}
			w.event(e)
		case err, ok := <-failures:
			if !ok {
				failures = nil
				continue
			}
			w.failed.Add(1)
			w.logger.Warn("watcher lost events, reading everything", "err", err)
			w.hints.Everything()
		case <-tick.C:
			if w.Polling() {
				w.hints.Everything()
			} else {
				w.hints.Routine()
			}
			tick.Reset(w.interval())
		}
	}
}

func (w *Watcher) interval() time.Duration {
	if w.Polling() {
		return w.home.Config.Watch.Every.Duration
	}
	return w.home.Config.Watch.Rescan.Duration
}

// event sorts one event by the folder that it happened in.
func (w *Watcher) event(e fsnotify.Event) {
	if e.Op == fsnotify.Chmod {
		return
	}
	dir, name := filepath.Split(e.Name)
	if strings.HasPrefix(name, ".") {
		return
	}
	switch dir = filepath.Clean(dir); {
	case dir == w.home.ConversationsDir():
		if id, ok := maildir.LogID(name); ok {
			w.hints.Log(id)
		}
	case dir == w.home.AgentsDir():
		w.hints.Agent(name)
	default:
		w.agentEvent(e, dir)
	}
}

func (w *Watcher) agentEvent(e fsnotify.Event, dir string) {
	rest, ok := strings.CutPrefix(dir, w.home.AgentsDir()+string(filepath.Separator))
	if !ok {
		return
	}
	agent, sub, _ := strings.Cut(rest, string(filepath.Separator))
	switch filepath.ToSlash(sub) {
	case mailbox.OutboxNew:
		w.hints.Outbox(agent)
	case mailbox.InboxNew:
		if e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename) {
			w.hints.Inbox(agent)
		}
	default: // a watched folder itself went away
		w.hints.Agent(agent)
	}
}
