// Package offline is the way where no daemon can be reached: it answers from the files of
// a home what the daemon would be asked, and leaves in the outbox what would be sent. It
// reads logs from the start, so it is slower. What it has read it shows as the daemon
// does, with package show.
package offline

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/show"
	"github.com/claude-duo/duo/daemon/standing"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// Files are the files of a home, as one of its agents sees them. They are read once, when
// they are opened: who looks again opens them again.
type Files struct {
	home  *maildir.Home
	box   *mailbox.Box   // of the agent, nil for nobody
	items []mailbox.Item // that the agent was not shown, oldest first
	refs  *maildir.Refs
	book  *standing.Book // nil where its file cannot be read
}

// Open reads what lies in a home as one of its agents sees it, or for an empty name as
// nobody.
func Open(home *maildir.Home, agent string) (*Files, error) {
	ids, err := home.Conversations()
	if err != nil {
		return nil, err
	}
	f := &Files{home: home, refs: maildir.NewRefs(ids)}
	if book, err := standing.Open(home, time.Now); err == nil {
		f.book = book
	}
	if agent == "" {
		return f, nil
	}
	f.box = mailbox.At(home.AgentDir(agent))
	f.items, err = f.box.Unseen()
	if errors.Is(err, fs.ErrNotExist) { // an agent's folder that was made by hand
		f.box, err = mailbox.Open(f.box.Dir())
	}
	return f, err
}

// Box is the folder of the agent.
func (f *Files) Box() *mailbox.Box { return f.box }

// Resolve returns the id of the conversation that a reference means.
func (f *Files) Resolve(ref string) (string, error) {
	switch ids := f.refs.Resolve(ref); len(ids) {
	case 1:
		return ids[0], nil
	case 0:
		return "", api.Errorf(api.ConversationNotFound, "there is no conversation %q here", ref).WithNext("duo list")
	default:
		return "", api.Errorf(api.AmbiguousReference, "%q can mean %d conversations", ref, len(ids)).WithNext("duo list")
	}
}

// Register makes the agent's folder and card.
func (f *Files) Register(r api.Register) (api.Registered, error) {
	dir := f.home.AgentDir(r.Name)
	c, err := card.Read(dir)
	created := errors.Is(err, fs.ErrNotExist)
	if err == nil || created {
		c, err = show.Registered(f.home, c, r)
	}
	if err == nil { // not before: a folder is an agent
		_, err = mailbox.Open(dir)
	}
	if err != nil {
		return api.Registered{}, err
	}
	return api.Registered{Agent: f.describe(c), Created: created}, c.Write(dir)
}

func (f *Files) describe(c card.Card) api.Agent {
	items, err := mailbox.At(f.home.AgentDir(c.Name)).Unseen()
	if err != nil {
		items = nil // a number only
	}
	a := show.Agent(f.home, c, len(items))
	if f.book == nil { // the daemon will not start before it is repaired, and says so
		return a
	}
	return show.Standing(a, f.book.Of(f.home.Host.ID, c.Name))
}

func (f *Files) Agent(name string) (api.Agent, error) {
	c, err := ReadCard(f.home, name)
	if errors.Is(err, fs.ErrNotExist) {
		return api.Agent{}, api.Errorf(api.AgentNotFound, "there is no agent %q here", name).WithNear(AgentsLike(f.home, name)).WithNext("duo who")
	}
	if err != nil {
		return api.Agent{}, err
	}
	return f.describe(c), nil
}

// Agents lists the agents that a query selects. Whether they are there is not known:
// without a daemon all are offline.
func (f *Files) Agents(q api.AgentQuery) (api.Agents, error) {
	names, err := f.home.Agents()
	if err != nil {
		return api.Agents{}, err
	}
	var cards []card.Card
	for _, name := range names {
		if c, err := ReadCard(f.home, name); err == nil && !c.Unregistered {
			cards = append(cards, c)
		}
	}
	if q.Host != "" && q.Host != f.home.Host.Name {
		return api.Agents{}, f.notOf(q.Host)
	}
	return show.Agents(show.Locals(f.home, cards), q, func(w show.Who) api.Agent { return f.describe(w.Card) }), nil
}

// notOf is the error where something of another host is asked for.
func (f *Files) notOf(host string) error {
	if envelope.CheckHost(host) == nil {
		if _, err := os.Stat(f.home.PeerDir(host)); err == nil {
			return api.Errorf(api.DaemonUnreachable, "without a daemon nothing is known of the agents of %s", host).WithNext("duo up")
		}
	}
	return api.Errorf(api.HostNotFound, "no host named %q is linked with this one, which is %q", host, f.home.Host.Name).WithNext("duo peer list")
}

