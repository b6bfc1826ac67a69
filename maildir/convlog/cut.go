package convlog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/claude-duo/duo/maildir/durable"
)

// Cut puts a new file in the place of the log, with its valid lines through keep, and
// hands the lines behind them to save, which makes them durable when it is called with
// nil. This is for the copy of a log whose original has gone another way: nothing else is
// ever taken out of a log. Noise does not come along.
//
// When it returns nil, the new file is in its place for good. Whatever it returns, this
// Log is ErrReplaced from then on: open the new one. After a crash either file is there,
// whole.
func (l *Log) Cut(ctx context.Context, keep int64, save func(line []byte) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return l.failed
	}
	if err := l.acquire(ctx); err != nil {
		return err
	}
	defer l.release()
	if err := l.catchUp(true); err != nil {
		return err
	}
	err := l.cut(keep, save)
	l.failed = fmt.Errorf("log %q: %w", l.path, errors.Join(ErrReplaced, err))
	return errors.Join(err, l.file.Close())
}

func (l *Log) cut(keep int64, save func(line []byte) error) (err error) {
	temp, err := os.CreateTemp(filepath.Dir(l.path), durable.TempPrefix+"*")
	if err != nil {
		return fmt.Errorf("cut log: %w", err)
	}
	defer func() {
		if err != nil {
			_ = temp.Close()
			_ = os.Remove(temp.Name()) // it may have its new name already
			err = fmt.Errorf("cut log %q: %w", l.path, err)
		}
	}()
	if err := l.divide(temp, keep, save); err != nil {
		return err
	}
	if err := l.opts.Sync(temp); err != nil {
		return err
	}
	if err := temp.Close(); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), l.path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(l.path))
}

// divide writes the lines through keep to one place and hands out the others.
func (l *Log) divide(to io.Writer, keep int64, save func(line []byte) error) error {
	w := bufio.NewWriterSize(to, 64<<10)
	scan := NewScanner(l.file, Pos{}, l.tail.Offset)
	for scan.Next() {
		line := scan.Line()
		if line.Noise() {
			continue
		}
		var err error
		if line.Seq > keep {
			err = save(line.Bytes)
		} else if _, err = w.Write(line.Bytes); err == nil {
			err = w.WriteByte('\n')
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(scan.Err(), w.Flush(), save(nil))
}
