package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// files answers from the files of the home what the daemon would be asked: the way
// where no daemon can be reached. It reads logs from the start, so it is slower.
type files struct {
	home   *maildir.Home
	me     string         // empty for nobody
	box    *mailbox.Box   // of me
	unread map[string]int // of me, by conversation
	refs   *maildir.Refs
}

func (a *app) files() (*files, error) {
	home, err := a.home()
	if err != nil {
		return nil, err
	}
	return a.filesOf(home)
}

func (a *app) filesOf(home *maildir.Home) (*files, error) {
	ids, err := home.Conversations()
	if err != nil {
		return nil, err
	}
	f := &files{home: home, refs: maildir.NewRefs(ids), unread: make(map[string]int)}
	if a.self == nil {
		return f, nil
	}
	f.me, f.box = a.self.Name, mailbox.At(home.AgentDir(a.self.Name))
	items, err := f.box.Unseen()
	if errors.Is(err, fs.ErrNotExist) { // an agent's folder that was made by hand
		f.box, err = mailbox.Open(f.box.Dir())
	}
	for _, item := range items {
		f.unread[item.Conversation]++
	}
	return f, err
}

// offline is files, and says why they are read.
func (a *app) offline(why error) (*files, error) {
	a.note("no daemon can be reached, this is what the files say (%s)", firstLine(why.Error()))
	return a.files()
}

// complete makes a draft fit for a drop: the conversation by its id, recipients that
// exist, and what the sender had been shown when it wrote.
func (f *files) complete(draft *envelope.Envelope) error {
	for _, name := range draft.To {
		if err := f.checkAgent(name); err != nil {
			return err
		}
	}
	if draft.Conversation != "" {
		id, err := f.resolve(draft.Conversation)
		if err != nil {
			return err
		}
		draft.Conversation = id
		if _, fresh := envelope.MadeAt(draft.ID); fresh && draft.Type == envelope.Message {
			draft.After = envelope.Int(f.shownUpTo(id)) // not with a key: a repeat is looked for behind it
		}
	}
	if err := draft.Check(f.home.Config.Limits.Content); err != nil {
		return api.Errorf(api.BadRequest, "%w", err)
	}
	return nil
}

func (f *files) checkAgent(text string) error {
	address, err := envelope.ParseAddress(text)
	if err != nil {
		return api.Errorf(api.BadReference, "%w", err).WithNext("duo who")
	}
	if address.Host != "" && address.Host != f.home.Host.Name {
		return nil
	}
	_, err = f.agent(address.Name)
	return err
}

// shownUpTo is the highest line of a conversation that the agent was shown.
func (f *files) shownUpTo(conversation string) int64 {
	seq := int64(0)
	if cursors, err := f.box.Cursors(); err == nil {
		seq = cursors[conversation].Seen
	}
	seen, err := f.box.Seen()
	if err != nil {
		return seq
	}
	for _, item := range seen {
		if item.Conversation == conversation {
			seq = max(seq, item.Seq)
		}
	}
	return seq
}

// resolve returns the id of the conversation that a reference means.
func (f *files) resolve(ref string) (string, error) {
	switch ids := f.refs.Resolve(ref); len(ids) {
	case 1:
		return ids[0], nil
	case 0:
		return "", api.Errorf(api.ConversationNotFound, "there is no conversation %q here", ref).WithNext("duo list")
	default:
		return "", api.Errorf(api.AmbiguousReference, "%q can mean %d conversations", ref, len(ids)).WithNext("duo list")
	}
}

