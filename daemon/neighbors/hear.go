package neighbors

import (
	"encoding/json"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/presence"
	"github.com/claude-duo/duo/daemon/roster"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/link"
)

const (
	maxParts = 4096 // frames of a snapshot
	burst    = 64   // frames of changes at once: a link that was slow may bring many
	maxCount = 1_000_000
)

// hearer hears who is at another host. The reader of the link is the only one to use it.
type hearer struct {
	roster *roster.Roster
	host   string

	fresh   *roster.Crowd // the snapshot while it comes; nil behind it
	parts   int           // frames of it
	allowed float64       // frames of changes that may come now
	counted time.Time     // when that was so
	whole   chan struct{} // closed behind the snapshot
}

func newHearer(r *roster.Roster, host string) *hearer {
	return &hearer{roster: r, host: host, fresh: roster.NewCrowd(), allowed: burst, counted: time.Now(), whole: make(chan struct{})}
}

func fault(format string, args ...any) error {
	return link.Fault("presence: "+format, args...)
}

// hear takes a frame.
func (h *hearer) hear(f link.Frame) error {
	var head header
	if err := json.Unmarshal(f.Header, &head); err != nil {
		return fault("a header that cannot be read")
	}
	if !head.Snapshot {
		return h.changes(f.Lines)
	}
	if h.parts++; h.fresh == nil || h.parts > maxParts {
		return fault("a snapshot that does not end, or a second one")
	}
	for _, data := range f.Lines {
		if h.fresh.Full() { // the rest is passed over, and costs nothing
			break
		}
		l, err := decode(data)
		if err != nil {
			return err
		}
		h.fresh.Put(l.agent())
	}
	if head.Last {
		h.roster.Replace(h.host, h.fresh)
		h.fresh = nil
		close(h.whole)
	}
	return nil
}

// changes takes a frame of changes.
func (h *hearer) changes(lines [][]byte) error {
	switch {
	case h.fresh != nil:
		return fault("changes before the snapshot")
	case len(lines) > maxChanges:
		return fault("%d agents in a frame", len(lines))
	case !h.allow(time.Now()):
		return fault("too many frames")
	}
	for _, data := range lines {
		l, err := decode(data)
		if err != nil {
			return err
		}
		if l.Gone {
			h.roster.Remove(h.host, l.Name)
		} else {
			h.roster.Set(h.host, l.agent())
		}
	}
	return nil
}

// allow reports whether one more frame is within twice the rate at which they are sent.
func (h *hearer) allow(now time.Time) bool {
	h.allowed = min(burst, h.allowed+2*now.Sub(h.counted).Seconds()/frameEvery.Seconds())
	h.counted = now
	if h.allowed < 1 {
		return false
	}
	h.allowed--
	return true
}

func decode(data []byte) (agentLine, error) {
	var l agentLine
	if len(data) > maxLine {
		return l, fault("an agent of %d bytes", len(data))
	}
	if err := json.Unmarshal(data, &l); err != nil {
		return l, fault("an agent that cannot be read")
	}
	if err := envelope.CheckName(l.Name); err != nil { // also one with a host, which would be another's
		return l, fault("%v", err)
	}
	return l, nil
}

// agent is what the roster keeps of a line: what an agent of this host could say of itself,
// and numbers that can be.
func (l agentLine) agent() api.Agent {
	c := card.Card{
		Name: l.Name, Capabilities: l.Capabilities, Description: l.Description, Platform: l.Platform, Accepts: l.Accepts,
	}.Fit()
	a := api.Agent{
		Name: c.Name, Capabilities: append([]string{}, c.Capabilities...), Description: c.Description, Platform: c.Platform, Accepts: c.Accepts,
		Status: card.Offline, Note: card.Presence{Note: l.Note}.Fit().Note, LastSeen: past(l.LastSeen),
	}
	if id, err := envelope.ParseID(l.ID); err == nil {
		a.ID = id
	}
	switch l.Wake {
	case api.WakePush, api.WakeTurnEnd, api.WakeManual, api.WakeNone:
		a.Wake = l.Wake
	}
	switch presence.State(l.Status) {
	case presence.Available, presence.Busy, presence.Ringing, presence.InCall:
		a.Status, a.Since = l.Status, past(l.Since)
		a.Open, a.Unread, a.Listening = count(l.Open), count(l.Unread), l.Listening
	case presence.Offline:
		a.Since = past(l.Since)
	}
	return a
}

// past is a time of another host's, which may have another clock.
func past(at int64) int64 { return max(0, min(at, time.Now().UnixMilli())) }

func count(n int) int { return max(0, min(n, maxCount)) }
