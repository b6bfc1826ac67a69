package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/claude-duo/duo/cmd/duo/internal/hook"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/reach"
	"github.com/claude-duo/duo/maildir"
	"github.com/spf13/cobra"
)

// newHook explains what main runs by itself, without the other commands: see isHook.
func newHook(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "hook CLIENT EVENT", Short: "What client programs run at the events of a session", Hidden: true,
		Long: `What client programs run at the events of a session, as duo install sets it up. It reads
what the client tells of the event on standard input, and prints what the model is to be
told, as the client takes it. Whatever goes wrong, it prints nothing and succeeds; with
DUO_HOOK_LOG=FILE it notes there what that was.`,
		Example: "  duo hook claude prompt < event.json", ValidArgs: hook.Clients(), DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
}

// isHook reports whether a command line is a hook that a client runs.
func isHook(args []string) bool {
	return len(args) == 3 && args[0] == "hook" && !strings.HasPrefix(args[1], "-") && !strings.HasPrefix(args[2], "-")
}

func (a *app) runHook(ctx context.Context, args []string) int {
	signal.Ignore(syscall.SIGPIPE) // a client that is gone is an error to write to, not the end
	return hook.Run(ctx, hook.Host{
		Env: a.env, In: a.in, Out: os.Stdout, Err: a.stderr, Now: time.Now,
		Open: func() (*maildir.Home, error) { return a.openHome(maildir.Open) },
		Who:  a.unboundSelf, Here: giveSign, Pause: reach.Pause,
	}, args[1], args[2])
}

// unboundSelf finds out who a session is that is bound to no agent. Where something names an
// agent that is not here, it is nobody: the only one that is here is not the one meant.
func (a *app) unboundSelf(home *maildir.Home, folder string) (hook.Self, error) {
	if !filepath.IsAbs(folder) {
		folder, _ = os.Getwd() // a removed one says nothing
	}
	source := "DUO_AS"
	self, wrong := a.fromEnvironment(home)
	if self == nil && wrong == nil {
		source = folderFile
		self, wrong = a.fromFolderAbove(home, folder)
	}
	if self != nil {
		return hook.Self{Agent: self.Name}, nil
	}
	names, err := registered(home, maxListed)
	if err != nil {
		return hook.Self{}, err
	}
	slices.SortFunc(names, compareNames)
	switch {
	case wrong != nil:
		return hook.Self{Agents: names, Wrong: source}, nil
	case len(names) == 1:
		return hook.Self{Agent: names[0], Only: true}, nil
	}
	return hook.Self{Agents: names}, nil
}

const signWithin = 2 * time.Second

// giveSign asks the daemon something as an agent, which it takes as a sign of life. That
// there is no daemon is no error: then nobody can see whether the agent is there.
func giveSign(ctx context.Context, home *maildir.Home, agent string) {
	ctx, cancel := context.WithTimeout(ctx, signWithin)
	defer cancel()
	_, _ = client.New(home.SocketPath(), agent).Me(ctx)
}
