package maildir_test

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"github.com/claude-duo/duo/maildir"
)

// The test program is also the other processes of some tests: with these variables
// it does one thing, and ends.
const (
	actVar   = "DUO_TEST_ACT"
	dirVar   = "DUO_TEST_DIR"
	umaskVar = "DUO_TEST_UMASK"
)

func TestMain(m *testing.M) {
	act := map[string]func(dir string) error{"init": actInit, "lock": actLock}[os.Getenv(actVar)]
	if act == nil {
		os.Exit(m.Run())
	}
	if mask, err := strconv.ParseUint(os.Getenv(umaskVar), 8, 32); err == nil {
		syscall.Umask(int(mask))
	}
	if err := act(os.Getenv(dirVar)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// actInit waits for the end of standard input, so that several begin at once.
func actInit(dir string) error {
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	h, err := maildir.Init(dir)
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%s %s\n", h.Host.ID, h.Host.Key)
	return err
}

// actLock holds the home until the end of standard input, or until it is killed.
func actLock(dir string) error {
	h, err := maildir.Open(dir)
	if err != nil {
		return err
	}
	if _, err := h.LockDaemon(); err != nil {
		return err
	}
	fmt.Println("locked")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func process(t *testing.T, act, dir string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), append(env, actVar+"="+act, dirVar+"="+dir)...)
	cmd.Stderr = os.Stderr
	return cmd
}

// lockingProcess starts a process that holds the home, and returns when it does.
func lockingProcess(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := process(t, "lock", dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close() })
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatalf("the other process said %q, %v, want that it has the lock", line, err)
	}
	return cmd
}

func newHome(t testing.TB) *maildir.Home {
	t.Helper()
	h, err := maildir.Init(t.TempDir() + "/home")
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func wantPerm(t testing.TB, path string, want fs.FileMode) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != want {
		t.Errorf("mode of %q: got %04o, want %04o", path, got, want)
	}
}

// must fails the test on an error of preparing it.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
