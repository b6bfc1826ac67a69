package daemontest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/fsck"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// room is a conversation of agents of several hosts who do everything that agents can.
type room struct {
	t     *testing.T
	hosts []*remote
	names []string // of an agent of each host; of the second one Eli comes and goes as well
	id    string

	stop    chan struct{}
	writers sync.WaitGroup

	mu    sync.Mutex
	texts []string                     // each stands in the log once
	files map[string]map[string]string // content by sum, by text
	calls []string                     // that were accepted
}

// newRoom makes a room on hosts that are linked with the first one.
func newRoom(t *testing.T, names []string, hosts ...*remote) *room {
	t.Helper()
	r := &room{t: t, hosts: hosts, names: names, stop: make(chan struct{}), files: make(map[string]map[string]string)}
	draft := &envelope.Envelope{Type: envelope.Create, Topic: "the room", Mode: "async", Open: true}
	for i, h := range hosts {
		h.register(names[i])
		if i > 0 {
			draft.To = append(draft.To, names[i]+"@"+h.name)
		}
	}
	hosts[1].register("Eli")
	posted, err := insist(t, func(ctx context.Context) (api.Posted, error) { return hosts[0].as(names[0]).Post(ctx, draft) })
	if err != nil {
		t.Fatal(err)
	}
	r.id = posted.Conversation.ID
	return r
}

// insist is stubborn, also where what is asked about is on its way from another host.
func insist[T any](t *testing.T, do func(ctx context.Context) (T, error)) (T, error) {
	t.Helper()
	return stubborn(func(ctx context.Context) (T, error) {
		got, err := do(ctx)
		var problem *api.Error
		if errors.As(err, &problem) {
			switch problem.Code {
			case api.ConversationNotFound, api.NotParticipant, api.RequestNotFound, api.AgentNotFound, api.MessageNotFound:
				err = api.Errorf(api.Busy, "%w", err)
			}
		}
		return got, err
	})
}

// write does everything again and again until quiet is called.
func (r *room) write() {
	for i := range r.hosts {
		r.again(50*time.Millisecond, func(n int) { r.drop(i, n) })
		r.again(50*time.Millisecond, func(n int) { r.shell(i, n) })
		r.again(100*time.Millisecond, func(n int) { r.file(i, n) })
	}
	r.again(50*time.Millisecond, r.visit)
	r.again(100*time.Millisecond, r.call)
}

func (r *room) again(every time.Duration, do func(n int)) {
	r.writers.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-r.stop:
				return
			case <-time.After(every):
				do(n)
			}
		}
	})
}

func (r *room) quiet() {
	close(r.stop)
	r.writers.Wait()
}

// said notes a text of which one line has to stand in the log.
func (r *room) said(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.texts = append(r.texts, text)
}

// drop drops a message.
func (r *room) drop(i, n int) {
	text := fmt.Sprintf("%s drops %d.", r.names[i], n)
	dir, name := r.hosts[i].home().AgentDir(r.names[i]), fmt.Sprintf("%d.json", n)
	temp := filepath.Join(dir, mailbox.OutboxTmp, name)
	err := os.WriteFile(temp, fmt.Appendf(nil, `{"conversation":%q,"content":%q}`, r.id, text), 0o600)
	if err == nil {
		err = os.Rename(temp, filepath.Join(dir, mailbox.OutboxNew, name))
	}
	if err != nil {
		r.t.Error(err)
		return
	}
	r.said(text)
}

// shell appends to the log, or the copy of it, as a shell does.
func (r *room) shell(i, n int) {
	text := fmt.Sprintf("%s appends %d.", r.names[i], n)
	log, err := os.OpenFile(r.hosts[i].home().LogPath(r.id), os.O_APPEND|os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) { // it is on its way
		return
	}
	if err == nil {
		_, err = fmt.Fprintf(log, "\n{\"from\":%q,\"content\":%q}\n", r.names[i], text)
		err = errors.Join(err, log.Close())
	}
	if err != nil {
		r.t.Error(err)
		return
	}
	r.said(text)
}

// file says something with a file.
func (r *room) file(i, n int) {
	text := fmt.Sprintf("%s sends %d.", r.names[i], n)
	content := strings.Repeat(text, 1+rand.IntN(10_000))
	c := r.hosts[i].as(r.names[i])
	a, err := insist(r.t, func(ctx context.Context) (envelope.Attachment, error) {
		return c.Upload(ctx, "a.txt", "", strings.NewReader(content), int64(len(content)))
	})
	if err == nil {
		err = r.post(c, &envelope.Envelope{Content: text, Attachments: []envelope.Attachment{a}})
	}
	if err != nil {
		r.t.Errorf("%q: %v", text, err)
		return
	}
	r.mu.Lock()
	r.files[text] = map[string]string{a.SHA256: content}
	r.mu.Unlock()
}

func (r *room) post(c *client.Client, draft *envelope.Envelope) error {
	draft.ID, draft.Conversation = tokenID(draft.Content+string(draft.Type)), r.id
	if draft.Type == "" {
		draft.Type = envelope.Message
		r.said(draft.Content)
	} else {
		draft.ID, draft.Content = tokenID(draft.Content+string(draft.Type)), ""
	}
	_, err := insist(r.t, func(ctx context.Context) (api.Posted, error) { return c.Post(ctx, draft) })
	return err
}