// Find tells what a reference names. An agent that is named like a conversation that
// there is, is found by its address.
func (f *Files) Find(ctx context.Context, ref string) (api.Found, error) {
	if maildir.IsRequest(ref) && f.box != nil {
		m, err := f.call(ref)
		return api.Found{Message: &m}, err
	}
	text, seq, err := SplitRef(ref)
	id := ""
	if err == nil {
		id, err = f.Resolve(text)
	}
	var refusal *api.Error
	switch {
	case errors.As(err, &refusal) && refusal.Code == api.AmbiguousReference:
		return api.Found{}, err
	case err != nil:
		return f.findAgent(ref, err)
	case seq > 0:
		m, err := f.message(ctx, id, seq)
		return api.Found{Message: &m}, err
	}
	c, err := f.Conversation(id)
	return api.Found{Conversation: &c}, err
}

// SplitRef reads "c9f3a.42" or "c9f3a"; the seq is 0 where there is none.
func SplitRef(ref string) (conversation string, seq int64, err error) {
	if maildir.IsRequest(ref) {
		return "", 0, api.Errorf(api.BadRequest, "%q names a call, not a message", ref).WithNext("duo show %s", ref)
	}
	conversation, seq, ok := maildir.SplitRef(ref)
	if !ok || !maildir.NamesConversation(conversation) {
		return "", 0, api.Errorf(api.BadReference, "%q is no reference: want one like c9f3a or c9f3a.42", ref).WithNext("duo list")
	}
	return conversation, seq, nil
}

// findAgent finds the agent that a text names that names no conversation. Where it can
// name no agent, or looks like the reference of a conversation, otherwise is the error.
func (f *Files) findAgent(text string, otherwise error) (api.Found, error) {
	address, err := envelope.ParseAddress(text)
	if err != nil {
		return api.Found{}, otherwise
	}
	if address.Host != "" && address.Host != f.home.Host.Name {
		return api.Found{}, f.notOf(address.Host)
	}
	agent, err := f.Agent(address.Name)
	if err != nil && maildir.NamesConversation(text) {
		return api.Found{}, otherwise
	}
	return api.Found{Agent: &agent}, err
}

// envelopes runs over the lines of a log behind seq. One that is no envelope has only
// its number.
func envelopes(log *convlog.Reader, seq int64) iter.Seq2[*envelope.Envelope, error] {
	return func(yield func(*envelope.Envelope, error) bool) {
		scan, err := log.Since(seq)
		if err != nil {
			yield(nil, err)
			return
		}
		for scan.Next() {
			if !scan.Line().Noise() && !yield(decoded(scan.Line()), nil) {
				return
			}
		}
		if scan.Err() != nil {
			yield(nil, scan.Err())
		}
	}
}

func decoded(line convlog.Line) *envelope.Envelope {
	e, err := envelope.Decode(line.Bytes)
	if err != nil {
		return &envelope.Envelope{Seq: line.Seq}
	}
	return e
}

// state folds the log of a conversation.
func (f *Files) state(id string) (conv.State, error) {
	var state conv.State
	log, err := convlog.OpenReader(f.home.LogPath(id))
	if err != nil {
		return state, err
	}
	defer log.Close()
	for e, err := range envelopes(log, 0) {
		if err != nil {
			return state, err
		}
		latest := state.LastTime
		state = state.Apply(e)
		state.LastTime = max(latest, state.LastTime)
	}
	return state, nil
}

func (f *Files) Conversation(id string) (api.Conversation, error) {
	state, err := f.state(id)
	var damage *convlog.DamageError
	if err != nil && !errors.As(err, &damage) {
		return api.Conversation{}, err
	}
	state.ID = id
	c := show.Conversation(f.home, f.refs.Short(id), state, len(f.unseenIn(id)))
	if damage != nil {
		c = show.Damaged(c, damage)
	}
	return c, nil
}

func (f *Files) Conversations(q show.Query) (api.Conversations, error) {
	ids, err := f.box.Conversations()
	if err != nil {
		return api.Conversations{}, err
	}
	current, err := f.box.Current()
	if err != nil {
		return api.Conversations{}, err
	}
	list := []api.Conversation{}
	for _, id := range ids {
		c, err := f.Conversation(id)
		if err != nil { // a link to a log that is not there
			continue
		}
		c.Current = id == current
		list = append(list, c)
	}
	out := show.Conversations(list, q)
	for i, c := range out.Conversations {
		out.Conversations[i].Last = f.last(c)
	}
	return out, nil
}

// last tells of the last line of a conversation, where it can be read.
func (f *Files) last(c api.Conversation) *api.Last {
	log, err := convlog.OpenReader(f.home.LogPath(c.ID))
	if err != nil {
		return nil
	}
	defer log.Close()
	e, err := f.line(log, c.ID, c.LastSeq)
	if err != nil {
		return nil
	}
	return show.Last(e)
}

// message reads one line as it is shown to somebody.
func (f *Files) message(_ context.Context, id string, seq int64) (api.Message, error) {
	log, err := convlog.OpenReader(f.home.LogPath(id))
	if err != nil {
		return api.Message{}, err
	}
	defer log.Close()
	first, err := f.line(log, id, 1)
	if err != nil {
		return api.Message{}, err
	}
	e, err := f.line(log, id, seq)
	if err != nil {
		return api.Message{}, err
	}
	topic := conv.State{}.Apply(first).Topic
	m := api.Message{Envelope: e, Ref: show.Ref(f.refs.Short(id), seq), Topic: topic}
	if behind, ok := show.CrossedBehind(e); ok {
		m.Crossed = show.Crossed(e, envelopes(log, behind))
	}
	return m, nil
}