// left tells what became of a drop with the message id: where it is in its log, or
// no conversation while it waits.
func (f *files) left(id string) (conversation string, seq int64, found bool, err error) {
	if f.box.Waiting(id) {
		return "", 0, true, nil
	}
	name := id + ".json"
	if failed, err := f.box.FailedDrops(); err == nil && slices.Contains(failed, name) {
		path := filepath.Join(f.box.Dir(), mailbox.Failed, name)
		return "", 0, true, api.Errorf(api.NotSent, "the message was not sent: %s", f.box.FailureOf(name)).WithNext("cat %s", shellQuote(path))
	}
	data, err := os.ReadFile(filepath.Join(f.box.Dir(), mailbox.Sent, name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", 0, false, nil
	}
	if err != nil {
		return "", 0, false, fmt.Errorf("read sent drop: %w", err)
	}
	e, err := envelope.Decode(data)
	if err != nil {
		return "", 0, false, fmt.Errorf("read sent drop: %w", err)
	}
	return e.Conversation, e.Seq, true, nil
}

// register makes the agent's folder and card.
func (f *files) register(r api.Register) (api.Registered, error) {
	dir := f.home.AgentDir(r.Name)
	if _, err := mailbox.Open(dir); err != nil {
		return api.Registered{}, err
	}
	c, err := card.Read(dir)
	created := errors.Is(err, fs.ErrNotExist)
	if err != nil && !created {
		return api.Registered{}, err
	}
	c.Name, c.Unregistered = r.Name, false
	c.ID = cmp.Or(c.ID, envelope.NewID())
	replace(&c.Capabilities, r.Capabilities)
	replace(&c.Description, r.Description)
	replace(&c.Platform, r.Platform)
	if err := c.Check(); err != nil {
		return api.Registered{}, api.Errorf(api.BadRequest, "%w", err)
	}
	return api.Registered{Agent: f.describe(c), Created: created}, c.Write(dir)
}

func replace[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}

func (f *files) describe(c card.Card) api.Agent {
	agent := api.Agent{
		ID: c.ID, Name: c.Name, Address: f.home.Address(c.Name).String(), Capabilities: append([]string{}, c.Capabilities...),
		Description: c.Description, Platform: c.Platform, Unregistered: c.Unregistered, Folder: f.home.AgentDir(c.Name),
	}
	if items, err := mailbox.At(agent.Folder).Unseen(); err == nil {
		agent.Unread = len(items)
	}
	return agent
}

func (f *files) agent(name string) (api.Agent, error) {
	c, err := readCard(f.home, name)
	if errors.Is(err, fs.ErrNotExist) {
		return api.Agent{}, api.Errorf(api.AgentNotFound, "there is no agent %q here", name).WithNear(agentsLike(f.home, name)).WithNext("duo who")
	}
	if err != nil {
		return api.Agent{}, err
	}
	return f.describe(c), nil
}

// agents lists the agents that have all the capabilities and all the words.
func (f *files) agents(text string, capabilities []string) (api.Agents, error) {
	list := api.Agents{Agents: []api.Agent{}}
	names, err := f.home.Agents()
	if err != nil {
		return list, err
	}
	for _, name := range names {
		agent, err := f.agent(name)
		if err == nil && !agent.Unregistered && able(agent, capabilities) && mentions(agent, text) {
			list.Agents = append(list.Agents, agent)
		}
	}
	return list, nil
}

func able(agent api.Agent, capabilities []string) bool {
	for _, want := range capabilities {
		if !slices.ContainsFunc(agent.Capabilities, func(has string) bool { return strings.EqualFold(has, want) }) {
			return false
		}
	}
	return true
}

func mentions(agent api.Agent, text string) bool {
	about := strings.ToLower(strings.Join(slices.Concat(agent.Capabilities, []string{agent.Name, agent.Description, agent.Platform}), " "))
	for _, word := range strings.Fields(strings.ToLower(text)) {
		if !strings.Contains(about, word) {
			return false
		}
	}
	return true
}

// find tells what a reference names.
func (f *files) find(ref string) (found api.Found, err error) {
	if address, err := envelope.ParseAddress(ref); err == nil {
		agent, err := f.agent(address.Name)
		if err == nil || !isConversation(ref) {
			return api.Found{Agent: &agent}, err
		}
	}
	text, seq, err := splitRef(ref)
	if err != nil {
		return found, err
	}
	id, err := f.resolve(text)
	if err != nil {
		return found, err
	}
	if seq > 0 {
		m, err := f.message(id, seq)
		return api.Found{Message: &m}, err
	}
	c, err := f.conversation(id)
	return api.Found{Conversation: &c}, err
}

// state folds the log of a conversation.
func (f *files) state(id string) (conv.State, error) {
	state := conv.State{ID: id}
	log, err := convlog.OpenReader(f.home.LogPath(id))
	if err != nil {
		return state, err
	}
	defer log.Close()
	scan := log.Scan(convlog.Pos{})
	for scan.Next() {
		if scan.Line().Noise() {
			continue
		}
		if e, err := envelope.Decode(scan.Line().Bytes); err == nil {
			state = state.Apply(e)
		}
	}
	return state, scan.Err()
}

func (f *files) conversation(id string) (api.Conversation, error) {
	state, err := f.state(id)
	var damage *convlog.DamageError
	if err != nil && !errors.As(err, &damage) {
		return api.Conversation{}, err
	}
	c := api.Conversation{
		ID: id, Ref: f.refs.Short(id), Topic: state.Topic, Mode: state.Mode, Open: state.Open, TurnLimit: state.TurnLimit,
		Turns: state.Turns, Creator: state.Creator.String(), Participants: []string{}, Status: "active", Reason: state.Reason,
		LastSeq: state.LastSeq, LastTime: state.LastTime, CreatedAt: state.CreatedAt, Unread: f.unread[id], Log: f.home.LogPath(id),
	}
	if state.Closed {
		c.Status = "closed"
	}
	if damage != nil {
		c.Status, c.Reason = "damaged", damage.Error()
	}
	for _, m := range state.Members {
		if m.Present() {
			c.Participants = append(c.Participants, m.Address.String())
		} else {
			c.Left = append(c.Left, m.Address.String())
		}
	}
	return c, nil
}

func (f *files) conversations(status, with string, limit int) (api.Conversations, error) {
	list := api.Conversations{Conversations: []api.Conversation{}}
	ids, err := f.box.Conversations()
	if err != nil {
		return list, err
	}
	current, _ := f.box.Current() // a mark in the list, no more
	for _, id := range ids {
		c, err := f.conversation(id)
		if err != nil || status != "" && c.Status != status || !f.with(c, with) {
			continue
		}
		c.Current = id == current
		list.Conversations = append(list.Conversations, c)
	}
	slices.SortFunc(list.Conversations, func(a, b api.Conversation) int { return cmp.Compare(b.LastTime, a.LastTime) })
	if over := len(list.Conversations) - limit; over > 0 {
		list.Conversations, list.More = list.Conversations[:limit], over
	}
	return list, nil
}

func (f *files) with(c api.Conversation, name string) bool {
	full := name
	if !strings.Contains(name, "@") {
		full += "@" + f.home.Host.Name
	}
	return name == "" || slices.ContainsFunc(slices.Concat(c.Participants, c.Left), func(has string) bool {
		return strings.EqualFold(has, full)
	})
}

// message reads one line as it is shown to somebody.
func (f *files) message(id string, seq int64) (api.Message, error) {
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
	return api.Message{Envelope: e, Ref: fmt.Sprintf("%s.%d", f.refs.Short(id), seq), Topic: first.Topic, Crossed: crossing(log, e)}, nil
}

func (f *files) line(log *convlog.Reader, id string, seq int64) (*envelope.Envelope, error) {
	line, err := log.At(seq)
	if errors.Is(err, convlog.ErrNoLine) {
		return nil, api.Errorf(api.MessageNotFound, "conversation %s has no line %d", f.refs.Short(id), seq).WithNext("duo log %s", f.refs.Short(id))
	}
	if err != nil {
		return nil, err
	}
	return envelope.Decode(line.Bytes)
}

// crossing lists messages by others that the sender of e had not been shown.
func crossing(log *convlog.Reader, e *envelope.Envelope) []int64 {
	if e.Type != envelope.Message || e.After == nil || *e.After >= e.Seq-1 {
		return nil
	}
	scan, err := log.Since(*e.After)
	if err != nil {
		return nil
	}
	var list []int64
	for scan.Next() && scan.Pos().Seq < e.Seq {
		other, err := envelope.Decode(scan.Line().Bytes)
		if err == nil && !scan.Line().Noise() && other.Type == envelope.Message && !other.From.Same(e.From) && other.Seq != e.ReplyTo.Seq {
			list = append(list, other.Seq)
		}
	}
	return list
}

// unseen returns what is in the inbox and was not seen, of a conversation or, for an
// empty reference, of all.
func (f *files) unseen(ref string, limit int) (api.Messages, error) {
	list := api.Messages{Messages: []api.Message{}}
	items, err := f.box.Unseen()
	if err != nil {
		return list, err
	}
	if ref != "" {
		id, err := f.resolve(ref)
		if err != nil {
			return list, err
		}
		items = slices.DeleteFunc(items, func(i mailbox.Item) bool { return i.Conversation != id })
	}
	for _, item := range items[:min(len(items), limit)] {
		m, err := f.message(item.Conversation, item.Seq)
		if err != nil {
			return list, err
		}
		list.Messages = append(list.Messages, m)
	}
	list.More = max(0, len(items)-limit)
	return list, nil
}

// read returns the messages that are named, or all that are unseen.
func (f *files) read(what api.Read) (api.Messages, error) {
	if len(what.Refs) == 0 {
		return f.unseen("", what.Limit)
	}
	list := api.Messages{Messages: []api.Message{}}
	for _, ref := range what.Refs {
		text, seq, err := splitRef(ref)
		if err != nil {
			return list, err
		}
		more := api.Messages{}
		if seq == 0 {
			more, err = f.unseen(text, what.Limit)
		} else {
			more.Messages, err = f.one(text, seq)
		}
		if err != nil {
			return list, err
		}
		list.Messages = append(list.Messages, more.Messages...)
		list.More += more.More
	}
	return list, nil
}

func (f *files) one(ref string, seq int64) ([]api.Message, error) {
	id, err := f.resolve(ref)
	if err != nil {
		return nil, err
	}
	m, err := f.message(id, seq)
	return []api.Message{m}, err
}

func (f *files) inbox(limit int) (api.Inbox, error) {
	inbox := api.Inbox{Items: []api.InboxItem{}}
	list, err := f.unseen("", limit)
	if err != nil {
		return inbox, err
	}
	for _, m := range list.Messages {
		e := m.Envelope
		inbox.Items = append(inbox.Items, api.InboxItem{
			Ref: m.Ref, Conversation: e.Conversation, Seq: e.Seq, Topic: m.Topic, Type: string(e.Type), Event: e.Event,
			From: e.From.String(), Timestamp: e.Timestamp, Preview: strings.Join(strings.Fields(e.Content), " "), Size: len(e.Content),
		})
	}
	inbox.More = list.More
	failed, err := f.box.FailedDrops()
	if err != nil {
		return inbox, err
	}
	for _, name := range failed[:min(len(failed), limit)] {
		path := filepath.Join(f.box.Dir(), mailbox.Failed, name)
		inbox.Failed = append(inbox.Failed, api.FailedDrop{File: path, Error: f.box.FailureOf(name)})
	}
	return inbox, nil
}

// shown moves messages from new to cur; the daemon notices when it runs.
func (f *files) shown(messages []api.Message) error {
	for _, m := range messages {
		item := mailbox.ItemOf(m.Envelope.Conversation, m.Envelope.Seq, m.Envelope.Timestamp)
		if _, err := f.box.MarkSeen(item.Name); err != nil {
			return err
		}
	}
	return nil
}

// transcript reads the log of a conversation.
func (f *files) transcript(ref string) (transcript, error) {
	id, err := f.resolve(ref)
	if err != nil {
		return transcript{}, err
	}
	c, err := f.conversation(id)
	read := func(s client.Span) (io.ReadCloser, error) { return f.lines(c, s) }
	return transcript{conversation: c, read: read}, err
}

func (f *files) lines(c api.Conversation, s client.Span) (io.ReadCloser, error) {
	log, err := convlog.OpenReader(f.home.LogPath(c.ID))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	before := cmp.Or(s.Before, math.MaxInt64)
	if s.Last > 0 {
		s.After = max(s.After, min(before-1, c.LastSeq)-int64(s.Last))
	}
	scan, err := log.Since(s.After)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for n := 0; (s.Limit == 0 || n < s.Limit) && scan.Next() && scan.Pos().Seq < before; {
		if !scan.Line().Noise() {
			n++
			out.Write(append(scan.Line().Bytes, '\n'))
		}
	}
	return io.NopCloser(&out), scan.Err()
}
