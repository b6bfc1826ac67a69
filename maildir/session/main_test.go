package session_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/session"
)

// The test program is also the other processes of some tests: with these variables it
// does one thing, and ends.
const (
	actVar  = "DUO_TEST_ACT"
	homeVar = "DUO_TEST_HOME"
)

func TestMain(m *testing.M) {
	switch os.Getenv(actVar) {
	case "client":
		fmt.Print(session.Client())
	case "first":
		actFirst()
	case "take":
		actTake()
	default:
		os.Exit(m.Run())
	}
}

// actFirst runs "client" in a shell.
func actFirst() {
	exe, err := os.Executable()
	if err != nil {
		fmt.Print(err)
		return
	}
	cmd := exec.Command("sh", "-c", `"$0"; true`, exe)
	cmd.Env = append(os.Environ(), actVar+"=client")
	out, err := cmd.Output()
	if err != nil {
		fmt.Print(err)
	}
	fmt.Printf("%s", out)
}

// actTake takes the items of each line of standard input for Atlas and prints what it
// got.
func actTake() {
	home := &maildir.Home{Dir: os.Getenv(homeVar)}
	book := session.OpenBook(home, "Atlas")
	h := session.Holder{Key: session.Key{Client: "test", ID: fmt.Sprint(os.Getpid())}, Process: session.Self()}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		mine, err := book.Take(h, strings.Fields(in.Text()))
		if err != nil {
			fmt.Println("error:", err)
			continue
		}
		fmt.Println(strings.Join(mine, " "))
	}
}

// taker is another process that takes items.
type taker struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.Writer
	out  *bufio.Reader
	dead bool
}

func newTaker(t *testing.T, home *maildir.Home) *taker {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), actVar+"=take", homeVar+"="+home.Dir)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	p := &taker{t: t, cmd: cmd, in: in, out: bufio.NewReader(out)}
	t.Cleanup(p.kill)
	return p
}

func (p *taker) kill() {
	if !p.dead {
		p.dead = true
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

func (p *taker) take(items string) string {
	p.t.Helper()
	p.ask(items)
	return p.answer()
}

func (p *taker) ask(items string) {
	p.t.Helper()
	_, err := fmt.Fprintln(p.in, items)
	must(p.t, err)
}

func (p *taker) answer() string {
	p.t.Helper()
	line, err := p.out.ReadString('\n')
	must(p.t, err)
	return strings.TrimSpace(line)
}

func waitUntil(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in 30 s: %s", what)
		}
	}
}
