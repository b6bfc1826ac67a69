// Package daemon is one living host. It only wires: the parts below it do the work,
// and Run says who starts them and in which order they end.
//
//	watch ──hints──▶ queues ──▶ router.Drain, router.Adopt, ledger.Refresh, deliver.InboxChanged
//	httpd ─────────────────────▶ router.Accept, desk, deliver.Attach
//	                               │
//	peers ──▶ copies ──────────▶ ledger ──Committed──▶ deliver, bus, copies ──▶ peers
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/auth"
	"github.com/claude-duo/duo/daemon/away"
	"github.com/claude-duo/duo/daemon/bus"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/copies"
	"github.com/claude-duo/duo/daemon/courier"
	"github.com/claude-duo/duo/daemon/deliver"
	"github.com/claude-duo/duo/daemon/desk"
	"github.com/claude-duo/duo/daemon/files"
	"github.com/claude-duo/duo/daemon/httpd"
	"github.com/claude-duo/duo/daemon/index"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/mcpserver"
	"github.com/claude-duo/duo/daemon/neighbors"
	"github.com/claude-duo/duo/daemon/operator"
	"github.com/claude-duo/duo/daemon/presence"
	"github.com/claude-duo/duo/daemon/roster"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/daemon/search"
	"github.com/claude-duo/duo/daemon/standing"
	"github.com/claude-duo/duo/daemon/switchboard"
	"github.com/claude-duo/duo/daemon/waker"
	"github.com/claude-duo/duo/daemon/watch"
	"github.com/claude-duo/duo/daemon/web"
	"github.com/claude-duo/duo/daemon/work"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/relay"
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
	place   *place
	logger  *slog.Logger
	started time.Time
	stop    context.CancelFunc

	index       *index.Index
	ledger      *ledger.Ledger
	roster      *roster.Roster
	deliver     *deliver.Deliverer
	router      *router.Router
	presence    *presence.Book
	auth        *auth.Keeper
	switchboard *switchboard.Switchboard
	waker       *waker.Waker
	desk        *desk.Desk
	operator    *operator.Operator
	files       *files.Keeper
	copies      *copies.Service
	courier     *courier.Courier
	neighbors   *neighbors.Neighbors
	exchange    *files.Exchange // of files with other hosts
	peers       *peer.Manager
	relay       *relay.Relay
	away        *away.Giver
	watcher     *watch.Watcher
	bus         *bus.Bus
	search      *search.Index

	grown   *work.Queue        // conversations: lines to deliver
	raw     *work.Queue        // conversations: lines to adopt
	logs    *work.Queue        // conversations: the file may have changed
	drops   *work.Queue        // agents: the outbox may have changed
	inboxes *work.Queue        // agents: the inbox may have changed
	folders *work.Queue        // agents: the folder may have changed
	sweeps  *work.Queue        // anything may have changed
	looks   *looks             // of the sweeps
	listing *looks             // at the folder of the logs
	listed  []string           // the logs that were there
	turns   [logParts][]string // the same by turns
	counts  *counts

	arrived sync.Map // names of folders: agents who have what was imported before they were there
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
	if h.place, err = takePlace(home); err != nil {
		return err
	}
	defer h.place.close()
	if err := durable.CheckRegular(home.PidPath()); err != nil {
		return fmt.Errorf("write pid: %w; remove it", err)
	}
	if err := h.open(opts); err != nil {
		return err
	}
	defer h.close()
	socket, err := httpd.Listen(home)
	if err != nil {
		return err
	}
	h.writePid()
	defer h.removePid()
	return h.run(ctx, socket, opts.Ready)
}

func (h *host) writePid() {
	if err := os.WriteFile(h.home.PidPath(), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		h.logger.Warn("pid is not written", "path", h.home.PidPath(), "err", err) // a full disk is no reason not to run
	}
}

