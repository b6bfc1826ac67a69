// Package reach reaches a host as one of its agents: through the daemon, which it starts
// where it may, or where none can be had, through the files of the home.
package reach

import (
	"context"
	"errors"
	"io/fs"
	"sync/atomic"
	"syscall"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/offline"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

const maxRetries = 3

// Host is a host as one of its agents reaches it. It may be used by several goroutines.
type Host struct {
	Home  *maildir.Home
	Agent string                      // empty for nobody
	Start func(context.Context) error // starts a daemon; nil where none may be started
	Hops  int64                       // of messages that are said automatically; 0 where a model says them
	// Carry puts the files that go with a draft beside its drop, and returns the drop. It
	// is nil where none do.
	Carry func(*mailbox.Box, *envelope.Envelope) (*envelope.Envelope, error)

	link atomic.Pointer[client.Client]
	live bool // nothing but the daemon answers
}

// New returns a host that is reached over its socket, or through its files.
func New(home *maildir.Home, agent string, start func(context.Context) error) *Host {
	h := &Host{Home: home, Agent: agent, Start: start}
	h.link.Store(client.New(home.SocketPath(), agent))
	return h
}

// Over returns a host that only its daemon answers for.
func Over(link *client.Client, home *maildir.Home, agent string) *Host {
	h := &Host{Home: home, Agent: agent, live: true}
	h.link.Store(link)
	return h
}

// Close closes the connections with the daemon that wait for a question. The host can still
// be used.
func (h *Host) Close() error { return h.link.Load().Close() }

// Ask asks the daemon. Where there is none it starts one, when it may. A connection
// that broke is tried again, so a question must be one that may be repeated.
func Ask[T any](ctx context.Context, h *Host, question func(*client.Client) (T, error)) (T, error) {
	for try := 1; ; try++ {
		answer, err := question(h.link.Load())
		if !client.Unreachable(err) || try == maxRetries {
			return answer, err
		}
		if errors.Is(err, client.ErrBroken) {
			continue
		}
		if h.Start == nil || !Startable(err) {
			return answer, err
		}
		if startErr := h.Start(ctx); startErr != nil {
			return answer, startErr
		}
		h.link.Store(client.New(h.Home.SocketPath(), h.Agent)) // it may listen elsewhere than the last one
	}
}

// Startable reports whether starting a daemon can help: nobody listens. Where a
// sandbox forbids sockets, a daemon could not use one either.
func Startable(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && e.Code == api.Stopping ||
		errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// AskOrRead asks the daemon and, where none can be had, the files; offline is why it was
// the files that answered.
func AskOrRead[T any](ctx context.Context, h *Host, question func(*client.Client) (T, error), read func(*offline.Files) (T, error)) (answer T, offline error, err error) {
	answer, err = Ask(ctx, h, question)
	if !client.Unreachable(err) || h.live {
		return answer, nil, err
	}
	files, openErr := h.Files()
	if openErr != nil {
		return answer, err, openErr
	}
	offline = err
	answer, err = read(files)
	return answer, offline, err
}

// Files opens the files of the home as the agent sees them.
func (h *Host) Files() (*offline.Files, error) { return offline.Open(h.Home, h.Agent) }

// Is reports whether an address is the agent's.
func (h *Host) Is(address envelope.Address) bool {
	return h.Agent != "" && address.Same(h.Home.Address(h.Agent))
}

// Wrote reports whether the agent has said or done itself what a line tells.
func (h *Host) Wrote(e *envelope.Envelope) bool { return h.Is(e.From) && e.By(e.From) }

// Placed reports whether the agent is the caller of a call.
func (h *Host) Placed(r api.Request) bool {
	address, err := envelope.ParseAddress(r.From)
	return err == nil && h.Is(address)
}
