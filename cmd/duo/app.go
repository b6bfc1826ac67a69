package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/reach"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/claude-duo/duo/maildir"
	"golang.org/x/term"
)

// app is one run of the program: what it was given from outside, and what its
// commands share. Nothing is opened before a command needs it.
type app struct {
	in     io.Reader
	out    *bufio.Writer // data; flushed when the command ends, and before anything is called seen
	stderr io.Writer
	env    func(string) string
	args   []string

	terminal bool // out is a terminal
	colour   bool
	json     bool
	quiet    bool // completing a command line: no notes, and no daemon is started
	noted    bool // it was said that no daemon can be reached
	as       string

	opened  *maildir.Home
	self    *identity
	reached *reach.Host // as self
	unsent  unsent
}

func newApp() *app {
	terminal := term.IsTerminal(int(os.Stdout.Fd()))
	return &app{
		in: os.Stdin, out: bufio.NewWriter(os.Stdout), stderr: os.Stderr, env: os.Getenv,
		terminal: terminal,
		colour:   terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
	}
}

// run executes one command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	a.args = args
	root := newRoot(a)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if flushed := a.out.Flush(); err == nil && flushed != nil {
		err = fmt.Errorf("write output: %w", flushed)
	}
	if err == nil {
		return api.ExitOK
	}
	return a.fail(cmd, err)
}

// home opens the home, and makes it where a daemon could be started for it.
func (a *app) home() (*maildir.Home, error) {
	home, err := a.openHome(maildir.Open)
	if errors.Is(err, maildir.ErrNoHome) && a.autostart() {
		return a.openHome(maildir.Init)
	}
	return home, err
}

// makeHome opens the home, and makes it where there is none.
func (a *app) makeHome() (*maildir.Home, error) { return a.openHome(maildir.Init) }

func (a *app) openHome(open func(dir string) (*maildir.Home, error)) (*maildir.Home, error) {
	if a.opened != nil {
		return a.opened, nil
	}
	dir, err := maildir.DefaultDir()
	if err != nil {
		return nil, err
	}
	home, err := open(dir)
	if err != nil {
		return nil, err
	}
	a.opened = home
	return home, nil
}

// host reaches this host as the agent that was resolved, or as the operator.
func (a *app) host() (*reach.Host, error) {
	home, err := a.home()
	if err != nil {
		return nil, err
	}
	if agent := a.agent(); a.reached == nil || a.reached.Agent != agent {
		a.reached = a.reach(home, agent)
	}
	return a.reached, nil
}

// reach reaches a home as an agent.
func (a *app) reach(home *maildir.Home, agent string) *reach.Host {
	h := reach.New(home, agent, a.starter(home))
	h.Hops = a.hops()
	return h
}

// agent is the name of who this run acts as, empty for the operator.
func (a *app) agent() string {
	if a.self == nil {
		return ""
	}
	return a.self.Name
}

// client talks to a daemon that runs, as host does.
func (a *app) client(home *maildir.Home) *client.Client {
	return client.New(home.SocketPath(), a.agent())
}

// say prints a line of data.
func (a *app) say(format string, args ...any) {
	fmt.Fprintf(a.out, format+"\n", args...)
}

// next prints the command to run next, at the end of what a command says.
func (a *app) next(format string, args ...any) {
	a.text().Next(format, args...)
}

// text writes what others and the daemon say for who this run acts as.
func (a *app) text() *text.Writer {
	w := &text.Writer{Out: a.out, Command: a.asMe, Colour: a.colour}
	if a.opened != nil {
		w.Host, w.Ref = a.opened.Host.Name, a.refOf
	}
	if a.self != nil {
		w.Me = a.self.Name
	}
	return w
}

// refOf is the reference of a conversation, as far as the files tell it.
func (a *app) refOf(id string) string {
	ids, err := a.opened.Conversations()
	if err != nil {
		return id // which works everywhere too
	}
	return maildir.NewRefs(ids).Short(id)
}

// asMe makes a command act as who this run was told to act as, too.
func (a *app) asMe(command string) string {
	rest, ours := strings.CutPrefix(command, "duo ")
	verb, _, _ := strings.Cut(rest, " ")
	if !ours || a.as == "" || strings.Contains(command, "--as ") || slices.Contains(actsAsNobody, verb) {
		return command
	}
	return "duo --as " + shellQuote(a.as) + " " + rest
}

// actsAsNobody are the commands that mean the same whoever runs them.
var actsAsNobody = []string{"register", "who", "find", "daemon", "up", "down", "status", "doctor", "fsck", "config", "install", "uninstall", "guide", "version", "completion", "help", "--help"}

// note prints a message that is no data.
func (a *app) note(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.stderr, "note: %s\n", frame.Line(fmt.Sprintf(format, args...)))
	}
}

// print shows a value: as JSON where that was asked for, else by its text.
func (a *app) print(value any, text func()) error {
	if !a.json {
		text()
		return nil
	}
	return a.printJSON(value)
}

// printJSON writes one line of JSON in which nothing is hidden from a terminal.
func (a *app) printJSON(value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	_, err = a.out.Write(append(frame.JSON(data), '\n'))
	return err
}

// flush hands everything that was said to the reader of stdout.
func (a *app) flush() error {
	if err := a.out.Flush(); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}
