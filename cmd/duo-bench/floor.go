package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/claude-duo/duo/maildir/durable"
)

// body is the text of every message, line what a floor writes: about as long as the
// line that the message becomes.
var (
	body = strings.Repeat("I think therefore I am. ", 8)
	line = []byte(strings.Repeat("x", len(body)+205) + "\n")
)

// rawFile appends lines to a file, each made durable.
type rawFile struct{ *os.File }

func newRawFile(dir string, n int) (*rawFile, error) {
	f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("raw-%d", n)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &rawFile{f}, durable.SyncDir(dir)
}

func (f *rawFile) append() error {
	if _, err := f.Write(line); err != nil {
		return err
	}
	return durable.Sync(f.File)
}

// inTurns measures several things in turns, so that all see the same machine.
func inTurns(n int, things ...func() error) ([]samples, error) {
	const block = 50
	measured := make([]samples, len(things))
	for len(measured[0]) < n {
		for i, thing := range things {
			for range block {
				took, err := timed(thing)
				if err != nil {
					return nil, err
				}
				measured[i] = append(measured[i], took)
			}
		}
	}
	return measured, nil
}

func timed(f func() error) (time.Duration, error) {
	start := time.Now()
	err := f()
	return time.Since(start), err
}

// serveBare is the least that a program can do which others ask over a socket: for
// each piece that comes it appends a line to a file, makes it durable, and answers.
func serveBare(socket string) error {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	raw, err := newRawFile(filepath.Dir(socket), 0)
	if err != nil {
		return err
	}
	defer raw.Close()
	buf := make([]byte, 4096)
	for {
		if _, err := conn.Read(buf); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := raw.append(); err != nil {
			return err
		}
		if _, err := conn.Write(buf[:1]); err != nil {
			return err
		}
	}
}

// bareServer is a process that runs serveBare.
type bareServer struct {
	net.Conn
	cmd *exec.Cmd
}

func (b *bench) startBare() (*bareServer, error) {
	dir, err := b.folder("bare")
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "s")
	cmd := exec.Command(self, "-bare", socket)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			return &bareServer{Conn: conn, cmd: cmd}, nil
		}
		if time.Since(start) > 10*time.Second {
			return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
		}
	}
}

// ask has the server append one line.
func (s *bareServer) ask() error {
	if _, err := s.Write(line); err != nil {
		return err
	}
	_, err := s.Read(make([]byte, 1))
	return err
}

func (s *bareServer) stop() error { return errors.Join(s.Close(), s.cmd.Wait()) }

// together runs f in n goroutines for a time, and returns how often it ran a second.
func together(n int, length time.Duration, f func(worker int) error) (float64, error) {
	var all sync.WaitGroup
	counts := make([]int, n)
	errs := make([]error, n)
	start := time.Now()
	for w := range n {
		all.Go(func() {
			for time.Since(start) < length && errs[w] == nil {
				if errs[w] = f(w); errs[w] == nil {
					counts[w]++
				}
			}
		})
	}
	all.Wait()
	took := time.Since(start)
	total := 0
	for _, c := range counts {
		total += c
	}
	return float64(total) / took.Seconds(), errors.Join(errs...)
}

// groupCommit is one file with one committer: take all that waits, write once, sync
// once, wake all.
type groupCommit struct {
	file *rawFile
	ask  chan chan error
}

func newGroupCommit(dir string) (*groupCommit, error) {
	f, err := newRawFile(dir, 0)
	if err != nil {
		return nil, err
	}
	g := &groupCommit{file: f, ask: make(chan chan error, 1024)}
	go g.run()
	return g, nil
}

func (g *groupCommit) run() {
	var buf []byte
	for first := range g.ask {
		waiting := []chan error{first}
		for more := true; more; {
			select {
			case w := <-g.ask:
				waiting = append(waiting, w)
			default:
				more = false
			}
		}
		buf = buf[:0]
		for range waiting {
			buf = append(buf, line...)
		}
		_, err := g.file.Write(buf)
		if err == nil {
			err = durable.Sync(g.file.File)
		}
		for _, w := range waiting {
			w <- err
		}
	}
}

func (g *groupCommit) append() error {
	answer := make(chan error, 1)
	g.ask <- answer
	return <-answer
}

func (g *groupCommit) close() error {
	close(g.ask)
	return g.file.Close()
}
