package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/claude-duo/duo/daemon"
	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/mcpserver"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/session"
	"github.com/spf13/cobra"
)

func newMCP(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "mcp", Short: "Serve a client of the Model Context Protocol",
		Long: `Serve a client of the Model Context Protocol over standard input and output: its model
finds, calls and writes to agents with tools, and reads what they write. Clients start it
themselves; docs/mcp.md says how they are told.

Who the model is, is found out as for every command. Where nothing says it, the model says
it itself, with the tool whoami.`,
		Example: `  duo mcp
  duo mcp --as Atlas`,
		Args: noArgs, ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runMCP(cmd.Context()) },
	}
}

func (a *app) runMCP(ctx context.Context) error {
	self, err := a.me()
	if a.as != "" && err != nil { // a name that is wrong is said at once
		return err
	}
	if err := self.program(); err != nil {
		return err
	}
	m := &model{app: *a}
	parts := mcpserver.Parts{
		Speaker: m.speaker, Register: m.register, Version: daemon.Version(),
		Logger: slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if err := mcpserver.ServeStdio(ctx, parts, os.Stdin, os.Stdout); err != nil {
		return api.Errorf(api.BadRequest, "the session with the client has broken off: %w", err).WithNext("duo mcp --help")
	}
	return nil
}

// model is who is at the other end of duo mcp.
type model struct {
	app app // as it was when it began

	mu     sync.Mutex
	pinned *identity // who it said that it is, or turned out to be
}

// said are the sources of an identity that go before what the model has said.
var said = []string{"--as", "DUO_AS", "session"}

// speaker finds out who the model is now, as every command does anew.
func (m *model) speaker(_ context.Context, _ http.Header) (mcpserver.Speaker, error) {
	run := m.run()
	home, err := run.home()
	if err != nil {
		return mcpserver.Speaker{}, err
	}
	who, err := m.identity(run)
	if err != nil {
		var e *api.Error
		if !errors.As(err, &e) {
			return mcpserver.Speaker{}, err
		}
		nobody := *e
		nobody.Message = strings.TrimSuffix(nobody.Message, sayWho) // which a model with tools cannot
		return mcpserver.Speaker{Host: run.reach(home, ""), Nobody: &nobody}, nil
	}
	return mcpserver.Speaker{
		Host: run.reach(home, who.Name), Source: strings.TrimSpace(who.Source + " " + who.Detail),
		Holder: session.Here(home, who.Name, run.env),
	}, nil
}

// run is a fresh run of the program: it remembers nothing.
func (m *model) run() *app {
	run := m.app
	run.opened, run.self, run.reached = nil, nil, nil
	return &run
}

// identity is who the model is: what it said once holds as long as nothing that goes
// before says otherwise, and so does that it was the only agent.
func (m *model) identity(run *app) (*identity, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	who, err := run.me()
	if err == nil {
		err = who.program()
	}
	switch {
	case err == nil && slices.Contains(said, who.Source):
		return who, nil
	case m.pinned != nil:
		return m.pinned, nil
	case err == nil:
		m.pinned = who
	}
	return who, err
}

// register makes the model an agent.
func (m *model) register(ctx context.Context, ask api.Register) (api.Registered, error) {
	run := m.run()
	if err := envelope.CheckName(ask.Name); err != nil {
		return api.Registered{}, api.Errorf(api.BadRequest, "argument name: %w", err).WithNext("duo register NAME")
	}
	if who, err := run.me(); err == nil && who.Source != "session" && slices.Contains(said, who.Source) && !strings.EqualFold(who.Name, ask.Name) {
		return api.Registered{}, api.Errorf(api.NotAllowed, "this server was started for %s (%s)", who.Name, who.Source).WithNext("duo whoami")
	}
	run = m.run()
	home, err := run.makeHome()
	if err != nil {
		return api.Registered{}, err
	}
	made, err := run.register(ctx, ask)
	if err != nil {
		return made, err
	}
	if err := run.bind(home, made.Agent.Name); err != nil {
		return made, fmt.Errorf("bind session: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pinned = &identity{Name: made.Agent.Name, Source: "whoami"}
	return made, nil
}
