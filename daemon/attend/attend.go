// Package attend makes an agent of any program: it runs a command for what the agent was
// not shown of a conversation, and what the command prints is the reply.
//
// An [Attendant] is a client of the daemon like any other. No message is answered twice,
// whatever crashes and however many attendants the agent has: it is worked on under a
// lease, the id of the reply follows from the message, and it is marked seen after the
// reply is stored. In one conversation there is one run of the command after the other.
//
// Replies are automatic: they say so, and how many automatic ones led to them, so that the
// daemon stops programs that talk to each other for ever. docs/attend.md says what a
// command gets and what comes of what it does.
package attend

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/work"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

const (
	firstRest = 200 * time.Millisecond // before the daemon is asked again
	maxRest   = 5 * time.Second
	maxInbox  = 500
)

// Options say how an agent is attended. The zero value of a field is what its comment says.
type Options struct {
	Agent   envelope.Address // who is attended
	Input   Input            // what the command gets; Text
	Each    bool             // the command gets each message alone
	History int              // earlier messages of the conversation that it gets, too; none
	Retries int              // of a command that fails; none
	Backoff time.Duration    // before the first retry, doubled before each other one; none
	Workers int              // conversations at once; 1
	Calls   Calls            // which are accepted; none is answered
	Hops    int64            // automatic messages in a row that the daemon takes; no limit
	Grace   time.Duration    // for commands that run when the attendant is to end; none
	Yield   time.Duration    // how long an answer to what the agent has asked itself is left to who waits for it; not at all
}

// Leases see to it that of all that act for an agent one has an item of its inbox.
type Leases interface {
	// Take returns those of the items that are this attendant's now, or were before.
	Take(items ...string) (mine []string, err error)
	// Return gives items back.
	Return(items ...string) error
}

// Runner runs the command for one message.
type Runner interface {
	// Run gives the command its input, and variables beside those that it has anyway.
	Run(ctx context.Context, input []byte, env []string) (Result, error)
}

// Parts are what an attendant works with.
type Parts struct {
	Dial   func(ctx context.Context) (*client.Client, error) // to the daemon, as the agent
	Leases Leases
	Runner Runner
	Box    *mailbox.Box // of the agent, for what cannot be sent
	Tell   func(Event)  // what happens; by several goroutines at once
	Now    func() time.Time
	Pause  func(ctx context.Context, d time.Duration) // returns early when ctx ends
}

// Attendant answers for one agent.
type Attendant struct {
	Options
	parts  Parts
	queue  *work.Queue // ids of conversations, and of calls behind callMark
	link   atomic.Pointer[client.Client]
	once   bool            // what others hold is let be
	runs   context.Context // of commands and what follows them: it outlasts the taking by Grace
	asked  asked
	failed atomic.Int64 // messages that were set aside
}

// New returns an attendant; Run or Once starts it.
func New(o Options, p Parts) *Attendant {
	o.Workers = max(1, o.Workers)
	if o.Input == "" {
		o.Input = Text
	}
	return &Attendant{Options: o, parts: p, queue: work.New(), asked: asked{of: make(map[string]*question)}}
}

// Run answers until ctx ends, also over restarts of the daemon. When ctx ends nothing more
// is begun, and what runs has Grace to come to its end. The error tells why the daemon does
// not want the agent attended.
func (a *Attendant) Run(ctx context.Context) error {
	return a.work(ctx, a.follow)
}

// Once answers what waits, and returns how many messages could not be answered.
func (a *Attendant) Once(ctx context.Context) (failed int, err error) {
	a.once = true
	err = a.work(ctx, a.sweep)
	return int(a.failed.Load()), err
}

// work runs the workers as long as find finds work for them.
func (a *Attendant) work(ctx context.Context, find func(context.Context) error) error {
	runs, kill := context.WithCancel(context.WithoutCancel(ctx))
	taking, stop := context.WithCancel(ctx)
	a.runs = runs
	var workers, watch sync.WaitGroup
	watch.Go(func() {
		<-taking.Done()
		a.parts.Pause(runs, a.Grace)
		kill()
	})
	workers.Go(func() { a.queue.Run(taking, a.Workers, a.look) })
	err := find(taking)
	stop()
	workers.Wait()
	kill()
	watch.Wait()
	return err
}

