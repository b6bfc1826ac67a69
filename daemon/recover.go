package daemon

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/deliver"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/mailbox"
)

const (
	staleTemp    = 36 * time.Hour
	deadTemp     = time.Minute // of files that are written in one go
	startWorkers = 4
	startTime    = time.Second // for reading logs before requests are answered
)

// sweepAtStart looks at everything once, before requests are answered. The watcher is
// on already, so that nothing falls between. Logs that are as the index knows them are
// not read. It returns those that it has not come to, where many are not.
func (h *host) sweepAtStart(ctx context.Context) (rest []string) {
	g, err := h.glance()
	if err != nil {
		h.logger.Error("home is not read", "path", h.home.Dir, "err", err)
		return nil
	}
	defer g.close()
	h.looks.begin(time.Since(h.started), h.watcher.Polling())
	if look, err := durable.LookAt(g.home, h.conversationsDir()); err != nil || !h.listing.is(all, look) {
		h.listLogs(g, true) // it has changed since the home was opened
	}
	agents := h.listAgents()
	for _, name := range agents {
		for part := range agentParts {
			_, _ = h.lookAt(g, name, part) // what follows does all that there is to do
		}
	}
	each(len(agents), func(i int) {
		if name := agents[i]; h.refreshFolder(name) && hasFiles(filepath.Join(h.home.AgentDir(name), mailbox.OutboxNew)) {
			h.drops.Add(name)
		}
	})
	stays, rest := h.stays(g, h.listed)
	each(len(agents), func(i int) {
		h.arrived.Store(agents[i], true)
		h.deliver.RecoverAgent(agents[i], stays[agents[i]])
	})
	return h.recover(ctx, rest, startTime)
}

// stays tells for each agent in which conversations it is or was, and which logs are
// not as the index knows them.
func (h *host) stays(g glance, logs []string) (stays map[string][]deliver.Stay, unknown []string) {
	stays = make(map[string][]deliver.Stay)
	found := make([]found, min(len(logs), 1024))
	for part := range slices.Chunk(logs, max(1, len(found))) {
		each(len(part), func(i int) { found[i] = h.find(g, part[i]) })
		for i, id := range part {
			f := found[i]
			if f.gone {
				continue
			}
			h.looks.changed(id, f.look)
			if !f.known {
				h.logs.Add(id)
				unknown = append(unknown, id)
			}
			h.copies.Learn(id, f.state)
			for _, m := range f.state.Members {
				if m.Address.Host == h.home.Host.Name {
					name := strings.ToLower(m.Address.Name)
					stays[name] = append(stays[name], stayOf(id, f.state, m))
				}
			}
		}
	}
	return stays, unknown
}

// found is what the start knows of a log without reading it.
type found struct {
	look        durable.Look
	state       conv.State // where it is known
	gone, known bool
}

func (h *host) find(g glance, id string) (f found) {
	var err error
	if f.look, err = g.log(id); err != nil {
		return found{gone: true}
	}
	if state, ok := h.ledger.Known(id, f.look); ok {
		f.state, f.known = state, true
	}
	return f
}

// arrive gives an agent that is new here its place in conversations that were imported with
// its name in them; no other log has the name of somebody who comes later.
func (h *host) arrive(ctx context.Context, name string) {
	if _, known := h.arrived.LoadOrStore(name, true); known {
		return
	}
	var stays []deliver.Stay
	for _, id := range h.ledger.AllImported() {
		state, err := h.ledger.State(ctx, id)
		if err != nil {
			h.logger.Warn("conversation is not read", "conv", id, "err", err)
			continue
		}
		for _, m := range state.Members {
			if m.Address.Host == h.home.Host.Name && strings.EqualFold(m.Address.Name, name) {
				stays = append(stays, stayOf(id, state, m))
			}
		}
	}
	if len(stays) > 0 {
		h.deliver.RecoverAgent(name, stays)
	}
}

func stayOf(id string, state conv.State, m conv.Member) deliver.Stay {
	return deliver.Stay{
		Conversation: id, Last: state.LastSeq, First: m.First(), Left: m.Left, Over: state.Closed || !m.Present(),
	}
}

// recover reads logs and sees to it that everybody gets what is in them. It returns
// those that it has not come to within a time.
func (h *host) recover(ctx context.Context, logs []string, within time.Duration) []string {
	start := time.Now()
	for i, id := range logs {
		if ctx.Err() != nil || time.Since(start) > within {
			return logs[i:]
		}
		h.deliver.Recover(ctx, id)
		h.copies.Recover(ctx, id)
	}
	return nil
}

// settle does what is left over from the start, while requests are answered already.
func (h *host) settle(ctx context.Context, rest []string) error {
	h.recover(ctx, rest, 1<<62)
	agents := h.listAgents()
	h.removeTemps(agents)
	for _, name := range agents {
		if ctx.Err() != nil {
			return nil
		}
		if err := mailbox.At(h.home.AgentDir(name)).RemoveStale(time.Now().Add(-staleTemp)); err != nil {
			h.logger.Warn("unfinished files stay", "agent", name, "err", err)
		}
		if err := h.deliver.Tidy(name); err != nil {
			h.logger.Warn("seen files stay", "agent", name, "err", err)
		}
		if hasFiles(filepath.Join(h.home.AgentDir(name), mailbox.InboxNew)) {
			h.waker.Waits(name) // what it was not woken for
		}
	}
	if len(agents)+h.ledger.Refs().Len() > largeHome {
		shrinkProcess()
		h.search.Settle(ctx)
		shrinkProcess() // to read the logs for the search has needed much, too
	}
	return nil
}

const largeHome = 10_000 // agents and conversations

// removeTemps deletes what kills have left unfinished beside the files that are
// replaced. The command may be writing there just now.
func (h *host) removeTemps(agents []string) {
	dirs := []string{h.home.Dir, h.home.RunDir(), h.home.SessionsDir(), h.home.BlobsDir()}
	for _, name := range agents {
		dirs = append(dirs, h.home.AgentDir(name))
	}
	for _, dir := range dirs {
		if err := maildir.RemoveTempsBefore(dir, time.Now().Add(-deadTemp)); err != nil {
			h.logger.Warn("unfinished files stay", "path", dir, "err", err)
		}
	}
}

// hasFiles reports whether there is anything in a folder, or that cannot be told.
func hasFiles(path string) bool {
	dir, err := os.Open(path)
	if err != nil {
		return true
	}
	defer dir.Close()
	_, err = dir.Readdirnames(1)
	return err != io.EOF
}

// each does something for all numbers below n, for some at once.
func each(n int, do func(i int)) {
	var all sync.WaitGroup
	var next atomic.Int64
	for range min(startWorkers, n) {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				do(int(i))
			}
		})
	}
	all.Wait()
}
