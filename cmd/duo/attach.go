package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/spf13/cobra"
)

func (b *body) addAttach(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&b.attach, "attach", nil, "send this file too; may be repeated")
}

// textOrFiles is split for commands that need no text where there are files.
func (b *body) textOrFiles(cmd *cobra.Command, args []string, count int) (before []string, text string, err error) {
	if len(b.attach) > 0 && b.file == "" && len(args) == count {
		return args, "", b.app.checkWait(cmd)
	}
	return b.split(cmd, args, count)
}

// unsent are files of a draft that no daemon has taken, and why. The draft then has to be
// left as a drop, with them.
type unsent struct {
	paths []string
	why   error
}

// upload gives the files to the daemon, and makes the draft mention them. Where no daemon
// can be reached, the drop will name them.
func (a *app) upload(ctx context.Context, draft *envelope.Envelope, paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	home, err := a.home()
	if err != nil {
		return err
	}
	if n := len(paths); n > envelope.MaxAttachments {
		return api.Errorf(api.TooMany, "%d attachments are over the limit of %d", n, envelope.MaxAttachments)
	}
	for _, path := range paths { // all of them before any is sent
		f, _, err := openAttached(path, home.Config.Limits.Attachment)
		if err != nil {
			return err
		}
		_ = f.Close() // nothing was written
	}
	for i, path := range paths {
		attachment, err := ask(ctx, a, func(c *client.Client) (envelope.Attachment, error) {
			f, size, err := openAttached(path, home.Config.Limits.Attachment)
			if err != nil {
				return envelope.Attachment{}, err
			}
			defer f.Close()
			return c.Upload(ctx, filepath.Base(path), "", f, size)
		})
		if client.Unreachable(err) {
			a.unsent = unsent{paths[i:], err}
			return nil
		}
		if err != nil {
			return err
		}
		draft.Attachments = append(draft.Attachments, attachment)
	}
	return nil
}

// openAttached opens a file that the user has named.
func openAttached(path string, limit int64) (*os.File, int64, error) {
	bad := func(err error) error { return usage("ls -l "+shellQuote(path), "read --attach: %w", err) }
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%q: %w", path, durable.ErrForeign)
	}
	if err != nil {
		return nil, 0, bad(err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, bad(err)
	}
	if info.Size() > limit {
		_ = f.Close() // nothing was written
		return nil, 0, api.Errorf(api.TooLarge, "%q has %d bytes, over the limit of %d", path, info.Size(), limit).WithNext("duo config get limits.attachment")
	}
	return f, info.Size(), nil
}

// leaveFiles puts what no daemon has taken beside the drop that a draft becomes.
func (a *app) leaveFiles(box *mailbox.Box, draft *envelope.Envelope) (*envelope.Envelope, error) {
	var files []mailbox.DropFile
	for _, path := range a.unsent.paths {
		file := mailbox.DropFile{File: envelope.NewID(), Name: filepath.Base(path)}
		f, _, err := openAttached(path, a.opened.Config.Limits.Attachment)
		if err != nil {
			return nil, err
		}
		err = box.LeaveFile(file, f)
		_ = f.Close() // nothing was written
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return mailbox.WithFiles(draft, files)
}
