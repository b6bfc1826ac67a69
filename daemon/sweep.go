package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/roster"
	"github.com/claude-duo/duo/daemon/work"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/mailbox"
)

const (
	youngFolder = time.Second
	retryAfter  = time.Second
)

// hints puts into queues what the watcher tells.
type hints struct{ *host }

func (h hints) Agent(name string)  { h.take("agent", h.folders, name) }
func (h hints) Outbox(name string) { h.take("outbox", h.drops, name) }
func (h hints) Inbox(name string)  { h.take("inbox", h.inboxes, name) }
func (h hints) Log(id string)      { h.take("log", h.logs, id) }
func (h hints) Everything()        { h.take(all, h.sweeps, all) }
func (h hints) Routine()           { h.take(some, h.sweeps, some) }

func (h hints) take(what string, q *work.Queue, name string) {
	h.counts.hints.Inc(what)
	q.Add(name)
}

// refresh reads what others have appended to a log.
func (h *host) refresh(ctx context.Context, id string) {
	if !h.ledger.Changed(id) {
		return
	}
	err := h.ledger.Refresh(ctx, id)
	switch {
	case err == nil && h.ledger.Changed(id): // it ends in the middle of a line, or grew since
		h.logs.AddAfter(id, retryAfter)
		return
	case err == nil || errors.Is(err, ledger.ErrNotFound) || ctx.Err() != nil:
		return
	}
	h.logger.Warn("log is not read", "conv", id, "err", err)
	var damage *convlog.DamageError
	if !errors.As(err, &damage) {
		h.logs.AddAfter(id, retryAfter)
	}
}

// refreshAgent looks at an agent's folder: at its card, and whether it is all there
// and watched. What has no agent's name is somebody else's.
func (h *host) refreshAgent(ctx context.Context, name string) {
	if h.refreshFolder(name) {
		h.arrive(ctx, name)
		h.drops.Add(name)
		h.inboxes.Add(name)
	}
}

// refreshFolder is refreshAgent for all but what is in the folder. It reports whether
// there is a mailbox that can be used, of an agent that is not just being made: who reads
// its drops has to know its card.
func (h *host) refreshFolder(name string) bool {
	if !maildir.IsAgentFolder(name) {
		return false
	}
	err := h.roster.Refresh(name)
	young := errors.Is(err, roster.ErrYoung)
	switch {
	case young:
		h.folders.AddAfter(name, youngFolder)
	case err != nil:
		h.logger.Warn("agent is not read", "agent", name, "err", err)
	}
	if _, err := os.Stat(h.home.AgentDir(name)); err != nil {
		return false
	}
	if _, err := mailbox.Open(h.home.AgentDir(name)); err != nil {
		h.logger.Warn("mailbox cannot be used", "agent", name, "err", err)
		return false
	}
	h.watcher.Agent(name)
	return !young
}

// What a sweep looks at.
const (
	all  = "all"
	some = "some" // the cards and mailboxes of all agents, and a part of folders and logs, another one each time
)

// sweep looks at what has changed since the last sweep, whatever the watcher has
// told. One goroutine at a time does it.
func (h *host) sweep(ctx context.Context, what string) {
	start := time.Now()
	defer func() { h.counts.sweeps.Took(time.Since(start), what) }()
	g, err := h.glance()
	if err != nil {
		h.logger.Error("home is not read", "path", h.home.Dir, "err", err)
		return
	}
	defer g.close()
	polling := h.watcher.Polling()
	h.looks.begin(time.Since(h.started), polling)
	agents := h.listAgents()
	for _, name := range agents {
		if ctx.Err() != nil {
			return
		}
		h.sweepAgent(g, name, what == all || polling || h.looks.isTurnOf(name))
	}
	for _, id := range h.logsToSweep(g, what == all || polling) {
		if look, err := g.log(id); err == nil && h.looks.changed(id, look) {
			h.logs.Add(id)
		}
	}
	h.looks.forget(agents, h.listed)
}

// logsToSweep lists the logs that a sweep looks at: those whose turn it is, and those
// that no sweep has looked at yet.
func (h *host) logsToSweep(g glance, everything bool) []string {
	fresh := h.listLogs(g, everything)
	switch {
	case everything:
		return h.listed
	case !fresh:
		return h.turns[h.looks.turn%logParts]
	}
	return slices.DeleteFunc(slices.Clone(h.listed), func(id string) bool { return h.looks.known(id) && !h.looks.isTurnOf(id) })
}

// glance is the folders of a home, open to look at what is in them.
type glance struct{ home, agents, conversations *os.File }

func (h *host) glance() (g glance, err error) {
	for _, f := range []struct {
		dir **os.File
		at  string
	}{{&g.home, h.home.Dir}, {&g.agents, h.home.AgentsDir()}, {&g.conversations, h.home.ConversationsDir()}} {
		if *f.dir, err = os.Open(f.at); err != nil {
			g.close()
			return glance{}, err
		}
	}
	return g, nil
}

func (g glance) close() {
	for _, dir := range []*os.File{g.home, g.agents, g.conversations} {
		if dir != nil {
			_ = dir.Close() // nothing was written
		}
	}
}

func (g glance) log(id string) (durable.Look, error) {
	return durable.LookAt(g.conversations, maildir.LogName(id))
}

// listAgents lists the agents, sorted.
func (h *host) listAgents() []string {
	agents, err := h.home.Agents()
	if err != nil {
		h.logger.Error("agents are not listed", "err", err)
	}
	return agents
}

// listLogs lists the logs, sorted, and reports whether it has read their folder: where
// that looks as before, the list is as before.
func (h *host) listLogs(g glance, anew bool) bool {
	look, err := durable.LookAt(g.home, h.conversationsDir())
	h.listing.begin(h.looks.now, true) // of two changes at once the second one may show in no time of the folder
	if changed := h.listing.changed(all, look); err == nil && !changed && !anew {
		return false
	}
	logs, err := h.home.Conversations()
	if err != nil {
		h.logger.Error("conversations are not listed", "err", err)
	}
	h.listed, h.turns = logs, [logParts][]string{}
	for _, id := range logs {
		turn := turnOf(id)
		h.turns[turn] = append(h.turns[turn], id)
	}
	return true
}

// conversationsDir is the folder of the logs, in the home.
func (h *host) conversationsDir() string { return filepath.Base(h.home.ConversationsDir()) }

// agentParts are the folders and files of an agent that tell by their times that
// something has changed, and who looks then.
var agentParts = map[string]agentPart{
	"":                {func(h *host) *work.Queue { return h.folders }, false},
	card.File:         {func(h *host) *work.Queue { return h.folders }, true},
	mailbox.OutboxNew: {func(h *host) *work.Queue { return h.drops }, true},
	mailbox.InboxNew:  {func(h *host) *work.Queue { return h.inboxes }, true},
}

type agentPart struct {
	queue func(*host) *work.Queue
	often bool // a routine sweep looks at it, and not only when it is the agent's turn
}

func (h *host) sweepAgent(g glance, name string, whole bool) {
	whole = whole || !h.looks.known(name+"/")
	for part, p := range agentParts {
		if !whole && !p.often {
			continue
		}
		switch changed, err := h.lookAt(g, name, part); {
		case err != nil:
			h.folders.Add(name)
		case changed:
			p.queue(h).Add(name)
		}
	}
}

func (h *host) lookAt(g glance, agent, part string) (changed bool, err error) {
	key := agent + "/" + part
	look, err := durable.LookAt(g.agents, key)
	return err == nil && h.looks.changed(key, look), err
}
