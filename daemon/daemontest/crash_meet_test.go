package daemontest_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
)

const meetRounds = 6

// TestCrashMeetings kills the daemon while two agents call each other at the same moment,
// again with the same id until they are answered, and accept what else rings. Whether two
// calls have met or not, what each of them says is said once.
func TestCrashMeetings(t *testing.T) {
	t.Parallel()
	home, err := maildir.Init(filepath.Join(t.TempDir(), "home"))
	if err != nil {
		t.Fatal(err)
	}
	c := &callers{t: t, home: home}
	c.start()
	for _, name := range []string{"Atlas", "Nova"} {
		if _, err := client.New(home.SocketPath(), "").Register(t.Context(), registration(name)); err != nil {
			t.Fatal(err)
		}
	}
	atlas, nova := &mutual{callers: c, me: "Atlas", other: "Nova"}, &mutual{callers: c, me: "Nova", other: "Atlas"}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var calling sync.WaitGroup
	calling.Go(func() {
		c.each(ctx, time.Millisecond, func() { // so that a kill finds them calling
			var round sync.WaitGroup
			round.Go(atlas.round)
			round.Go(nova.round)
			round.Wait()
		})
	})
	for range meetRounds {
		<-time.After(200*time.Millisecond + time.Duration(time.Now().UnixNano()%int64(200*time.Millisecond)))
		c.daemon.kill()
		c.start()
	}
	stop()
	calling.Wait()
	atlas.acceptAll()
	nova.acceptAll()
	c.daemon.term()
	c.checkMeetings(atlas.rounds)
}

// mutual is one of two who call each other.
type mutual struct {
	*callers
	me, other string
	rounds    int
}

func (m *mutual) client() *client.Client { return client.New(m.home.SocketPath(), m.me) }

func meetText(agent string, round int) string { return fmt.Sprintf("%s-%05d", agent, round) }

// round calls the other one, accepts what the other one has called before, and leaves.
func (m *mutual) round() {
	m.rounds++
	text := meetText(m.me, m.rounds)
	called, err := stubborn(func(ctx context.Context) (api.Called, error) {
		return m.client().Call(ctx, &envelope.Envelope{ID: tokenID(text), To: []string{m.other}, Content: text})
	})
	if err != nil {
		m.t.Errorf("%s calls: %v", m.me, err)
		return
	}
	if called.Conversation != nil {
		m.leave(called.Conversation.ID)
	}
	m.acceptAll()
}

func (m *mutual) leave(conversation string) {
	_, _ = stubborn(func(ctx context.Context) (api.Posted, error) { // the other one may have left before
		return m.client().Post(ctx, &envelope.Envelope{Type: envelope.Leave, Conversation: conversation})
	})
}

func (m *mutual) acceptAll() {
	list, err := stubborn(m.client().Requests)
	if err != nil {
		m.t.Errorf("requests of %s: %v", m.me, err)
	}
	for _, r := range list.Requests {
		if strings.HasPrefix(r.From, m.me) || r.State == "accepted" {
			continue
		}
		called, err := stubborn(func(ctx context.Context) (api.Called, error) {
			return m.client().Answer(ctx, &envelope.Envelope{Type: envelope.Accept, Request: r.ID})
		})
		if err != nil {
			m.t.Errorf("%s accepts %s: %v", m.me, r.ID, err)
			continue
		}
		m.leave(called.Conversation.ID)
	}
}

// checkMeetings checks that every text stands in the logs once. The daemon has stopped.
func (c *callers) checkMeetings(rounds int) {
	ids, err := c.home.Conversations()
	if err != nil {
		c.t.Fatal(err)
	}
	var logs strings.Builder
	for _, id := range ids {
		logs.WriteString(strings.Join(c.lines(id), "\n") + "\n")
	}
	for n := 1; n <= rounds; n++ {
		for _, agent := range []string{"Atlas", "Nova"} {
			text := meetText(agent, n)
			if got := strings.Count(logs.String(), `"content":"`+text+`"`); got != 1 {
				c.t.Errorf("%s is said %d times, want once", text, got)
			}
		}
	}
	c.t.Logf("%d calls, %d conversations", 2*rounds, len(ids))
}
