package hook

import (
	"slices"
	"time"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/session"
)

// toolGap is the time between two events of tools that tell something, but for calls
// that ring.
const toolGap = 15 * time.Second

// Item is something that waits in the inbox of the agent.
type Item struct {
	Name     string // of the file
	Ref      string
	Envelope *envelope.Envelope // nil where it cannot be read, or was not needed yet
	Topic    string             // of the conversation
	Direct   bool               // the conversation is between two
	Allowed  bool               // the sender's texts may be shown
}

// state is what an item says of a call now; it is empty for a message.
func (i Item) state() string {
	if !i.signal() {
		return ""
	}
	return string(i.Envelope.Type) + " " + i.Envelope.Status
}

func (i Item) signal() bool { return i.Envelope != nil && i.Envelope.Seq == 0 }

func (i Item) rings() bool {
	return i.signal() && i.Envelope.Type == envelope.Call && i.Envelope.Status == "ringing"
}

// asks reports whether the item is worth a turn of its own: a message, or news of a call.
// Who came and went is told when there is something else to tell, or a turn anyway.
func (i Item) asks() bool {
	return i.Envelope == nil || i.signal() || i.Envelope.Type == envelope.Message
}

// Occasion is what a hook knows when it decides.
type Occasion struct {
	event   event
	Input   Input
	Address envelope.Address // of the agent
	Binding session.Binding  // of the session, as it was
	Now     time.Time
	Others  int // live sessions of the agent besides this one
}

// Shown names the items of which the session was shown the text before: it has taken
// what the hook before has printed, since it goes on. Where it begins anew nobody knows, and
// where it ends before a turn has begun, the model was not asked.
func (o Occasion) Shown() []string {
	if o.event.kind == starts || o.event.kind == wakes || o.event.kind == ends && o.Binding.State == session.Idle {
		return nil
	}
	var names []string
	for _, t := range o.Binding.Told {
		if t.Body {
			names = append(names, t.Item)
		}
	}
	return names
}

// Wanted are those of the items that wait that this event is to tell of.
func (o Occasion) Wanted(waits []Item) []Item {
	fresh := slices.DeleteFunc(slices.Clone(waits), o.told())
	switch o.event.kind {
	case starts:
		return waits
	case prompts:
		return fresh
	case works:
		since := o.Now.UnixMilli() - o.Binding.ToldAt
		if since >= 0 && since < toolGap.Milliseconds() && !slices.ContainsFunc(fresh, Item.rings) {
			return nil
		}
		return fresh
	case stops:
		if o.Input.Continuing || o.stopped() || !slices.ContainsFunc(fresh, Item.asks) {
			return nil
		}
		return fresh
	}
	return nil
}

// stopped reports whether the user, or an error, has ended the turn.
func (o Occasion) stopped() bool { return o.Input.Status != "" && o.Input.Status != "completed" }

// told reports whether the session was told of an item, as it is now. There can be
// thousands.
func (o Occasion) told() func(Item) bool {
	states := make(map[string]string, len(o.Binding.Told))
	for _, t := range o.Binding.Told {
		states[t.Item] = t.State
	}
	return func(i Item) bool {
		state, told := states[i.Name]
		return told && state == i.state()
	}
}

// Decision is what a hook does.
type Decision struct {
	Text    string
	Binding session.Binding // of the session from now on
}

// Decide tells of items that are the session's to act on. All are those that wait.
func (o Occasion) Decide(all, mine []Item, elsewhere int) Decision {
	d := Decision{Binding: o.Binding}
	b := &d.Binding
	b.Hooks = true
	waits := make(map[string]bool, len(all))
	for _, i := range all {
		waits[i.Name] = o.event.kind != starts
	}
	for _, i := range mine {
		waits[i.Name] = false // it is noted anew below
	}
	b.Told = slices.DeleteFunc(slices.Clone(b.Told), func(t session.Told) bool { return !waits[t.Item] })
	text := o.tell(mine, elsewhere)
	d.Text = text.String()
	for _, i := range mine {
		b.Told = append(b.Told, session.Told{Item: i.Name, State: i.state(), Body: text.bodies[i.Name]})
	}
	if len(mine) > 0 {
		b.ToldAt = o.Now.UnixMilli()
	}
	b.State = o.state(len(mine) > 0)
	return d
}

// state is what the session does after the event.
func (o Occasion) state(told bool) string {
	switch o.event.kind {
	case starts:
		if o.Input.Source == "compact" && o.Binding.State == session.Working {
			return session.Working // in the middle of a turn
		}
		return session.Idle
	case stops:
		if !told {
			return session.Idle
		}
	}
	return session.Working
}