// removePid leaves the file alone where it may be another daemon's by now.
func (h *host) removePid() {
	if h.place.lost() == nil {
		_ = os.Remove(h.home.PidPath()) // one that is left behind is checked by its reader
	}
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
	h.looks, h.listing, h.counts = newLooks(), newLooks(), newCounts()
	opts.Log.Sync = h.counts.timed(opts.Log.Sync)
	h.bus = bus.New()
	for _, q := range []**work.Queue{&h.grown, &h.raw, &h.logs, &h.drops, &h.inboxes, &h.folders, &h.sweeps} {
		*q = work.New()
	}
	g, err := h.glance()
	if err != nil {
		return errors.Join(err, x.Close())
	}
	defer g.close()
	h.listLogs(g, true)
	h.ledger, err = ledger.Open(h.home, x, follower{h}, ledger.Options{
		Log: opts.Log, Limits: h.limits(), Logger: h.logger, Listed: h.listed,
	})
	if err != nil {
		return errors.Join(err, x.Close())
	}
	h.search = search.New(search.Parts{
		Home: h.home, Durable: h.ledger.Durable, Last: h.lastLine, Ref: h.ledger.Refs().Short, Logger: h.logger,
	})
	h.copies = copies.New(copies.Parts{Home: h.home, Ledger: h.ledger, Logger: h.logger})
	h.roster = roster.New(h.home)
	h.deliver = deliver.New(h.home, h.ledger, h.bus, h.grown, h.logger)
	h.deliver.Count(h.counts)
	h.deliver.Remember(x)
	h.presence = presence.New(h.home, x, time.Now, presence.Hooks{Changed: h.presenceChanged, Lost: h.lost}, h.logger)
	h.router = router.New(h.home, h.ledger, h.roster, h.deliver, h.presence, h.logger)
	h.switchboard, err = switchboard.New(switchboard.Parts{
		Home: h.home, Ledger: h.ledger, Router: h.router, Deliver: h.deliver, Presence: h.presence,
		Observed: func(e *envelope.Envelope) { h.bus.Notify(e) }, Logger: h.logger, Now: time.Now,
		Far: h.roster.Far, Typing: h.typing,
		Wanted: func(host, request string, list []envelope.Attachment) error {
			return h.files.WantedOfCall(host, request, list)
		},
	})
	if err != nil {
		return errors.Join(err, x.Close())
	}
	h.router.Connect(h.switchboard, func(e *envelope.Envelope, to []envelope.Address) {
		h.typing(e, to)
		h.switchboard.PassTyping(e)
	})
	h.router.Count(h.counts)
	h.files = files.New(h.home, x, h.logger, time.Now)
	h.router.Attach(h.files)
	h.exchange = files.NewExchange(h.files, files.Sharing{Ledger: h.ledger, Calls: h.switchboard}, h.logger)
	h.exchange.Count(h.counts)
	if h.auth, err = auth.Open(h.home, time.Now); err != nil {
		h.logger.Error("only agents' own tokens are good", "err", err)
	}
	h.openWaker()
	standings, err := standing.Open(h.home, time.Now)
	if err != nil { // who is blocked must not be let in
		refusal := api.Errorf(api.BadConfig, "%w: it says who is muted and blocked here; repair it, or remove it to let everybody do all", err)
		return errors.Join(refusal.WithNext("cat '%s'", h.home.StandingsPath()), x.Close())
	}
	h.router.Heed(standings)
	h.desk = desk.New(desk.Parts{
		Home: h.home, Ledger: h.ledger, Deliver: h.deliver, Roster: h.roster, Presence: h.presence, Calls: h.switchboard,
		Wake: h.waker.Capability, Standing: h.router.Standing,
	})
	h.operator = operator.New(operator.Parts{
		Home: h.home, Ledger: h.ledger, Roster: h.roster, Router: h.router, Book: standings,
		HostID: h.router.HostID, Shared: h.copies.Shared, Settle: h.desk.Settle, Logger: h.logger, Now: time.Now,
	})
	if err := h.openPeers(); err != nil {
		return errors.Join(err, x.Close())
	}
	h.watcher = watch.New(h.home, hints{h}, h.logger)
	h.counts.read(h)
	return nil
}

func (h *host) limits() conv.Limits {
	l := h.home.Config.Limits
	return conv.Limits{Members: l.Participants, Messages: l.Messages, Hops: l.Hops}
}

// presenceChanged tells those who follow it that an agent comes or goes.
func (h *host) presenceChanged(agent string, p presence.Presence) {
	name := h.spelled(agent)
	h.tellPresence(h.home.Address(name), p)
	h.neighbors.Changed(name)
}

func (h *host) typing(e *envelope.Envelope, to []envelope.Address) {
	topics := make([]bus.Topic, 0, len(to))
	for _, a := range to {
		if !a.Same(e.From) {
			topics = append(topics, bus.Agent(a))
		}
	}
	h.bus.Notify(e, topics...)
}

func (h *host) lost(agent string) { h.switchboard.Lost(agent) }

func (h *host) close() {
	h.ledger.Close()
	if err := h.index.Close(); err != nil {
		h.logger.Warn("index does not close", "err", err)
	}
}

// follower is told by the ledger what is on disk.
type follower struct{ *host }

func (f follower) Committed(conversation string, from int64, present []envelope.Address) {
	f.grown.Add(conversation) // before the bus: a stream that comes in between finds it in the queue
	f.bus.Publish(conversation, from, present)
	f.copies.Committed(conversation, present)
	f.switchboard.Committed(conversation)
	f.search.Committed(conversation, from)
}

