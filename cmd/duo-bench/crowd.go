package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// The crowd is a home of many, who have talked and are quiet now.
const (
	crowdAgents        = 10_000
	crowdConversations = 100_000
	crowdLines         = 5 // of each conversation
)

// makeCrowd makes a home with a crowd in a folder.
func (b *bench) makeCrowd(dir string) error {
	home, err := maildir.Init(dir)
	if err != nil {
		return err
	}
	return crowd(home, b.times(crowdAgents), b.times(crowdConversations))
}

// crowd fills a home with agents and conversations, each of two agents who have seen
// everything, without a daemon.
func crowd(home *maildir.Home, agents, conversations int) error {
	cursors := make([]map[string]mailbox.Cursor, agents)
	for i := range agents {
		cursors[i] = make(map[string]mailbox.Cursor)
		dir := home.AgentDir(crowdName(i))
		box, err := mailbox.Open(dir)
		if err == nil {
			err = card.Card{ID: envelope.NewID(), Name: crowdName(i), Capabilities: []string{"review"}}.Write(dir)
		}
		if err == nil {
			err = box.SetCurrent("")
		}
		if err != nil {
			return err
		}
	}
	for i := range conversations {
		first, second := i%agents, (i%agents+1+i/agents)%agents
		id, err := talk(home, home.Address(crowdName(first)), home.Address(crowdName(second)))
		if err != nil {
			return err
		}
		for _, agent := range []int{first, second} {
			if err := mailbox.At(home.AgentDir(crowdName(agent))).Link(id); err != nil {
				return err
			}
			cursors[agent][id] = mailbox.Cursor{Delivered: crowdLines, Seen: crowdLines}
		}
	}
	for i, c := range cursors {
		if err := mailbox.At(home.AgentDir(crowdName(i))).WriteCursors(c); err != nil {
			return err
		}
	}
	return nil
}

func crowdName(i int) string { return fmt.Sprintf("Agent%d", i) }

// talk writes the log of a conversation.
func talk(home *maildir.Home, a, b envelope.Address) (string, error) {
	create := envelope.NewID()
	id := envelope.ConversationID(home.Host.ID, create)
	var text []byte
	for seq := int64(1); seq <= crowdLines; seq++ {
		e := envelope.Envelope{
			ID: create, Type: envelope.System, Event: envelope.EventCreate, From: a, Origin: home.Host.ID, Topic: "a crowd",
			Participants: []envelope.Address{a, b},
		}
		if seq > 1 {
			e = envelope.Envelope{ID: envelope.NewID(), Type: envelope.Message, From: a, Content: body, After: envelope.Int(seq - 1)}
		}
		e.Conversation, e.Seq, e.Timestamp = id, seq, time.Now().UnixMilli()
		text = append(e.Append(text), '\n')
	}
	return id, os.WriteFile(home.LogPath(id), text, 0o600)
}

// startOfCrowd measures the second start of a home: the first one makes the index.
func startOfCrowd(ctx context.Context, b *bench) (result, error) {
	agents, conversations := b.times(crowdAgents), b.times(crowdConversations)
	home, err := b.home()
	if err != nil {
		return result{}, err
	}
	if err := crowd(home, agents, conversations); err != nil {
		return result{}, err
	}
	first, err := b.startIn(ctx, home)
	if err != nil {
		return result{}, err
	}
	if err := errors.Join(first.quiet(ctx), first.stop()); err != nil {
		return result{}, err
	}
	start := time.Now()
	h, err := b.startIn(ctx, home)
	if err != nil {
		return result{}, err
	}
	took := time.Since(start)
	defer h.stop() //nolint:errcheck // its home is removed
	if err := h.quiet(ctx); err != nil {
		return result{}, err
	}
	rss, err := h.resident()
	if err != nil {
		return result{}, err
	}
	busy, err := h.idleCPU(ctx)
	if err != nil {
		return result{}, err
	}
	r := result{
		duo: round(took), floor: "-", ratio: fmt.Sprintf("%d MB, idle %.2f %%", rss>>20, 100*busy),
		ok: took < 2*time.Second && rss < 150<<20 && busy < 0.01,
	}
	return r, nil
}

const quietFor = 2 * time.Second // ticks of the daemon that find nothing to do

// quiet waits until a daemon does nothing.
func (h *host) quiet(ctx context.Context) error {
	before, err := h.cpu()
	for start := time.Now(); err == nil; {
		if time.Since(start) > 5*time.Minute {
			return errors.New("the daemon does not come to rest")
		}
		if err := sleep(ctx, quietFor); err != nil {
			return err
		}
		var now time.Duration
		if now, err = h.cpu(); now-before < quietFor/50 {
			return err
		}
		before = now
	}
	return err
}

const idleTime = 40 * time.Second // more than a round of the sweeps

// idleCPU is which share of a core a daemon uses while nobody wants anything.
func (h *host) idleCPU(ctx context.Context) (float64, error) {
	before, err := h.cpu()
	if err != nil {
		return 0, err
	}
	if err := sleep(ctx, idleTime); err != nil {
		return 0, err
	}
	after, err := h.cpu()
	return float64(after-before) / float64(idleTime), err
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

const clockTick = 10 * time.Millisecond // of /proc

// cpu is the processor time that the daemon has used.
func (h *host) cpu() (time.Duration, error) {
	data, err := os.ReadFile(h.proc("stat"))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("stat of the daemon: %q", data)
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * clockTick, err
}

// resident is how many bytes of memory the daemon has.
func (h *host) resident() (int64, error) {
	data, err := os.ReadFile(h.proc("statm"))
	if err != nil {
		return 0, err
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(data), &size, &pages); err != nil {
		return 0, err
	}
	return pages * int64(os.Getpagesize()), nil
}

func (h *host) proc(name string) string {
	return filepath.Join("/proc", strconv.Itoa(h.cmd.Process.Pid), name)
}
