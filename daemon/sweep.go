package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/roster"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/mailbox"
)

const (
	youngFolder = time.Second
	retryAfter  = time.Second
	staleTemp   = 36 * time.Hour
	clockSlack  = 2 * time.Second // how coarse the times of files may be
)

// hints puts into queues what the watcher tells.
type hints struct{ *host }

func (h hints) Agent(name string)  { h.folders.Add(name) }
func (h hints) Outbox(name string) { h.drops.Add(name) }
func (h hints) Inbox(name string)  { h.inboxes.Add(name) }
func (h hints) Log(id string)      { h.logs.Add(id) }
func (h hints) Everything()        { h.sweeps.Add("all") }

// refresh reads what others have appended to a log.
func (h *host) refresh(ctx context.Context, id string) {
	if !h.ledger.Changed(id) {
		return
	}
	err := h.ledger.Refresh(ctx, id)
	if err == nil || errors.Is(err, ledger.ErrNotFound) || ctx.Err() != nil {
		return
	}
	h.logger.Warn("log is not read", "conv", id, "err", err)
	var damage *convlog.DamageError
	if !errors.As(err, &damage) {
		h.logs.AddAfter(id, retryAfter)
	}
}

// refreshAgent looks at an agent's folder: at its card, and whether it is all there
// and watched.
func (h *host) refreshAgent(_ context.Context, name string) {
	err := h.roster.Refresh(name)
	switch {
	case errors.Is(err, roster.ErrYoung):
		h.folders.AddAfter(name, youngFolder)
	case err != nil:
		h.logger.Warn("agent is not read", "agent", name, "err", err)
	}
	if _, err := os.Stat(h.home.AgentDir(name)); err != nil {
		return
	}
	if _, err := mailbox.Open(h.home.AgentDir(name)); err != nil {
		h.logger.Warn("mailbox cannot be used", "agent", name, "err", err)
		return
	}
	h.watcher.Agent(name)
	h.drops.Add(name)
	h.inboxes.Add(name)
}

// sweepAtStart looks at everything once, before requests are answered. The watcher is
// on already, so that nothing falls between.
func (h *host) sweepAtStart(ctx context.Context) {
	h.sweep(ctx, "start")
	for _, id := range h.ledger.Refs().All() {
		h.deliver.Recover(ctx, id)
	}
	names, err := h.home.Agents()
	if err != nil {
		h.logger.Error("agents are not listed", "err", err)
		return
	}
	for _, name := range names {
		if err := mailbox.At(h.home.AgentDir(name)).RemoveStale(time.Now().Add(-staleTemp)); err != nil {
			h.logger.Warn("unfinished files stay", "agent", name, "err", err)
		}
		if err := h.deliver.Tidy(name); err != nil {
			h.logger.Warn("seen files stay", "agent", name, "err", err)
		}
	}
}

// sweep looks at what has changed since the last sweep, whatever the watcher has
// told.
func (h *host) sweep(ctx context.Context, _ string) {
	since := h.swept.Add(-clockSlack)
	h.swept = time.Now()
	names, err := h.home.Agents()
	if err != nil {
		h.logger.Error("agents are not listed", "err", err)
	}
	for _, name := range names {
		if ctx.Err() != nil {
			return
		}
		h.sweepAgent(ctx, name, since)
	}
	ids, err := h.home.Conversations()
	if err != nil {
		h.logger.Error("conversations are not listed", "err", err)
	}
	for _, id := range ids {
		info, err := os.Stat(h.home.LogPath(id))
		if err == nil && info.ModTime().After(since) {
			h.logs.Add(id)
		}
	}
}

// sweepAgent looks at an agent's folders where they have changed.
func (h *host) sweepAgent(ctx context.Context, name string, since time.Time) {
	dir := h.home.AgentDir(name)
	if since.Before(h.started) {
		h.refreshAgent(ctx, name)
		return
	}
	for sub, queue := range map[string]func(string){
		"": h.folders.Add, card.File: h.folders.Add, mailbox.OutboxNew: h.drops.Add, mailbox.InboxNew: h.inboxes.Add,
	} {
		info, err := os.Stat(filepath.Join(dir, sub))
		if err != nil {
			h.folders.Add(name)
		} else if info.ModTime().After(since) {
			queue(name)
		}
	}
}