func (f follower) Raw(conversation string) { f.raw.Add(conversation) }

// run starts what runs and waits for it. Each stage ends after the one before it.
func (h *host) run(ctx context.Context, socket *httpd.Socket, ready func()) error {
	if err := h.watcher.Start(); err != nil {
		return errors.Join(err, socket.Close())
	}
	doors := newStage(ctx)
	writers := newStage(context.WithoutCancel(ctx))
	followers := newStage(context.WithoutCancel(ctx))

	h.switchboard.Recover(ctx) // before anything that calls or answers is taken
	followers.run(h.deliver.Run)
	writers.run(h.presence.Run)
	writers.run(h.switchboard.Run)
	writers.run(h.waker.Run)
	writers.queue(h.drops, 16, func(ctx context.Context, name string) { h.router.Drain(ctx, name, h.drops) })
	writers.queue(h.raw, 2, func(ctx context.Context, id string) { h.router.Adopt(ctx, id, h.raw) })
	writers.queue(h.logs, 2, h.refresh)
	writers.queue(h.inboxes, 2, func(_ context.Context, name string) { h.deliver.InboxChanged(name) })
	writers.queue(h.folders, 2, h.refreshAgent)
	writers.run(h.checkpoints)
	writers.run(h.sweepBlobs)
	doors.run(h.watcher.Run)
	rest := h.sweepAtStart(ctx)
	writers.run(h.relay.Run)
	writers.run(h.peers.Run) // not before: what concerns peers is known now
	writers.run(h.away.Run)
	writers.run(h.operator.Recover)
	h.letPeersIn(ctx)
	writers.queue(h.sweeps, 1, h.sweep) // not before: sweeps are one at a time
	writers.run(func(ctx context.Context) error { return h.settle(ctx, rest) })

	page, err := web.New()
	if err != nil {
		h.logger.Error("there is no page", "err", err)
	}
	models := mcpserver.NewHandler(h.home, Version(), h.logger)
	doors.run(models.Run)
	server := httpd.New(httpd.Parts{
		Home: h.home, Ledger: h.ledger, Router: h.router, Deliver: h.deliver, Desk: h.desk,
		Roster: h.roster, Presence: h.presence, Auth: h.auth, Switchboard: h.switchboard, Files: h.files, Operator: h.operator, Search: h.search,
		Peers: h.peers, Copies: h.copies, Door: h.door(), Logger: h.logger, Metrics: h.counts, MCP: models, Page: page, Status: h.status, Stop: h.stop,
	})
	doors.run(func(ctx context.Context) error { return server.Serve(ctx, socket) })
	h.logger.Info("daemon runs", "path", h.home.Dir, "host", h.home.Host.Name, "socket", h.home.ListenPath(), "took", time.Since(h.started))
	if ready != nil {
		ready()
	}
	followers.run(h.search.Run) // not before: nobody who waits for the start waits for it
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
// home was deleted or replaced.
func (h *host) checkpoints(ctx context.Context) error {
	work.Every(ctx, checkpointEvery, func() (done bool) {
		if err := h.place.lost(); err != nil {
			h.logger.Error("home is gone", "path", h.home.Dir, "err", err)
			h.stop()
			return true
		}
		h.ledger.Checkpoint()
		return false
	})
	return nil
}

const blobsEvery = time.Hour

// sweepBlobs removes the files that no message mentions. What is uploaded today stays in
// any case, so there is nothing to do at the start.
func (h *host) sweepBlobs(ctx context.Context) error {
	work.Every(ctx, blobsEvery, func() (done bool) {
		if err := h.files.Sweep(ctx); err != nil && ctx.Err() == nil {
			h.logger.Warn("blobs are not swept", "err", err)
		}
		return false
	})
	return nil
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

const (
	processors = 16
	gcPercent  = 200
	maxGarbage = 40 << 20 // bytes, of a large home
)

// TuneProcess suits the Go runtime to a process that mostly waits for the disk and
// keeps little in memory. A goroutine inside fdatasync occupies one of the runtime's
// processors for up to 0.1 ms after it has begun to wait, so there are more of them
// than cores. What the environment says in GOMAXPROCS and GOGC holds.
func TuneProcess() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(processors, runtime.NumCPU()))
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// shrinkProcess gives back what the start has needed and a host that waits does not,
// and keeps a process that holds much in memory from growing far beyond that.
func shrinkProcess() {
	debug.FreeOSMemory()
	if os.Getenv("GOGC") != "" {
		return
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	debug.SetGCPercent(int(min(gcPercent, 100*maxGarbage/max(1, m.HeapAlloc))))
}

// Version is the version of the program, as the build has noted it.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}
