package attend_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/attend"
	"github.com/claude-duo/duo/daemon/daemontest"
)

func TestCommand(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		line  string
		input string
		want  string
		leave bool
		err   string // that it contains
	}{
		"what it prints":          {line: "echo hello", want: "hello"},
		"several lines":           {line: "printf ' a\\n\\nb \\n\\n'", want: " a\n\nb "},
		"nothing":                 {line: "true"},
		"only space":              {line: "echo; echo '  '"},
		"its input":               {line: "cat", input: "one\ntwo\n", want: "one\ntwo"},
		"the end of its input":    {line: "wc -c", input: strings.Repeat("x", 1<<20), want: "1048576"},
		"input it does not read":  {line: "echo done", input: strings.Repeat("x", 4<<20), want: "done"},
		"bad UTF-8 and NULs":      {line: `printf 'a\377b\000c'`, want: "a\uFFFDb\uFFFDc"},
		"a last word":             {line: "echo bye; exit 10", want: "bye", leave: true},
		"no last word":            {line: "exit 10", leave: true},
		"it fails":                {line: "echo half; echo 'first' >&2; echo 'no model' >&2; exit 3", err: "exit status 3: no model"},
		"it fails without a word": {line: "exit 1", err: "exit status 1"},
		"it is killed":            {line: "kill -9 $$", err: "signal: killed"},
		"as much as it may":       {line: "head -c 1000 /dev/zero | tr '\\0' x; echo", want: strings.Repeat("x", 1000)},
		"a byte more":             {line: "head -c 1001 /dev/zero | tr '\\0' x", err: "more than 1000 bytes"},
		"10 MiB":                  {line: "head -c 10485760 /dev/zero | tr '\\0' x; echo survived >&2", err: "more than 1000 bytes"},
		"without an end":          {line: "yes", err: "more than 1000 bytes"},
		"much on standard error":  {line: "head -c 10485760 /dev/zero >&2; echo fine", want: "fine"},
		"not there":               {line: "no-such-program", err: "exit status 127"},
		"a child in the group":    {line: "sleep 1000 & echo fine", want: "fine"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := sh(test.line)
			c.Limit = 1000
			got, err := c.Run(context.Background(), []byte(test.input), nil)
			got.Text = strings.TrimLeft(got.Text, " ")
			want := strings.TrimLeft(test.want, " ") // some wc have columns
			failed := err != nil && (test.err == "" || !strings.Contains(err.Error(), test.err)) || err == nil && test.err != ""
			if got.Text != want || got.Leave != test.leave || failed {
				t.Errorf("got %.100q, leave %v, %v; want %.100q, leave %v, %q", got.Text, got.Leave, err, want, test.leave, test.err)
			}
		})
	}
}

// TestCommandIsEnded: of a command whose time is up nothing stays, whether it wants to or
// not, and of one that has ended well neither.
func TestCommandIsEnded(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		line string
		err  string
	}{
		"it hangs":              {"echo $$ >pid; echo half; exec sleep 1000", "did not end within 300ms"},
		"it ignores the signal": {"trap '' TERM; echo $$ >pid; while :; do sleep 1; done", "did not end within 300ms"},
		"its child hangs":       {"sh -c 'echo $$ >pid; exec sleep 1000'", "did not end within 300ms"},
		"its child stays":       {"sh -c 'echo $$ >pid; exec sleep 1000' & while ! [ -s pid ]; do :; done", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			c := sh("cd '" + dir + "'; " + test.line)
			c.Timeout = 300 * time.Millisecond
			if test.err == "" {
				c.Timeout = time.Minute
			}
			_, err := c.Run(context.Background(), nil, nil)
			if err == nil && test.err != "" || err != nil && (test.err == "" || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("got %v, want %q", err, test.err)
			}
			daemontest.Eventually(t, func() (bool, string) {
				data, err := os.ReadFile(filepath.Join(dir, "pid"))
				if err != nil {
					return true, "it had no time to begin" // on a very slow machine
				}
				pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
				return !runs(pid), "process " + string(data) + " runs, want it ended"
			})
		})
	}
}

// runs reports whether there is a process, and it is no zombie of a parent that is gone.
func runs(pid int) bool {
	if pid == 0 || syscall.Kill(pid, 0) != nil {
		return false
	}
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || !strings.Contains(string(status), ") Z ")
}

// TestCommandWithARunaway: a child that has left the group and keeps what the command
// prints to open does not hold it up.
func TestCommandWithARunaway(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/usr/bin/setsid"); err != nil {
		t.Skip("no setsid here")
	}
	file := filepath.Join(t.TempDir(), "pid")
	began := time.Now()
	got, err := sh("setsid sh -c 'echo $$ >"+file+"; exec sleep 1000' & while ! [ -s "+file+" ]; do :; done; echo fine").
		Run(context.Background(), nil, nil)
	if data, err := os.ReadFile(file); err == nil {
		pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if took := time.Since(began); got.Text != "fine" || err != nil || took > daemontest.Patience {
		t.Errorf("got %q, %v after %s, want %q soon", got.Text, err, took, "fine")
	}
}

// TestCommandStops with its context.
func TestCommandStops(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	file := filepath.Join(t.TempDir(), "began")
	ended := make(chan error, 1)
	go func() {
		_, err := sh("touch "+file+"; exec sleep 1000").Run(ctx, nil, nil)
		ended <- err
	}()
	daemontest.Eventually(t, func() (bool, string) {
		_, err := os.Stat(file)
		return err == nil, "the command has not begun"
	})
	cancel()
	select {
	case err := <-ended:
		if err != context.Canceled {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	case <-time.After(daemontest.Patience):
		t.Fatal("the command does not end")
	}
}

// TestCommandsEnvironment has nothing of sessions of client programs.
func TestCommandsEnvironment(t *testing.T) {
	t.Parallel()
	c := sh(`echo "$A $B ${CODEX_THREAD_ID-none} ${CLAUDE_CODE_SESSION_ID-none}"`)
	c.Env = append(c.Env, "A=1", "B=2", "CODEX_THREAD_ID=t", "CLAUDE_CODE_SESSION_ID=c")
	got, err := c.Run(context.Background(), nil, []string{"B=3"})
	if want := "1 3 none none"; got.Text != want || err != nil {
		t.Errorf("got %q, %v, want %q", got.Text, err, want)
	}
}

func TestProgramThatIsNotThere(t *testing.T) {
	t.Parallel()
	_, err := (&attend.Command{Args: []string{"/no/such/program"}, Timeout: time.Minute, Limit: 1}).Run(context.Background(), nil, nil)
	if err == nil || !strings.Contains(err.Error(), "start the command") {
		t.Errorf("got %v, want that it cannot be started", err)
	}
}