// visit makes Eli come, say something and go.
func (r *room) visit(n int) {
	text := fmt.Sprintf("Eli visits %d.", n)
	c := r.hosts[1].as("Eli")
	for _, draft := range []*envelope.Envelope{
		{Type: envelope.Join, Content: text}, {Content: text}, {Type: envelope.Leave, Content: text},
	} {
		if err := r.post(c, draft); err != nil {
			r.t.Errorf("%q: %v", text, err)
			return
		}
	}
}

// call makes the agent of the first host call the one of the last, who accepts; then it is
// over.
func (r *room) call(n int) {
	last := len(r.hosts) - 1
	caller, callee := r.hosts[0].as(r.names[0]), r.hosts[last].as(r.names[last])
	text := fmt.Sprintf("call %d", n)
	draft := &envelope.Envelope{ID: tokenID(text), To: []string{r.names[last] + "@" + r.hosts[last].name}, Topic: text, Content: text}
	called, err := insist(r.t, func(ctx context.Context) (api.Called, error) { return caller.Call(ctx, draft) })
	if err != nil {
		r.t.Errorf("%s: %v", text, err)
		return
	}
	id := called.Request.ID
	answer := &envelope.Envelope{Type: envelope.Accept, Request: id, Content: "yes to " + text, ID: tokenID("yes to " + text)}
	if _, err := insist(r.t, func(ctx context.Context) (api.Called, error) { return callee.Answer(ctx, answer) }); err != nil {
		r.t.Errorf("accept %s: %v", text, err)
		return
	}
	r.mu.Lock()
	r.calls = append(r.calls, id)
	r.mu.Unlock()
	got, err := insist(r.t, func(ctx context.Context) (api.Request, error) {
		got, err := caller.Request(ctx, id)
		if err == nil && got.Conversation == "" {
			err = api.Errorf(api.Busy, "not accepted yet")
		}
		return got, err
	})
	if err == nil {
		_, err = insist(r.t, func(ctx context.Context) (api.Posted, error) {
			return caller.Post(ctx, &envelope.Envelope{ID: tokenID("end of " + text), Type: envelope.Leave, Conversation: got.Conversation})
		})
	}
	if err != nil {
		r.t.Errorf("end %s: %v", text, err)
	}
}

// check waits until everything is where it has to be.
func (r *room) check() {
	r.t.Helper()
	daemontest.Eventually(r.t, func() (bool, string) {
		problems := r.problems()
		return len(problems) == 0, strings.Join(problems[:min(len(problems), 8)], "\n")
	})
	for _, h := range r.hosts {
		report, err := fsck.Home(h.dir)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, f := range report.Findings {
			if f.Severity == fsck.Error {
				r.t.Errorf("%s: %s", h.name, f.String())
			}
		}
	}
	r.t.Logf("%d messages, %d files, %d calls", len(r.texts), len(r.files), len(r.calls))
}

func (r *room) problems() (problems []string) {
	first := validLines(r.hosts[0].home().LogPath(r.id))
	for _, h := range r.hosts[1:] {
		if lines := validLines(h.home().LogPath(r.id)); !slices.EqualFunc(first, lines, bytes.Equal) {
			problems = append(problems, fmt.Sprintf("%s has %d lines, %s has %d: not the same", r.hosts[0].name, len(first), h.name, len(lines)))
		}
		waiting, _ := filepath.Glob(filepath.Join(h.dir, "peers", "*", "spool", "new", "*"))
		if len(waiting) > 0 {
			problems = append(problems, fmt.Sprintf("%d envelopes wait at %s", len(waiting), h.name))
		}
	}
	count, seqs := make(map[string]int), make(map[string]int64)
	for _, line := range first {
		if e, err := envelope.Decode(line); err == nil && e.Type == envelope.Message {
			count[e.Content]++
			seqs[e.Content] = e.Seq
		}
	}
	for _, text := range r.texts {
		if n := count[text]; n != 1 {
			problems = append(problems, fmt.Sprintf("%q is stored %d times", text, n))
		}
		delete(count, text)
	}
	for text := range count {
		problems = append(problems, fmt.Sprintf("%q is stored, and nobody has said it", text))
	}
	if len(problems) == 0 {
		problems = append(r.fileProblems(), r.callProblems()...)
	}
	if len(problems) > 0 {
		problems = append(linksOf(r.hosts), problems...)
	}
	return problems
}

// fileProblems wants each file at each host.
func (r *room) fileProblems() (problems []string) {
	for text, file := range r.files {
		for sum, content := range file {
			for i, h := range r.hosts {
				path := filepath.Join(h.dir, "blobs", sum)
				if data, err := os.ReadFile(path); err != nil || string(data) != content {
					problems = append(problems, fmt.Sprintf("file of %q at %s: %d bytes, want %d: %v", text, r.hosts[i].name, len(data), len(content), err))
				}
			}
		}
	}
	return problems
}

