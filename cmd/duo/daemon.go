package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/claude-duo/duo/daemon"
	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir"
	"github.com/spf13/cobra"
)

func newDaemon(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "daemon", Short: "Run the daemon in the foreground",
		Long: `Run the daemon of the home in the foreground, with its log on standard error. SIGTERM
or an interrupt stops it in order; nothing is lost. A home has one daemon: a second
one is refused.

Commands start a daemon by themselves when they need one, unless DUO_AUTOSTART=0.`,
		Example: "  duo daemon", Args: noArgs, ValidArgsFunction: noCompletion,
		RunE: func(*cobra.Command, []string) error { return a.runDaemon() },
	}
}

func (a *app) runDaemon() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	syscall.Umask(0o077)
	daemon.TuneProcess()
	dir, err := maildir.DefaultDir()
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(a.stderr, nil))
	err = daemon.Run(ctx, daemon.Options{Dir: dir, Logger: logger})
	if errors.Is(err, maildir.ErrRunning) {
		return api.Errorf(api.AlreadyRunning, "%w", err).WithNext("duo status")
	}
	return err
}
