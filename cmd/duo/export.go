package main

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/export"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/offline"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/spf13/cobra"
)

type exportOptions struct {
	format string
	output string
	force  bool
	all    bool
}

func newExport(a *app) *cobra.Command {
	var o exportOptions
	cmd := &cobra.Command{
		Use: "export [REF...]", Short: "Write conversations out, for people, mail programs and other homes",
		Long: `Write conversations out: those that are named, else those that you are or were in, and
for a user who is no agent here, or with --all, all of the home. It reads the files
themselves, with a daemon and without, and changes nothing.

jsonl     every line of the logs and every file: duo import takes it back
mbox      mail, a thread for each conversation
markdown  transcripts to read, in a folder where there are several
html      the same as pages
sqlite    the tables of duo sql, and the files

Without --output it goes to standard output, where the format is one file.
--output gets its name when all is written; what is there already is replaced with
--force only. Where it ends with .jsonl, .mbox, .md, .html or .sqlite, that is the format.`,
		Example: `  duo export c9f3a --format markdown > talk.md
  duo export c9f3a --output talk.html
  duo export --output all.jsonl
  duo export --format markdown --output talks
  duo export | ssh far duo import -`,
		Args: cobra.ArbitraryArgs, ValidArgsFunction: a.completeConversations,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.format = cmp.Or(o.format, string(formatOf(o.output)))
			return a.runExport(cmd.Context(), o, args)
		},
	}
	f := cmd.Flags()
	f.Var(choice{&o.format, formats}, "format", "form of what is written (default what --output ends with, else jsonl)")
	f.StringVar(&o.output, "output", "", "file or folder to write, - for standard output")
	f.BoolVar(&o.force, "force", false, "replace what is there")
	f.BoolVar(&o.all, "all", false, "all conversations of the home")
	return cmd
}

var formats = []string{string(export.JSONL), string(export.Mbox), string(export.Markdown), string(export.HTML), string(export.SQLite)}

// formatOf is the format that the name of a file asks for.
func formatOf(output string) export.Format {
	switch strings.ToLower(filepath.Ext(output)) {
	case ".mbox":
		return export.Mbox
	case ".md", ".markdown":
		return export.Markdown
	case ".html", ".htm":
		return export.HTML
	case ".sqlite", ".db":
		return export.SQLite
	}
	return export.JSONL
}

func (a *app) runExport(ctx context.Context, o exportOptions, refs []string) error {
	home, err := a.openHome(maildir.Open)
	if err != nil {
		return err
	}
	ids, err := a.exported(home, o, refs)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		return api.Errorf(api.ConversationNotFound, "there is no conversation to export").WithNext("duo list")
	}
	result, err := a.writeExport(ctx, o, home, ids)
	if errors.Is(err, fs.ErrNotExist) && len(refs) == 0 {
		return api.Errorf(api.ConversationNotFound, "a conversation has gone meanwhile: %w", err).WithNext("duo export")
	}
	if err != nil {
		return err
	}
	return cmp.Or(a.tellExport(o, result), incomplete(result))
}

