package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/claude-duo/duo/daemon/export"
	"github.com/claude-duo/duo/maildir/durable"
)

const (
	exportedMessages = 200_000
	exports          = 3 // of each format
)

// exporting measures how fast all conversations of a home are written out in a format,
// beside a copy of the bytes of their logs.
func exporting(format export.Format) func(ctx context.Context, b *bench) (result, error) {
	return func(ctx context.Context, b *bench) (result, error) {
		c, err := b.exported()
		if err != nil {
			return result{}, err
		}
		ids, err := c.home.Conversations()
		if err != nil {
			return result{}, err
		}
		dir, err := b.folder("export")
		if err != nil {
			return result{}, err
		}
		write := export.File
		if format == export.HTML { // a page for each conversation
			write = export.Folder
		}
		out := filepath.Join(dir, "all"+format.Extension())
		var duo, floor time.Duration
		for range exports {
			took, err := timed(func() error {
				_, err := write(ctx, out, true, c.home, ids, format)
				return err
			})
			if err != nil {
				return result{}, err
			}
			duo += took
			took, err = timed(func() error { return c.copy(ids, filepath.Join(dir, "copy")) })
			if err != nil {
				return result{}, err
			}
			floor += took
		}
		megabytes := exports * float64(c.logs) / 1e6
		return result{
			duo:   fmt.Sprintf("%s, %.1f MB/s", rate(float64(exports*c.messages)/duo.Seconds()), megabytes/duo.Seconds()),
			floor: fmt.Sprintf("%.1f MB/s", megabytes/floor.Seconds()),
			ratio: fmt.Sprintf("%.2f ×", float64(floor)/float64(duo)), ok: true,
		}, nil
	}
}

// exported makes the home that the rows of exports share.
func (b *bench) exported() (c *corpus, err error) {
	if b.written == nil {
		b.written, err = b.newCorpus(exportedMessages)
	}
	return b.written, err
}

// copy writes the logs behind one another into a file, durably.
func (c *corpus) copy(ids []string, path string) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := appendFile(out, c.home.LogPath(id)); err != nil {
			return errors.Join(err, out.Close())
		}
	}
	return errors.Join(durable.Sync(out), out.Close())
}

func appendFile(out io.Writer, path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = io.Copy(out, in)
	return err
}
