// Package operator gives agents their standings on behalf of the person who runs the host.
// What that person says, the router takes as from any agent; docs/operator.md has the rules.
//
// A standing holds as soon as it is in its file. After that the logs are told, and what a
// crash has left out is told at the next start.
package operator

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/roster"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/daemon/standing"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// MaxTold is in how many conversations a change is written down: those of the agent that
// were spoken in last.
const MaxTold = 256

// Parts are what an operator works with.
type Parts struct {
	Home   *maildir.Home
	Ledger *ledger.Ledger
	Roster *roster.Roster
	Router *router.Router
	Book   *standing.Book
	HostID func(name string) (id string, ok bool)
	// Shared lists the conversations of this host that concern another one.
	Shared func(host string) []string
	// Settle waits, for a bounded time, until agents are linked with the conversations that
	// they are in.
	Settle func(ctx context.Context)
	Logger *slog.Logger
	Now    func() time.Time
}

// Operator gives standings. Its methods may be used by several goroutines.
type Operator struct {
	Parts
	mu sync.Mutex // one change at a time, with what the logs are told of it
}

// New returns an operator of a home.
func New(p Parts) *Operator { return &Operator{Parts: p} }

// Give gives an agent, named by its name or address, a standing.
func (o *Operator) Give(ctx context.Context, name string, ask api.Standing) (envelope.Address, error) {
	agent, host, err := o.agent(name)
	if err != nil {
		return agent, err
	}
	human, err := o.Roster.Human()
	if err != nil {
		return agent, err
	}
	by, now := o.Home.Address(human.Name), o.Now().UnixMilli()
	switch {
	case agent.Same(by):
		return agent, api.Errorf(api.BadRequest, "%s is you", agent.Name).WithNext("duo who")
	case ask.Until != 0 && ask.Until <= now:
		return agent, api.Errorf(api.BadRequest, "until: want a time to come in Unix milliseconds, or 0 for no end, got %d", ask.Until)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	s := standing.Standing{
		Agent: agent, Host: host, Word: ask.Standing, Reason: ask.Reason, Until: ask.Until, By: by, At: now, Change: envelope.NewID(),
	}
	changed, err := o.Book.Set(s)
	switch {
	case errors.Is(err, standing.ErrInvalid):
		return agent, api.Errorf(api.BadRequest, "%w", err)
	case errors.Is(err, standing.ErrTooMany):
		return agent, api.Errorf(api.TooMany, "%w", err).WithNext("duo standing")
	case err != nil:
		return agent, router.Translate(err, "")
	}
	if changed { // committed; what follows can be done again
		o.Logger.Info("agent has another standing", "agent", agent.String(), "standing", s.Word, "id", s.Change)
		ctx := context.WithoutCancel(ctx) // though nobody waits for it any more
		o.Settle(ctx)
		o.tell(ctx, s)
	}
	return agent, nil
}

// agent is who is meant by a name, and the id of its host. It may have unregistered, and
// where it has a standing, its host may be linked with this one no more.
func (o *Operator) agent(name string) (a envelope.Address, host string, err error) {
	if c, ok := o.Roster.Get(strings.TrimSuffix(name, "@"+o.Home.Host.Name)); ok {
		return o.Home.Address(c.Name), o.Home.Host.ID, nil
	}
	who, err := o.Roster.Resolve(name)
	if err == nil {
		if host, ok := o.HostID(who.Address.Host); ok {
			return who.Address, host, nil
		}
		err = api.Errorf(api.HostNotFound, "no host named %q is linked with this one", who.Address.Host).WithNext("duo peer list")
	}
	for _, s := range o.Book.All() {
		if strings.EqualFold(s.Agent.String(), name) {
			return s.Agent, s.Host, nil
		}
	}
	return a, "", err
}

// Recover tells the logs what a crash has left out.
func (o *Operator) Recover(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.Book.Unnoted() {
		o.tell(ctx, s)
	}
	return nil
}

// tell writes a change into the conversations of this host in which the agent is, and notes
// that this is done. The caller holds the lock.
func (o *Operator) tell(ctx context.Context, s standing.Standing) {
	list, err := o.active(ctx, s.Agent)
	told, failed := 0, err != nil
	if failed {
		o.Logger.Error("conversations of an agent are not listed", "agent", s.Agent.String(), "err", err)
	}
	for _, state := range list {
		err := o.Router.Steer(s, state.ID)
		switch {
		case ctx.Err() != nil:
			return
		case errors.As(err, new(*conv.Refusal)): // closed just now
		case err != nil:
			failed = true
			o.Logger.Error("standing is not written down", "conv", state.ID, "agent", s.Agent.String(), "err", err)
		default:
			told++
		}
	}
	o.Logger.Info("standing is written down", "agent", s.Agent.String(), "id", s.Change, "conversations", told)
	if failed { // the rest is written at the next start
		return
	}
	if err := o.Book.Note(s); err != nil { // done again at the next start, and found there
		o.Logger.Warn("standing is not noted", "agent", s.Agent.String(), "err", err)
	}
}

// active lists the conversations of this host that are not closed and that an agent is in:
// those that were spoken in last, and no more than MaxTold.
func (o *Operator) active(ctx context.Context, agent envelope.Address) (list []conv.State, err error) {
	ids := o.Shared(agent.Host)
	if agent.Host == o.Home.Host.Name {
		if ids, err = mailbox.At(o.Home.AgentDir(agent.Name)).Conversations(); err != nil {
			return nil, err
		}
	}
	for _, id := range ids {
		state, err := o.Ledger.State(ctx, id)
		if err == nil && !state.Closed && state.Has(agent) && (state.Origin == "" || state.Origin == o.Home.Host.ID) {
			list = append(list, state)
		}
	}
	slices.SortFunc(list, func(a, b conv.State) int {
		return cmp.Or(cmp.Compare(b.LastTime, a.LastTime), cmp.Compare(a.ID, b.ID))
	})
	return list[:min(len(list), MaxTold)], nil
}