// exported lists the conversations that are meant.
func (a *app) exported(home *maildir.Home, o exportOptions, refs []string) ([]string, error) {
	if o.all && len(refs) > 0 {
		return nil, usage("duo export --all", "--all are all: name none")
	}
	files, err := offline.Open(home, "")
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, ref := range refs {
		if err := checkConversation(ref, "duo export "+shellQuote(ref)); err != nil {
			return nil, err
		}
		id, err := files.Resolve(ref)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	if len(refs) > 0 {
		return ids, nil
	}
	ids, err = home.Conversations()
	if err != nil || o.all {
		return ids, err
	}
	self, err := a.me()
	var unnamed *api.Error
	switch {
	case errors.As(err, &unnamed) && unnamed.Code == api.IdentityRequired, err == nil && self.Source == onlyAgent:
		return ids, nil
	case err != nil:
		return nil, err
	}
	own, err := mailbox.At(home.AgentDir(self.Name)).Conversations()
	return slices.DeleteFunc(own, func(id string) bool { return !slices.Contains(ids, id) }), err
}

func (a *app) writeExport(ctx context.Context, o exportOptions, home *maildir.Home, ids []string) (export.Result, error) {
	format := export.Format(o.format)
	if o.output != "" && o.output != "-" {
		to := export.File
		if o.folder(ids) {
			to = export.Folder
		}
		result, err := to(ctx, o.output, o.force, home, ids, format)
		switch {
		case errors.Is(err, fs.ErrExist):
			err = api.Errorf(api.FileExists, "%q is there already, and is not replaced", o.output).
				WithNext("%s", shellLine(slices.Concat([]string{"duo"}, withoutFlag(a.args, "--output"), []string{"--output", another(o.output)})...))
		case err != nil:
			err = noPlace(o.output, err)
		}
		return result, err
	}
	if o.folder(ids) {
		return export.Result{}, usage(shellLine(slices.Concat([]string{"duo"}, a.args, []string{"--output", "conversations"})...),
			"%d conversations as %s are a folder: name one for --output", len(ids), o.format)
	}
	if format == export.SQLite {
		return export.Result{}, usage(shellLine(slices.Concat([]string{"duo"}, a.args, []string{"--output", "conversations.sqlite"})...),
			"sqlite is a file: name it with --output")
	}
	if a.terminal && format != export.Markdown { // in which nothing is left that a terminal obeys
		return export.Result{}, usage("duo export --format "+o.format+" --output conversations."+o.format,
			"standard output is a terminal, which would obey what is in it: name a file for --output")
	}
	return export.Write(ctx, a.out, home, ids, format)
}

// noPlace says what is wrong with the folder that an output is in, where that is what has failed.
func noPlace(output string, err error) error {
	var failed *fs.PathError
	dir := filepath.Dir(filepath.Clean(output))
	if durable.DiskFailed(err) || !errors.As(err, &failed) || failed.Path != dir && filepath.Dir(failed.Path) != dir {
		return err
	}
	next := "ls -ld " + shellQuote(dir)
	if errors.Is(err, fs.ErrNotExist) {
		next = "mkdir -p " + shellQuote(dir)
	}
	return usage(next, "--output %q: %v", output, failed.Err) // not the conversation is missing
}

// folder reports whether what is written is a folder: of transcripts where there are
// several, or where the output has no name of a file.
func (o exportOptions) folder(ids []string) bool {
	switch export.Format(o.format) {
	case export.Markdown, export.HTML:
		toFile := o.output == "" || o.output == "-" || filepath.Ext(o.output) != ""
		return len(ids) > 1 || !toFile
	}
	return false
}

// exportedTo is what was written, as --json tells it.
type exportedTo struct {
	export.Result
	Format string `json:"format"`
	File   string `json:"file"`
	Size   int64  `json:"size"` // bytes
}

func (a *app) tellExport(o exportOptions, r export.Result) error {
	summary := text.Count(r.Conversations, "conversation") + ", " + text.Count(int(r.Lines), "line") + ", " + text.Count(r.Files, "file")
	if r.Left > 0 {
		a.note("%s only named in it: a folder, --output FOLDER, has files too", text.Count(r.Left, "file")+be(r.Left))
	}
	if o.output == "" || o.output == "-" {
		a.note("%s were written", summary)
		return nil
	}
	size, err := sizeOf(o.output)
	if err != nil {
		return err
	}
	return a.print(exportedTo{r, o.format, o.output, size}, func() {
		a.say("wrote %s: %s, %s", frame.Line(o.output), summary, text.Size(int(size)))
		if o.format == string(export.JSONL) {
			a.next("duo import %s --check", shellQuote(o.output))
		} else {
			a.next("ls -l %s", shellQuote(o.output))
		}
	})
}

// sizeOf is the number of bytes in a file, or in all files of a folder.
func sizeOf(path string) (size int64, err error) {
	err = filepath.WalkDir(path, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}

// incomplete is the error of an export that is there, but without something.
func incomplete(r export.Result) error {
	switch {
	case len(r.Damaged) > 0:
		d := r.Damaged[0]
		return api.Errorf(api.Damaged, "%s could not be read to the end, %s: %s; what stands before is in the export",
			text.Count(len(r.Damaged), "conversation"), d.Ref, d.Why).WithNext("duo fsck %s", d.Ref)
	case len(r.Missing) > 0:
		m := r.Missing[0]
		return api.Errorf(api.AttachmentNotFound, "%s not in the export, %s %s", text.Count(len(r.Missing), "file")+be(len(r.Missing)), frame.Quote(m.Name, maxQuoted), m.Why).
			WithNext("duo fsck")
	}
	return nil
}

func be(n int) string {
	if n == 1 {
		return " is"
	}
	return " are"
}
