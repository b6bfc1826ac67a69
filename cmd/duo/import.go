package main

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/export"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/reach"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/claude-duo/duo/maildir"
	"github.com/spf13/cobra"
)

type importOptions struct {
	check bool
	skip  bool
}

func newImport(a *app) *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Take conversations from an export",
		Long: `Take the conversations and files of an export of the format jsonl into this home. All of it
is read and checked before anything is changed. It works with a daemon and without, and
can be repeated: what is here already stays as it is.

What is imported is history: nobody is told of it as mail. Agents are not made.
Nobody has signed an export: import what you trust.`,
		Example: `  duo import all.jsonl --check
  duo import all.jsonl
  zstd -dc all.jsonl.zst | duo import -`,
		Args: exactly(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return []cobra.Completion{"jsonl"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.runImport(cmd.Context(), o, args[0]) },
	}
	cmd.Flags().BoolVar(&o.check, "check", false, "change nothing, tell what would be done")
	cmd.Flags().BoolVar(&o.skip, "skip", false, "pass over conversations that are others here, and import the rest")
	return cmd
}

func (a *app) runImport(ctx context.Context, o importOptions, file string) error {
	home, err := a.makeHome()
	if err != nil {
		return err
	}
	from, err := a.openExport(file)
	if err != nil {
		return err
	}
	defer from.Close()
	im := &export.Import{Home: home, Check: o.check, Skip: o.skip}
	taken, err := im.Run(ctx, from)
	switch {
	case errors.Is(err, export.ErrRefused):
		return refusedImport(file, taken)
	case err != nil:
		return importFailed(file, err)
	}
	if !o.check {
		a.settleImport(ctx, home, taken)
	}
	return a.print(taken, func() { a.tellImport(o, file, taken) })
}

func (a *app) openExport(file string) (io.ReadCloser, error) {
	if file == "-" {
		return io.NopCloser(a.in), nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, usage("ls -l "+shellQuote(file), "%w", err)
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, errors.Join(usage("ls "+shellQuote(file), "%q is a folder: want an export of the format jsonl, which is one file", file), f.Close())
	}
	return f, nil
}

func importFailed(file string, err error) error {
	switch {
	case errors.Is(err, export.ErrBad):
		return api.Errorf(api.Damaged, "%q was not imported, and nothing has changed: %w", file, err).WithNext("duo export --format jsonl --output conversations.jsonl")
	case errors.Is(err, export.ErrFileTooLarge):
		return api.Errorf(api.TooLarge, "%q was not imported, and nothing has changed: %w", file, err).WithNext("duo config set limits.attachment BYTES")
	case errors.Is(err, maildir.ErrImporting):
		return api.Errorf(api.Busy, "%w", err).WithNext("duo import %s", shellQuote(file))
	}
	return err
}

func refusedImport(file string, taken export.Taken) error {
	refused := taken.Refused()
	first := refused[0]
	return api.Errorf(api.LogDiffers, "nothing was imported: %s of %d cannot be, %s: %s",
		text.Count(len(refused), "conversation"), len(taken.Conversations), first.Conversation, first.Why).
		WithNext("duo import %s --skip", shellQuote(file))
}

// settledWithin is how long the daemon is given to notice what was imported.
const settledWithin = 10 * time.Second

// settleImport waits until a daemon that runs knows of what was imported, so that the next
// command does.
func (a *app) settleImport(ctx context.Context, home *maildir.Home, taken export.Taken) {
	ctx, cancel := context.WithTimeout(ctx, settledWithin)
	defer cancel()
	daemon := client.New(home.SocketPath(), "")
	for _, p := range taken.Conversations {
		for p.Deed == export.Make || p.Deed == export.Extend {
			_, err := daemon.Find(ctx, p.Conversation)
			if client.Unreachable(err) || ctx.Err() != nil {
				return // whoever starts later reads it then
			}
			if err == nil {
				break
			}
			reach.Pause(ctx, backoff)
		}
	}
}

func (a *app) tellImport(o importOptions, file string, taken export.Taken) {
	counts := make(map[export.Deed]int)
	lines := int64(0)
	for _, p := range taken.Conversations {
		counts[p.Deed]++
		lines += p.Lines
		if p.Deed == export.Refuse {
			a.say("passed over %s%s: %s", p.Conversation, text.Title(p.Topic), frame.Line(p.Why))
		}
	}
	verb := "imported"
	if o.check {
		verb = "would import"
	}
	a.say("%s %s, %s; %d extended, %d here already; %s in it", verb,
		text.Count(counts[export.Make], "conversation"), text.Count(int(lines), "line"), counts[export.Extend], counts[export.Keep], text.Count(taken.Files, "file"))
	switch {
	case o.check && lines > 0:
		a.next("duo import %s", shellQuote(file))
	case len(taken.Conversations) > 0:
		a.next("duo log %s", a.refOf(taken.Conversations[0].Conversation))
	default:
		a.next("duo list")
	}
}