// follow keeps a stream open, and looks at what it brings. Once one was open, it comes
// back after every end of it.
func (a *Attendant) follow(ctx context.Context) error {
	rest, live := firstRest, false
	for {
		opened := a.parts.Now()
		err := a.listen(ctx, func() { live = true })
		switch {
		case ctx.Err() != nil:
			return nil
		case !client.Unreachable(err) || !live:
			return err
		}
		a.tell(Event{What: Lost, Error: err.Error()})
		if a.parts.Now().Sub(opened) > maxRest {
			rest = firstRest
		}
		a.parts.Pause(ctx, rest)
		rest = min(2*rest, maxRest)
	}
}

// listen queues what one stream brings. The lines themselves are let be: what has to be
// answered is what the inbox has.
func (a *Attendant) listen(ctx context.Context, opened func()) error {
	c, err := a.dial(ctx)
	if err != nil {
		return err
	}
	stream, err := c.Stream(ctx, api.StreamRequest{Own: true})
	if err != nil {
		return err
	}
	defer stream.Close() //nolint:errcheck // what was confirmed is known to the daemon
	opened()
	a.tell(Event{What: Listening})
	for {
		m, err := stream.Next(ctx)
		if err != nil {
			return err
		}
		switch e := m.Envelope; {
		case e.Seq == 0 && e.Type == envelope.Call:
			a.queue.Add(callMark + e.Request)
		case e.Seq == 0:
		case e.By(a.Agent):
			a.asked.note(e)
		default:
			if err := stream.Confirm(place(e), api.Delivered); err != nil {
				return err
			}
			a.queue.Add(e.Conversation)
		}
	}
}

func place(e *envelope.Envelope) api.Place {
	return api.Place{Conversation: e.Conversation, Seq: e.Seq}
}

// sweep looks at all that waits, until nothing new does.
func (a *Attendant) sweep(ctx context.Context) error {
	if _, err := a.dial(ctx); err != nil {
		return err
	}
	tried := make(map[string]bool)
	for {
		inbox, err := insist(ctx, a, func(ctx context.Context, c *client.Client) (api.Inbox, error) { return c.Inbox(ctx, maxInbox) })
		if err != nil {
			return err
		}
		fresh := false
		for _, item := range inbox.Items {
			if tried[item.Ref+item.Status] {
				continue
			}
			tried[item.Ref+item.Status] = true
			fresh = true
			if item.Type == string(envelope.Call) {
				a.queue.Add(callMark + item.Ref)
			} else if item.Seq > 0 {
				a.queue.Add(item.Conversation)
			}
		}
		if !fresh {
			return nil
		}
		if err := a.queue.Settle(ctx); err != nil {
			return err
		}
	}
}

// dial connects with the daemon anew.
func (a *Attendant) dial(ctx context.Context) (*client.Client, error) {
	c, err := a.parts.Dial(ctx)
	if err == nil {
		a.link.Store(c)
	}
	return c, err
}

// insist asks the daemon until it answers, or ctx ends. What is asked may be asked twice.
// Who is there only once does not wait for a daemon that stays away.
func insist[T any](ctx context.Context, a *Attendant, question func(context.Context, *client.Client) (T, error)) (T, error) {
	var none T
	for rest := firstRest; ; rest = min(2*rest, maxRest) {
		c := a.link.Load()
		var err error
		if c == nil {
			c, err = a.dial(ctx)
		}
		if err == nil {
			var answer T
			if answer, err = question(ctx, c); err == nil {
				return answer, nil
			}
		}
		switch {
		case ctx.Err() != nil:
			return none, ctx.Err()
		case !retryable(err), a.once && rest == maxRest:
			return none, err
		case client.Unreachable(err): // which the stream tells of
			a.link.Store(nil)
		case rest == firstRest:
			a.tell(Event{What: Trouble, Error: err.Error()})
		}
		a.parts.Pause(ctx, rest)
	}
}
