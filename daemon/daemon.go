// Package daemon is one living host. It only wires: the parts below it do the work,
// and Run says who starts them and in which order they end.
//
//	watch ──hints──▶ queues ──▶ router.Drain, router.Adopt, ledger.Refresh, deliver.InboxChanged
//	httpd ─────────────────────▶ router.Accept, desk, deliver.Attach
//	                               │
//	                             ledger ──Committed──▶ deliver, bus
package daemon

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/bus"
	"github.com/claude-duo/duo/daemon/deliver"
	"github.com/claude-duo/duo/daemon/desk"
	"github.com/claude-duo/duo/daemon/httpd"
	"github.com/claude-duo/duo/daemon/index"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/roster"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/daemon/watch"
	"github.com/claude-duo/duo/daemon/work"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Options are settings of a daemon; only Dir is needed.
type Options struct {
	Dir    string          // of the home, made where it is missing
	Logger *slog.Logger    // default: none
	Ready  func()          // called when requests are answered
	Log    convlog.Options // for tests: the clock, and how lines are made durable
}

// host is a running daemon.
type host struct {
	home    *maildir.Home
	logger  *slog.Logger
	started time.Time
	stop    context.CancelFunc

	index   *index.Index
	ledger  *ledger.Ledger
	roster  *roster.Roster
	deliver *deliver.Deliverer
	router  *router.Router
	desk    *desk.Desk
	watcher *watch.Watcher
	bus     *bus.Bus

	grown   *work.Queue // conversations: lines to deliver
	raw     *work.Queue // conversations: lines to adopt
	logs    *work.Queue // conversations: the file may have changed
	drops   *work.Queue // agents: the outbox may have changed
	inboxes *work.Queue // agents: the inbox may have changed
	folders *work.Queue // agents: the folder may have changed
	sweeps  *work.Queue // anything may have changed
	swept   time.Time   // when the last sweep began; of the sweeps worker
}

// Run runs the daemon of a home until ctx ends, and stops it in order: first the
// doors, then what writes, then what delivers, then the files. It returns an error
// that is maildir.ErrRunning where the home has a daemon already.
func Run(ctx context.Context, opts Options) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	h := &host{logger: opts.Logger, started: time.Now(), stop: stop}
	if h.logger == nil {
		h.logger = slog.New(slog.DiscardHandler)
	}
	home, err := maildir.Init(opts.Dir)
	if err != nil {
		return err
	}
	h.home = home
	release, err := home.LockDaemon()
	if err != nil {
		return err
	}
	defer release() //nolint:errcheck // the process ends here, and the lock with it
	if err := h.open(opts); err != nil {
		return err
	}
	defer h.close()
	listener, err := httpd.Listen(home)
	if err != nil {
		return err
	}
	if err := os.WriteFile(home.PidPath(), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		h.logger.Warn("pid is not written", "path", home.PidPath(), "err", err) // a full disk is no reason not to run
	}
	defer os.Remove(home.PidPath()) //nolint:errcheck // a pid file that is left behind is checked by its reader
	return h.run(ctx, listener, opts.Ready)
}

// open makes the parts, from the bottom up.
func (h *host) open(opts Options) error {
	x, fresh, err := index.Open(h.home.IndexPath())
	if err != nil {
		h.logger.Warn("index is kept in memory", "path", h.home.IndexPath(), "err", err)
		if x, err = index.OpenMemory(); err != nil {
			return err
		}
	}
	if fresh {
		h.logger.Warn("index was damaged and is made again", "path", h.home.IndexPath())
	}
	h.index = x
	h.bus = bus.New()
	for _, q := range []**work.Queue{&h.grown, &h.raw, &h.logs, &h.drops, &h.inboxes, &h.folders, &h.sweeps} {
		*q = work.New()
	}
	h.ledger, err = ledger.Open(h.home, x, follower{h}, ledger.Options{
		Log: opts.Log, MaxMembers: h.home.Config.Limits.Participants, Logger: h.logger,
	})
	if err != nil {
		return errors.Join(err, x.Close())
	}
	h.roster = roster.New(h.home)
	h.deliver = deliver.New(h.home, h.ledger, h.bus, h.grown, h.logger)
	h.router = router.New(h.home, h.ledger, h.roster, h.deliver, h.logger)
	h.desk = desk.New(h.home, h.ledger, h.deliver, h.roster)
	h.watcher = watch.New(h.home, hints{h}, h.logger)
	return nil
}

