package attend

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// lookAgain is when an item is looked at again that somebody else acts on: who dies gives
// it back without a word.
const lookAgain = time.Second

// look does what there is to do for a name of the queue.
func (a *Attendant) look(ctx context.Context, name string) {
	var again time.Duration
	var err error
	if ref, ok := strings.CutPrefix(name, callMark); ok {
		again, err = a.lookCall(ref)
	} else {
		again, err = a.lookConversation(ctx, name)
	}
	if err != nil && a.runs.Err() == nil {
		a.tell(Event{What: Trouble, Error: err.Error()})
		again = lookAgain
	}
	if again > 0 && !a.once {
		a.queue.AddAfter(name, again)
	}
}

// lookConversation answers what was not seen in a conversation, in order, until nothing is
// left, somebody else has what comes next, or ctx ends.
func (a *Attendant) lookConversation(ctx context.Context, id string) (again time.Duration, err error) {
	for ctx.Err() == nil {
		unseen, err := a.unseen(id)
		if err != nil || len(unseen) == 0 {
			return 0, err
		}
		if wait := a.asked.wait(unseen[0].Envelope, a.parts.Now(), a.Yield); wait > 0 && !a.once {
			return wait, nil
		}
		if again, err = a.act(id, unseen); err != nil || again > 0 {
			return again, err
		}
	}
	return 0, nil
}

// maxBatch is how many messages the command gets at once.
const maxBatch = 20

// unseen are the first lines of a conversation that were not seen and can be read, as many
// as the command gets at once.
func (a *Attendant) unseen(id string) ([]api.Message, error) {
	limit := maxBatch
	if a.Each {
		limit = 1
	}
	list, err := insist(a.runs, a, func(ctx context.Context, c *client.Client) (api.Messages, error) {
		return c.Read(ctx, api.Read{Refs: []string{id}, Limit: limit})
	})
	return slices.DeleteFunc(list.Messages, func(m api.Message) bool { return m.Error != "" }), err
}

// act deals with lines of a conversation under a lease: with the first ones, up to one
// that somebody else has. The time says when to look again where that is the first.
func (a *Attendant) act(id string, lines []api.Message) (again time.Duration, err error) {
	items := make([]string, len(lines))
	for i, m := range lines {
		items[i] = mailbox.ItemOf(id, m.Envelope.Seq, m.Envelope.Timestamp).Name
	}
	mine, err := a.parts.Leases.Take(items...)
	if err != nil {
		return 0, err
	}
	defer func() {
		if returned := a.parts.Leases.Return(mine...); err == nil {
			err = returned
		}
	}()
	n := 0
	for n < len(items) && slices.Contains(mine, items[n]) {
		n++
	}
	if n == 0 {
		return lookAgain, nil
	}
	left, err := a.unseen(id) // who has had the lease before may have dealt with some
	if err != nil {
		return 0, err
	}
	last := lines[n-1].Envelope.Seq
	left = slices.DeleteFunc(left, func(m api.Message) bool { return m.Envelope.Seq > last })
	if len(left) == 0 {
		return 0, nil
	}
	if err := a.deal(a.runs, left); err != nil {
		return 0, err
	}
	a.asked.forget(id)
	_, err = insist(a.runs, a, func(ctx context.Context, c *client.Client) (struct{}, error) {
		return struct{}{}, c.Shown(ctx, places(left))
	})
	return 0, err
}

func places(lines []api.Message) []api.Place {
	list := make([]api.Place, len(lines))
	for i, m := range lines {
		list[i] = place(m.Envelope)
	}
	return list
}

// asked knows in which conversations the agent has said something itself, not by a reply
// of an attendant: who has asked may be waiting for the answer, a command that runs for
// another message among them.
type asked struct {
	mu   sync.Mutex
	runs map[*run]bool
	of   map[string]*question // by conversation
}

// run is one run of the command. It is not empty, so that each has an address of its own.
type run struct{ _ byte }

// question is the last thing that the agent has said itself in a conversation.
type question struct {
	during []*run    // commands that ran then
	answer int64     // the line that came next
	came   time.Time // when that one was looked at first
}

const maxAsked = 4096

// note takes a line of the agent's own: a message, or the beginning of a call.
func (q *asked) note(e *envelope.Envelope) {
	_, fresh := envelope.MadeAt(e.ID) // ids of replies follow from what they answer
	called := e.Event == envelope.EventCreate && e.Request != ""
	if !called && (e.Type != envelope.Message || !fresh) {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.of) >= maxAsked {
		clear(q.of) // what is forgotten is only waited for less
	}
	asked := &question{}
	for r := range q.runs {
		asked.during = append(asked.during, r)
	}
	q.of[e.Conversation] = asked
}

// wait is how long a message is left to who may be waiting for it: as long as a command
// runs that may have asked, and for some time after it came.
func (q *asked) wait(e *envelope.Envelope, now time.Time, yield time.Duration) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	asked, ok := q.of[e.Conversation]
	if !ok {
		return 0
	}
	if asked.answer != e.Seq {
		asked.answer, asked.came = e.Seq, now
	}
	if slices.ContainsFunc(asked.during, func(r *run) bool { return q.runs[r] }) {
		return lookAgain
	}
	return max(0, yield-now.Sub(asked.came))
}

func (q *asked) forget(conversation string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.of, conversation)
}

// begin notes that a command runs, until end is called.
func (q *asked) begin() (end func()) {
	r := &run{}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.runs == nil {
		q.runs = make(map[*run]bool)
	}
	q.runs[r] = true
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		delete(q.runs, r)
	}
}
