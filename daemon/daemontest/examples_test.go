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

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
)

// TestProgramInAnotherLanguage: an agent that shares no code with us takes a call,
// answers what it is sent, and leaves.
func TestProgramInAnotherLanguage(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 here")
	}
	t.Parallel()
	h := daemontest.NewWith(t, "http.listen = '127.0.0.1:0'", "Atlas")
	ctx, cancel := context.WithTimeout(context.Background(), 2*daemontest.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, "../../docs/examples/reviewer.py", "Nova", "2")
	cmd.Env = append(os.Environ(), "DUO_HOME="+h.Dir)
	printed, err := os.Create(filepath.Join(t.TempDir(), "printed"))
	if err != nil {
		t.Fatal(err)
	}
	defer printed.Close()
	said := func() string {
		data, _ := os.ReadFile(printed.Name()) // what is missing is missed
		return string(data)
	}
	cmd.Stdout, cmd.Stderr = printed, printed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("examples_test.go")
	if err != nil {
		t.Fatal(err)
	}
	daemontest.Eventually(t, func() (bool, string) {
		found, err := h.As("").Find(ctx, "Nova")
		return err == nil && found.Agent.Listening, fmt.Sprintf("Nova: %s, %v, %s, want it listening", daemontest.JSON(found), err, said())
	})
	atlas := h.As("Atlas")
	for i := range 2 {
		called, err := atlas.Call(ctx, &envelope.Envelope{Type: envelope.Call, To: []string{"Nova"}, Topic: fmt.Sprint("Review ", i), Content: "examples_test.go"})
		if err != nil {
			t.Fatal(err)
		}
		var r api.Request
		daemontest.Eventually(t, func() (bool, string) {
			r, err = atlas.Request(ctx, called.Request.ID)
			return err == nil && r.State == string(call.Accepted), fmt.Sprintf("call: %s, %v, want it accepted", daemontest.JSON(r), err)
		})
		h.Post("Atlas", &envelope.Envelope{Conversation: r.Conversation, Content: string(source)})
		want := fmt.Sprintf("%d lines, I have read them.", strings.Count(string(source), "\n"))
		daemontest.Eventually(t, func() (bool, string) {
			lines := h.Log(r.Conversation)
			last := lines[len(lines)-1]
			return last.From.Name == "Nova" && last.Content == want, fmt.Sprintf("log: %s, want %q", daemontest.JSON(lines), want)
		})
		h.Post("Atlas", &envelope.Envelope{Conversation: r.Conversation, Content: "thanks"})
		daemontest.Eventually(t, func() (bool, string) {
			found, err := atlas.Find(ctx, r.Conversation)
			return err == nil && found.Conversation.Status == "closed", fmt.Sprintf("conversation: %s, %v, want it closed", daemontest.JSON(found), err)
		})
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil || !strings.HasSuffix(said(), "Nova is done\n") {
			t.Errorf("program: got %v\n%s", err, said())
		}
	case <-time.After(daemontest.Patience):
		t.Errorf("program: still running\n%s", said())
	}
}