func (h *host) close() {
	h.ledger.Close()
	if err := h.index.Close(); err != nil {
		h.logger.Warn("index does not close", "err", err)
	}
}

// follower is told by the ledger what is on disk.
type follower struct{ *host }

func (f follower) Committed(conversation string, present []envelope.Address) {
	f.grown.Add(conversation) // before the bus: a stream that comes in between finds it in the queue
	f.bus.Publish(conversation, present)
}

func (f follower) Raw(conversation string) { f.raw.Add(conversation) }

// run starts what runs and waits for it. Each stage ends after the one before it.
func (h *host) run(ctx context.Context, listener net.Listener, ready func()) error {
	if err := h.watcher.Start(); err != nil {
		return errors.Join(err, listener.Close())
	}
	doors := newStage(ctx)
	writers := newStage(context.WithoutCancel(ctx))
	followers := newStage(context.WithoutCancel(ctx))

	followers.run(func(ctx context.Context) error { return h.deliver.Run(ctx) })
	writers.queue(h.drops, 16, func(ctx context.Context, name string) { h.router.Drain(ctx, name, h.drops) })
	writers.queue(h.raw, 2, func(ctx context.Context, id string) { h.router.Adopt(ctx, id, h.raw) })
	writers.queue(h.logs, 2, h.refresh)
	writers.queue(h.inboxes, 2, func(_ context.Context, name string) { h.deliver.InboxChanged(name) })
	writers.queue(h.folders, 2, h.refreshAgent)
	writers.queue(h.sweeps, 1, h.sweep)
	writers.run(h.checkpoints)
	doors.run(h.watcher.Run)
	h.sweepAtStart(ctx)

	server := httpd.New(httpd.Parts{
		Home: h.home, Ledger: h.ledger, Router: h.router, Deliver: h.deliver, Desk: h.desk,
		Roster: h.roster, Logger: h.logger, Status: h.status, Stop: h.stop,
	})
	doors.run(func(ctx context.Context) error { return server.Serve(ctx, listener) })
	h.logger.Info("daemon runs", "path", h.home.Dir, "host", h.home.Host.Name, "socket", h.home.SocketPath(), "took", time.Since(h.started))
	if ready != nil {
		ready()
	}
	<-doors.ctx.Done()
	h.logger.Info("daemon stops")
	h.deliver.Ending()
	return errors.Join(doors.end(), writers.end(), followers.end())
}

// stage is a group of goroutines that end together. The first error ends the stage.
type stage struct {
	ctx    context.Context
	cancel context.CancelFunc
	all    sync.WaitGroup
	mu     sync.Mutex
	errs   []error
}

func newStage(ctx context.Context) *stage {
	s := &stage{}
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s
}

func (s *stage) run(f func(context.Context) error) {
	s.all.Go(func() {
		if err := f(s.ctx); err != nil {
			s.mu.Lock()
			s.errs = append(s.errs, err)
			s.mu.Unlock()
			s.cancel()
		}
	})
}

func (s *stage) queue(q *work.Queue, workers int, look func(context.Context, string)) {
	s.run(func(ctx context.Context) error {
		q.Run(ctx, workers, look)
		return nil
	})
}

func (s *stage) end() error {
	s.cancel()
	s.all.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.errs...)
}

const checkpointEvery = 2 * time.Second

// checkpoints keeps the index near what the logs have come to, and ends a daemon whose
// home was deleted.
func (h *host) checkpoints(ctx context.Context) error {
	tick := time.NewTicker(checkpointEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if _, err := os.Stat(h.home.RunDir()); errors.Is(err, fs.ErrNotExist) {
				h.logger.Error("home is gone", "path", h.home.Dir)
				h.stop()
				return nil
			}
			h.ledger.Checkpoint()
		}
	}
}

func (h *host) status() api.Status {
	s := api.Status{
		Version: Version(), PID: os.Getpid(), StartedAt: h.started.UnixMilli(), Home: h.home.Dir,
		Host: h.home.Host.Name, HostID: h.home.Host.ID, Agents: h.roster.Len(), Conversations: h.ledger.Refs().Len(),
		Watching: "events", Streams: h.deliver.Streams(), Drops: h.drops.Len(),
	}
	if h.watcher.Polling() {
		s.Watching = "polling"
	}
	return s
}

// Version is the version of the program, as the build has noted it.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}
