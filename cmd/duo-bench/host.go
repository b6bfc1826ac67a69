package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/bus"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/deliver"
	"github.com/claude-duo/duo/daemon/index"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/presence"
	"github.com/claude-duo/duo/daemon/roster"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/daemon/work"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
)

// host is a daemon in a process of its own.
type host struct {
	home *maildir.Home
	cmd  *exec.Cmd
}

// home makes a home in which an agent may say as much as it can: what is measured is
// how fast that goes.
func (b *bench) home() (*maildir.Home, error) {
	dir, err := b.folder("home")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte("[limits]\nrate = 0\n"), 0o600); err != nil {
		return nil, err
	}
	return maildir.Init(dir)
}

func (b *bench) startHost(ctx context.Context, agents ...string) (*host, error) {
	home, err := b.home()
	if err != nil {
		return nil, err
	}
	h, err := b.startIn(ctx, home)
	if err != nil {
		return nil, err
	}
	for _, name := range agents {
		if _, err := h.as("").Register(ctx, api.Register{Name: name}); err != nil {
			return nil, errors.Join(err, h.stop())
		}
	}
	return h, nil
}

// startIn starts the daemon of a home, and waits until it answers.
func (b *bench) startIn(ctx context.Context, home *maildir.Home) (*host, error) {
	h := &host{home: home, cmd: exec.Command(b.binary, "daemon")}
	h.cmd.Env = append(os.Environ(), "DUO_HOME="+home.Dir)
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	for start := time.Now(); h.as("").Health(ctx) != nil; time.Sleep(time.Millisecond) {
		if time.Since(start) > time.Minute {
			return nil, errors.Join(errors.New("daemon does not answer"), h.stop())
		}
	}
	return h, nil
}

func (h *host) as(agent string) *client.Client { return client.New(h.home.SocketPath(), agent) }

func (h *host) stop() error {
	if err := h.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	_ = h.cmd.Wait() // an interrupted daemon need not end with 0
	return nil
}

// create makes a conversation of Atlas with Nova.
func (h *host) create(ctx context.Context, topic string) (string, error) {
	posted, err := h.as("Atlas").Post(ctx, &envelope.Envelope{Type: envelope.Create, Topic: topic, To: []string{"Nova"}})
	return posted.Conversation.ID, err
}

// send sends one message into a conversation.
func send(ctx context.Context, c *client.Client, conversation string) error {
	_, err := c.Post(ctx, &envelope.Envelope{ID: envelope.NewID(), Type: envelope.Message, Conversation: conversation, Content: body})
	return err
}

// parts is a host inside this process, for what is measured at the one way in.
type parts struct {
	home    *maildir.Home
	router  *router.Router
	deliver *deliver.Deliverer
	ledger  *ledger.Ledger
	stop    func()
}

type follower struct {
	grown *work.Queue
	bus   *bus.Bus
}

func (f follower) Committed(id string, from int64, present []envelope.Address) {
	f.bus.Publish(id, from, present)
	f.grown.Add(id)
}

func (follower) Raw(string) {}

func (b *bench) startParts(ctx context.Context) (*parts, error) {
	home, err := b.home()
	if err != nil {
		return nil, err
	}
	x, _, err := index.Open(home.IndexPath())
	if err != nil {
		return nil, err
	}
	logger := slog.New(slog.DiscardHandler)
	f := follower{grown: work.New(), bus: bus.New()}
	l, err := ledger.Open(home, x, f, ledger.Options{})
	if err != nil {
		return nil, err
	}
	agents := roster.New(home)
	for _, name := range []string{"Atlas", "Nova"} {
		if _, _, err := agents.Register(api.Register{Name: name}); err != nil {
			return nil, err
		}
	}
	d := deliver.New(home, l, f.bus, f.grown, logger)
	here := presence.New(home, x, time.Now, presence.Hooks{Changed: func(string, presence.Presence) {}}, logger)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	return &parts{
		home: home, deliver: d, ledger: l, router: router.New(home, l, agents, d, here, logger),
		stop: func() {
			cancel()
			<-done
			l.Close()
			_ = x.Close() // a cache
		},
	}, nil
}

func (p *parts) accept(ctx context.Context, draft *envelope.Envelope) (router.Outcome, error) {
	return p.router.Accept(ctx, router.Actor{Agent: p.home.Address("Atlas")}, draft)
}

func (p *parts) create(ctx context.Context, topic string) (string, error) {
	out, err := p.accept(ctx, &envelope.Envelope{Type: envelope.Create, Topic: topic, To: []string{"Nova"}})
	return out.State.ID, err
}

// listen attaches a stream of Nova's that confirms everything at once.
func (p *parts) listen(ctx context.Context) (stop func(), err error) {
	s, err := p.deliver.Attach("Nova", deliver.Filter{})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			l, err := s.Next(ctx)
			if err != nil {
				return
			}
			if err := s.Confirm(l.Conversation, l.Envelope.Seq, true); err != nil {
				fmt.Fprintln(os.Stderr, "confirm:", err)
			}
		}
	}()
	return func() {
		cancel()
		<-done
		s.Close()
	}, nil
}
