package neighbors

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"math/bits"
	"strings"
	"sync"
	"time"

	"github.com/claude-duo/duo/daemon/presence"
	"github.com/claude-duo/duo/daemon/roster"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
)

const (
	frameEvery = 2 * time.Second  // of changes
	depthEvery = 15 * time.Second // a look at who has more to do, or less
	maxChanges = 50               // agents in a frame of changes
	maxLine    = 16 << 10         // bytes of an agent
)

// agentLine is an agent as a frame has it.
type agentLine struct {
	Name         string   `json:"name"`
	ID           string   `json:"id,omitempty"`
	Capabilities []string `json:"capabilities,omitempty"`
	Description  string   `json:"description,omitempty"`
	Platform     string   `json:"platform,omitempty"`
	Accepts      string   `json:"accepts,omitempty"`
	Status       string   `json:"status,omitempty"`
	Note         string   `json:"note,omitempty"`
	Since        int64    `json:"since,omitempty"`
	LastSeen     int64    `json:"lastSeen,omitempty"`
	Open         int      `json:"open,omitempty"`
	Unread       int      `json:"unread,omitempty"`
	Listening    bool     `json:"listening,omitempty"`
	Wake         string   `json:"wake,omitempty"`
	Gone         bool     `json:"gone,omitempty"` // there is no such agent any more
}

// header of a frame.
type header struct {
	Snapshot bool `json:"snapshot,omitempty"` // this is all of them, a part of it
	Last     bool `json:"last,omitempty"`     // the last part
}

// teller tells a peer who is here.
type teller struct {
	Parts
	session *peer.Session
	wake    chan struct{}

	mu      sync.Mutex
	pending []string // names in lower case, each once, the longest waiting first
	waits   map[string]struct{}

	told map[string]uint64 // sums of what the peer was told of each agent; of the goroutine that tells
	seed maphash.Seed
}

func newTeller(parts Parts, s *peer.Session) *teller {
	return &teller{
		Parts: parts, session: s, wake: make(chan struct{}, 1), waits: make(map[string]struct{}), told: make(map[string]uint64),
		seed: maphash.MakeSeed(),
	}
}

// changed says that there is something to tell of an agent.
func (t *teller) changed(agent string) {
	name := strings.ToLower(agent)
	t.mu.Lock()
	if _, ok := t.waits[name]; !ok {
		t.waits[name] = struct{}{}
		t.pending = append(t.pending, name)
	}
	t.mu.Unlock()
	t.nudge()
}

// nudge makes the one who tells look again.
func (t *teller) nudge() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// next takes the agent out that has waited longest.
func (t *teller) next() (name string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.pending) == 0 {
		return "", false
	}
	name, t.pending = t.pending[0], t.pending[1:]
	delete(t.waits, name)
	return name, true
}

// run tells until the link ends. What was heard meanwhile is noted for the next start.
func (t *teller) run(heard <-chan struct{}) {
	ctx := t.session.Context()
	if t.snapshot(ctx) != nil {
		return // the link has ended
	}
	depth := time.NewTimer(depthEvery)
	defer depth.Stop()
	progress := t.Progress()
	wake, rest := t.wake, (<-chan time.Time)(nil)
	for {
		select {
		case <-ctx.Done():
			return
		case <-heard:
			heard = nil
			t.Roster.Note(t.session.Name)
		case <-wake:
			sent, err := t.changes(ctx)
			if err != nil {
				return
			}
			if sent {
				wake, rest = nil, time.After(frameEvery)
			}
		case <-rest:
			wake, rest = t.wake, nil
			t.nudge()
		case <-progress: // an idle host does not look
			progress = nil
			depth.Reset(depthEvery)
		case <-depth.C:
			if progress == nil {
				progress = t.Progress()
				t.look()
			}
		}
	}
}

// snapshot tells of all agents.
func (t *teller) snapshot(ctx context.Context) error {
	cards := t.Cards.All()
	var lines [][]byte
	size := 0
	for _, c := range cards[:min(len(cards), roster.MaxCrowd)] {
		l, sum := t.line(c)
		data := l.encode()
		if len(lines) == link.MaxLines || size+len(data) > link.Full {
			if err := t.send(ctx, header{Snapshot: true}, lines); err != nil {
				return err
			}
			lines, size = nil, 0
		}
		t.told[strings.ToLower(c.Name)] = sum
		lines, size = append(lines, data), size+len(data)+1
	}
	return t.send(ctx, header{Snapshot: true, Last: true}, lines)
}

// changes tells of some of those of whom there is something new, and reports whether there
// was anybody.
func (t *teller) changes(ctx context.Context) (sent bool, err error) {
	lines := t.news()
	if len(lines) == 0 {
		return false, nil
	}
	return true, t.send(ctx, header{}, lines)
}

// news is what a frame of changes has to tell.
func (t *teller) news() (lines [][]byte) {
	for len(lines) < maxChanges {
		name, ok := t.next()
		if !ok {
			break
		}
		c, ok := t.Cards.Get(name)
		before, told := t.told[name]
		switch {
		case told && (!ok || c.Unregistered):
			delete(t.told, name)
			lines = append(lines, agentLine{Name: name, Gone: true}.encode())
		case !ok || c.Unregistered || !told && len(t.told) >= roster.MaxCrowd:
		default:
			if l, sum := t.line(c); !told || sum != before {
				t.told[name] = sum
				lines = append(lines, l.encode())
			}
		}
	}
	return lines
}

// look finds those who have more to do than the peer was told, or less.
func (t *teller) look() {
	for _, c := range t.Cards.All() {
		name := strings.ToLower(c.Name)
		if before, told := t.told[name]; told && t.Presence(name).State != presence.Offline {
			if _, sum := t.line(c); sum != before {
				t.changed(name)
			}
		}
	}
}

// line is what is told of an agent, and its sum. What an agent has to do is told of those
// who are there, and is worth telling again where it is double or half.
func (t *teller) line(c card.Card) (agentLine, uint64) {
	p := t.Presence(c.Name)
	l := agentLine{
		Name: c.Name, ID: c.ID, Capabilities: c.Capabilities, Description: c.Description, Platform: c.Platform, Accepts: c.Accepts,
		Status: string(p.State), Note: p.Note, Since: p.Since, LastSeen: p.LastSeen,
	}
	l.Wake = t.Wake(c.Name)
	if p.State != presence.Offline {
		a := t.Describe(c)
		l.Open, l.Unread, l.Listening = a.Open, a.Unread, a.Listening
	}
	coarse := l
	coarse.Since, coarse.LastSeen, coarse.Open, coarse.Unread = 0, 0, bits.Len(uint(l.Open)), bits.Len(uint(l.Unread))
	return l, maphash.Bytes(t.seed, coarse.encode())
}

// encode is the line of a frame. One that is too long says less.
func (l agentLine) encode() []byte {
	data, err := json.Marshal(l)
	if err == nil && len(data) > maxLine { // of texts that are escaped
		l.Description, l.Note, l.Capabilities = "", "", nil
		data, err = json.Marshal(l)
	}
	if err != nil {
		panic(fmt.Sprintf("encode agent: %v", err)) // texts and numbers always encode
	}
	return data
}

func (t *teller) send(ctx context.Context, h header, lines [][]byte) error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return t.session.Send(ctx, link.Frame{Type: frameType, Lane: link.Presence, Header: data, Lines: lines})
}
