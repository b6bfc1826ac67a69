package router_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

// raws lists the lines that stand for lines of the shell, as "3 message of Atlas".
func (h host) raws(id string) []string {
	list := []string{}
	for i, e := range h.Log(id) {
		if e.Raw != nil {
			list = append(list, h.events(id)[i])
		}
	}
	return list
}

func (h host) wantRaws(what, id string, want ...string) {
	h.t.Helper()
	daemontest.Eventually(h.t, func() (bool, string) {
		got := h.raws(id)
		return slices.Equal(got, want), fmt.Sprintf("%s: adopted are %q, want %q", what, got, want)
	})
}

func TestAdoption(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "a", "Nova")
	h.shell(id, `{"from":"nova","content":"What do you think?","mood":"calm"}`)
	h.wantRaws("by name", id, "2 message of Nova")
	h.shell(id, `just text`)
	h.shell(id, `{"from":"Nova@`+h.Home().Host.Name+`","content":"by address","conversation":"elsewhere","to":"Nobody"}`)
	h.wantRaws("by address", id, "2 message of Nova", "3 message of Nova")
	h.send("Atlas", id, "heard")
	h.wantSaid(id, "Nova: What do you think?", "Nova: by address", "Atlas: heard")
	e := h.Log(id)[1]
	if err := e.Validate(); err != nil || e.Conversation != id || e.From != h.Home().Address("Nova") || len(e.Unknown) != 1 {
		t.Errorf("adopted line: got %+v, %v, want a whole message with its unknown field", e, err)
	}
	h.restart()
	h.send("Atlas", id, "after the restart")
	h.wantRaws("after a restart", id, "2 message of Nova", "3 message of Nova")
	inbox, err := h.As("Atlas").Inbox(context.Background(), 10)
	if err != nil || len(inbox.Items) != 2 || inbox.Items[0].Preview != "What do you think?" {
		t.Errorf("inbox of Atlas: got %s, %v, want both", daemontest.JSON(inbox), err)
	}
}

// TestAdoptionWhileAway: lines of the shell wait for the daemon.
func TestAdoptionWhileAway(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "a", "Nova")
	h.restart(func() {
		for i := range 5 {
			h.shell(id, fmt.Sprintf(`{"from":"Nova","content":"line %d"}`, i))
		}
	})
	h.eventuallySaid(id, "Nova: line 0", "Nova: line 1", "Nova: line 2", "Nova: line 3", "Nova: line 4")
}

// TestRefusedAdoption: a line that is refused is answered in the log, once, and the
// answer reaches whom the line named.
func TestRefusedAdoption(t *testing.T) {
	h := newHost(t, "Atlas", "Nova", "Sage")
	id := h.create("Atlas", "a", "Nova")
	h.Post("Atlas", &draft{Type: envelope.Close, Conversation: id})
	h.shell(id, `{"from":"Nova","content":"too late"}`)
	h.wantRaws("in a closed conversation", id, "3 undeliverable of Nova")
	h.shell(id, `{"from":"Ghost","content":"boo"}`)
	h.shell(id, `{"from":"Sage","content":"let me in"}`)
	h.shell(id, `{"from":"Nova@moon","content":"from far"}`)
	want := []string{"3 undeliverable of Nova", "4 undeliverable of Ghost", "5 undeliverable of Sage", "6 undeliverable of Nova"}
	h.wantRaws("of others", id, want...)
	why := h.Log(id)[2]
	if !strings.Contains(why.Why, "closed") || why.About == "" || !slices.Equal(why.To, []string{h.Home().Address("Nova").String()}) {
		t.Errorf("answer: got %+v, want why and about what", why)
	}
	h.restart()
	h.Post("Nova", &draft{Type: envelope.Leave, Conversation: id})
	h.wantRaws("after a restart", id, want...)
	daemontest.Eventually(t, func() (bool, string) {
		inbox, err := h.As("Nova").Inbox(context.Background(), 10)
		told := 0
		for _, item := range inbox.Items {
			if item.Event == envelope.EventUndeliverable && strings.HasPrefix(item.Preview, "not delivered: ") {
				told++
			}
		}
		return err == nil && told == 2, fmt.Sprintf("inbox of Nova is %s, %v, want two refusals", daemontest.JSON(inbox), err)
	})
}

// TestRepeatedShellLines: the same id is adopted once, and each repeat is answered, so
// that none is tried again and again.
func TestRepeatedShellLines(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "a", "Nova")
	known := fmt.Sprintf(`{"id":%q,"from":"Nova","content":"once"}`, envelope.NewID())
	ghost := fmt.Sprintf(`{"id":%q,"from":"Ghost","content":"boo"}`, envelope.NewID())
	for range 3 {
		h.shell(id, known)
		h.shell(id, ghost)
	}
	h.shell(id, `{"from":"Nova","content":"last"}`)
	h.wantRaws("repeats", id, "2 message of Nova", "3 undeliverable of Ghost", "4 undeliverable of Nova", "5 undeliverable of Ghost",
		"6 undeliverable of Nova", "7 undeliverable of Ghost", "8 message of Nova")
	h.wantSaid(id, "Nova: once", "Nova: last")
}

func TestAdoptionOverTheTurnLimit(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.Post("Atlas", &draft{Type: envelope.Create, Topic: "a", TurnLimit: 2, To: people("Nova")}).Conversation.ID
	for i := range 4 {
		h.shell(id, fmt.Sprintf(`{"from":"Nova","content":"line %d"}`, i))
	}
	h.wantRaws("over the turn limit", id, "2 message of Nova", "3 message of Nova", "4 undeliverable of Nova", "5 undeliverable of Nova")
	h.wantSaid(id, "Nova: line 0", "Nova: line 1")
}

// TestAdoptionAfterAFailure: a line that could not be stored is tried again.
func TestAdoptionAfterAFailure(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "a", "Nova")
	var syncs atomic.Int32
	h.Opts = convlog.Options{Sync: func(*os.File) error {
		if syncs.Add(1) <= 2 {
			return syscall.EIO
		}
		return nil
	}}
	h.restart(func() { h.shell(id, `{"from":"Nova","content":"at last"}`) })
	h.eventuallySaid(id, "Nova: at last")
}