// callProblems wants both hosts to know that the calls were accepted and are over, and the
// words that were said once.
func (r *room) callProblems() (problems []string) {
	last := len(r.hosts) - 1
	for _, id := range r.calls {
		for _, i := range []int{0, last} {
			got, err := r.hosts[i].as(r.names[i]).Request(context.Background(), id)
			if err != nil || got.State != api.CallAccepted {
				problems = append(problems, fmt.Sprintf("call at %s: %s, %v", r.hosts[i].name, daemontest.JSON(got), err))
				continue
			}
			lines := validLines(r.hosts[i].home().LogPath(got.Conversation))
			if n := strings.Count(string(bytes.Join(lines, nil)), `"yes to `); n > 1 {
				problems = append(problems, fmt.Sprintf("call at %s: the first words stand there %d times", r.hosts[i].name, n))
			}
		}
	}
	return problems
}

// TestCrashRoom kills daemons of linked hosts at random, and breaks the cable, while their
// agents do everything that agents can: drops, lines by the shell into the copies of logs,
// files, joins, leaves and calls. DUO_CRASH_ROUNDS makes it longer.
func TestCrashRoom(t *testing.T) {
	long(t)
	t.Parallel()
	r, cable := newRoomOf3(t)
	r.write()
	for range crashRounds(t, shortRounds) {
		pass(time.Duration(50+rand.IntN(250)) * time.Millisecond)
		victim := r.hosts[rand.IntN(len(r.hosts))]
		if rand.IntN(4) == 0 {
			cable.PullAfter(rand.IntN(10_000))
		}
		victim.kill()
		victim.start()
		cable.Plug()
		r.redial()
	}
	r.quiet()
	r.check()
}

// TestRoomOnBadDisks is TestCrashRoom with disks that fail in place of daemons that do.
func TestRoomOnBadDisks(t *testing.T) {
	long(t)
	t.Parallel()
	r, cable := newRoomOf3(t)
	for _, h := range r.hosts {
		h.kill()
		h.env = []string{envFault + "=" + faultSync}
		h.start()
	}
	r.redial()
	r.write()
	for range shortRounds / 2 {
		pass(200 * time.Millisecond)
		cable.PullAfter(rand.IntN(20_000))
		pass(100 * time.Millisecond)
		cable.Plug()
		r.redial()
	}
	r.quiet()
	r.check()
}

// newRoomOf3 is a room on three hosts that are linked by a cable.
func newRoomOf3(t *testing.T) (*room, *daemontest.Cable) {
	t.Helper()
	cable := daemontest.NewCable(t)
	nyc, lon, tok := newRemote(t, "nyc", "", listening(t, cable)), newRemote(t, "lon", "", hidden), newRemote(t, "tok", "", hidden)
	for _, h := range []*remote{lon, tok} {
		h.join(nyc.code().String())
	}
	return newRoom(t, []string{"Dan", "Dee", "Dora"}, nyc, lon, tok), cable
}

func (r *room) redial() {
	for _, h := range r.hosts[1:] {
		_, _ = h.as("").PingPeer(context.Background(), r.hosts[0].name) // it may not be reached yet
	}
}

// TestFullReplica: a host whose disk is full for a log takes none of its lines and says so
// by nothing; the others go on, calls to it too, and it has all of them when there is room.
func TestFullReplica(t *testing.T) {
	long(t)
	t.Parallel()
	const limit = 96 << 10
	address := daemontest.FreeAddress(t)
	nyc, tok := newRemote(t, "nyc", "", fmt.Sprintf("link.listen = %q\nlink.advertise = %q\n", address, address)), newRemote(t, "tok", "", hidden)
	f := newFleet(t, []string{"Atlas", "Cleo"}, nyc, tok)
	tok.kill()
	tok.env = []string{fmt.Sprint(envFileSize, "=", limit)}
	tok.start()
	size := func(h *remote) int64 {
		info, err := os.Stat(h.home().LogPath(f.convs[0]))
		if err != nil {
			return 0
		}
		return info.Size()
	}
	for n := 0; size(nyc) < 2*limit; n++ {
		f.say(0, f.convs[0], fmt.Sprintf("Atlas %s %d", strings.Repeat("x", 1500), n))
	}
	daemontest.Eventually(t, func() (bool, string) { return size(tok) == limit, fmt.Sprint(size(tok)) })
	if _, err := nyc.as("").PingPeer(t.Context(), "tok"); err != nil {
		t.Errorf("the link is not up beside a full disk: %v", err)
	}
	f.say(1, f.convs[1], "Cleo elsewhere 0")
	receipts, err := nyc.as("Atlas").Receipts(t.Context(), f.convs[0], int64(len(validLines(nyc.home().LogPath(f.convs[0])))), "", 0)
	if err != nil || len(receipts.Recipients) != 1 || receipts.Recipients[0].State != api.Stored {
		t.Errorf("receipts of what is not there: got %s, %v, want it stored", daemontest.JSON(receipts), err)
	}
	tok.kill()
	tok.env = nil
	tok.start()
	f.quiet()
	f.check()
}