func (f *Files) line(log *convlog.Reader, id string, seq int64) (*envelope.Envelope, error) {
	line, err := log.At(seq)
	if errors.Is(err, convlog.ErrNoLine) {
		return nil, show.NoLine(f.refs.Short(id), seq, lastOf(log))
	}
	if err != nil {
		return nil, err
	}
	return decoded(line), nil
}

// lastOf is the number of the last line that can be read, for an error to name.
func lastOf(log *convlog.Reader) int64 {
	lines, _ := log.Last(1) // with an error, what stands before damage
	if len(lines) == 0 {
		return 0
	}
	return lines[len(lines)-1].Seq
}

// Read returns the messages that are named, or all unseen ones. It changes nothing.
func (f *Files) Read(ctx context.Context, ask api.Read) (api.Messages, error) {
	return f.source().Read(ctx, ask)
}

// source is where the agent's messages come from.
func (f *Files) source() show.Source {
	unseen := func(conversation string) ([]mailbox.Item, error) { return f.unseenIn(conversation), nil }
	return show.Source{
		Refs: f.refs, Line: f.message, Unseen: unseen, Resolve: f.Resolve,
		Calls: f.calls, Call: f.call,
	}
}

// calls lists what the agent was not shown of calls.
func (f *Files) calls() ([]api.Message, error) {
	signals, err := f.box.Signals()
	return f.signals(signals), err
}

// signals reads what the inbox says of calls. What cannot be read now, the daemon says
// again.
func (f *Files) signals(list []mailbox.Signal) []api.Message {
	ids := make([]string, len(list))
	for i, s := range list {
		ids[i] = s.Request
	}
	refs := maildir.NewRequestRefs(ids)
	var messages []api.Message
	for _, s := range list {
		if e, err := f.box.ReadItem(s.Name); err == nil {
			messages = append(messages, show.Call(e, refs))
		}
	}
	return messages
}

// call finds what the inbox says of a call.
func (f *Files) call(ref string) (api.Message, error) {
	signals, err := f.box.AllSignals()
	if err != nil {
		return api.Message{}, err
	}
	for _, m := range f.signals(signals) {
		if strings.EqualFold(m.Ref, ref) || m.Envelope.Request == ref {
			return m, nil
		}
	}
	return api.Message{}, api.Errorf(api.RequestNotFound, "no call %q in the inbox", ref).WithNext("duo inbox")
}

// unseenIn lists what the agent was not shown of a conversation or, for an empty name, of all.
func (f *Files) unseenIn(conversation string) []mailbox.Item {
	if conversation == "" {
		return f.items
	}
	return slices.DeleteFunc(slices.Clone(f.items), func(i mailbox.Item) bool { return i.Conversation != conversation })
}

// Fresh returns what the agent was not shown, of a conversation or, for an empty reference, of
// all.
func (f *Files) Fresh(ctx context.Context, ref string, limit int) (api.Messages, error) {
	ask := api.Read{Limit: limit}
	if ref != "" {
		id, err := f.Resolve(ref)
		if err != nil {
			return api.Messages{}, err
		}
		ask.Refs = []string{id}
	}
	return f.source().Read(ctx, ask)
}

func (f *Files) Inbox(ctx context.Context, limit int) (api.Inbox, error) {
	inbox, err := f.source().Inbox(ctx, limit, api.Cursor{})
	if err != nil {
		return api.Inbox{}, err
	}
	inbox.Failed = show.Failed(f.box)
	return inbox, nil
}

// Shown moves messages from new to cur; the daemon notices when it runs.
func (f *Files) Shown(messages []api.Message) error {
	for _, m := range messages {
		name := mailbox.ItemOf(m.Envelope.Conversation, m.Envelope.Seq, m.Envelope.Timestamp).Name
		if m.Envelope.Seq == 0 {
			name = f.signalName(m.Envelope.Request)
		}
		if _, err := f.box.MarkSeen(name); err != nil {
			return err
		}
	}
	return nil
}

// signalName is the file of what the agent was told of a call.
func (f *Files) signalName(request string) string {
	signals, _ := f.box.Signals() // or there is nothing to be moved
	i := slices.IndexFunc(signals, func(s mailbox.Signal) bool { return s.Request == request })
	if i < 0 {
		return "none"
	}
	return signals[i].Name
}

// Lines returns a part of a conversation's log as it stands there.
func (f *Files) Lines(c api.Conversation, s client.Span) (io.ReadCloser, error) {
	log, err := convlog.OpenReader(f.home.LogPath(c.ID))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	var out bytes.Buffer
	_, err = show.Span(s).Write(&out, log, c.LastSeq)
	return io.NopCloser(&out), err
}
