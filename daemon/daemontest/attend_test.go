package daemontest_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/session"
)

// attendant is a process of duo attend that can be killed.
type attendant struct {
	t   *testing.T
	cmd *exec.Cmd
}

func startAttendant(t *testing.T, h *daemontest.Host, agent, command string) *attendant {
	t.Helper()
	a := &attendant{t: t, cmd: exec.Command(duo(t), "attend", agent, "--quiet", "--exec", command)}
	a.cmd.Env = duoEnv(h.Dir)
	leash(a.cmd)
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.kill)
	return a
}

// kill ends it as a power cut would: nothing of it is put in order.
func (a *attendant) kill() {
	if a.cmd.ProcessState == nil {
		_ = a.cmd.Process.Kill()
		_ = a.cmd.Wait()
	}
}

// repliesTo counts the answers of an agent in a conversation.
func repliesTo(h *daemontest.Host, id, agent string) (n int) {
	for _, e := range h.Log(id) {
		if e.Type == envelope.Message && e.From.Name == agent {
			n++
		}
	}
	return n
}

// TestAttendantIsKilled between reading and answering: another one answers, once.
func TestAttendantIsKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts the real program")
	}
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	dir := t.TempDir()
	began, open := filepath.Join(dir, "began"), filepath.Join(dir, "open")
	command := fmt.Sprintf("echo $$ >>%s; while [ -d %s ] && ! [ -e %s ]; do sleep 0.05; done; echo answered", began, dir, open)
	runs := func(want int) {
		t.Helper()
		daemontest.Eventually(t, func() (bool, string) {
			data, _ := os.ReadFile(began)
			n := strings.Count(string(data), "\n")
			return n == want, fmt.Sprintf("the command has run %d times, want %d", n, want)
		})
	}
	first := startAttendant(t, h, "Nova", command)
	id := h.Post("Atlas", &envelope.Envelope{To: []string{"Nova"}, Content: "hello"}).Message.Envelope.Conversation
	runs(1)
	startAttendant(t, h, "Nova", command)
	daemontest.Eventually(t, func() (bool, string) {
		list, err := session.Live(h.Home(), "Nova")
		return len(list) == 2, fmt.Sprintf("sessions: %v, %v, want 2", list, err)
	})
	runs(1)
	first.kill()
	runs(2)
	if err := os.WriteFile(open, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	daemontest.Eventually(t, func() (bool, string) {
		inbox, err := h.As("Nova").Inbox(context.Background(), 0)
		n := repliesTo(h, id, "Nova")
		return err == nil && n > 0 && len(inbox.Items) == 0, fmt.Sprintf("%d answers, inbox %s, %v", n, daemontest.JSON(inbox), err)
	})
	if n := repliesTo(h, id, "Nova"); n != 1 {
		t.Errorf("answers: got %d, want 1", n)
	}
}

// TestAttendantsAreKilledAtRandom while they answer: each message has one answer.
func TestAttendantsAreKilledAtRandom(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts the real program")
	}
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	var ids []string
	for i := range 40 {
		e := h.Post("Atlas", &envelope.Envelope{To: []string{"Nova"}, Topic: fmt.Sprint("job ", i), Content: "hello"}).Message.Envelope
		ids = append(ids, e.Conversation)
	}
	answered := func() (n int) {
		for _, id := range ids {
			n += min(1, repliesTo(h, id, "Nova"))
		}
		return n
	}
	const command = "cat >/dev/null; echo done by $$"
	pair := []*attendant{startAttendant(t, h, "Nova", command), startAttendant(t, h, "Nova", command)}
	last := time.Now()
	for round, before := 0, 0; ; {
		now := answered()
		if now == len(ids) {
			break
		}
		if now >= before+3 { // in the middle of something, mostly
			pair[round%2].kill()
			pair[round%2] = startAttendant(t, h, "Nova", command)
			round, before, last = round+1, now, time.Now()
		}
		if time.Since(last) > 3*daemontest.Patience {
			t.Fatalf("%d of %d are answered, and it does not go on", now, len(ids))
		}
		time.Sleep(time.Millisecond)
	}
	daemontest.Eventually(t, func() (bool, string) {
		inbox, err := h.As("Nova").Inbox(context.Background(), 0)
		return err == nil && len(inbox.Items) == 0, fmt.Sprintf("inbox: %d items, %v, want none", len(inbox.Items), err)
	})
	for _, id := range ids {
		if n := repliesTo(h, id, "Nova"); n != 1 {
			t.Errorf("%s: got %d answers, want 1", id, n)
		}
	}
}

// TestAttendExamples plays what make examples plays.
func TestAttendExamples(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts the real program")
	}
	t.Parallel()
	for _, name := range []string{"commit", "debate", "manager"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
			defer cancel()
			dir := t.TempDir()
			cmd := exec.CommandContext(ctx, "sh", "../../docs/examples/"+name+".sh")
			cmd.Env = append(duoEnv(""), "DUO="+duo(t), "TMPDIR="+dir, "DUO_AUTOSTART=")
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "== done: ") {
				t.Errorf("got %v\n%s", err, out)
			}
			left, _ := os.ReadDir(dir)
			if len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}
