package clients

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/claude-duo/duo/maildir/durable"
)

const (
	commandTime = 2 * time.Minute
	maxOutput   = 64 << 10 // of a client's command
)

// ErrRefused means that a client's own command did not let duo in. Nothing is left of it.
var ErrRefused = errors.New("the client refused")

// Apply does what was planned. Where a client's command refuses to let duo in, all is undone
// and the error is ErrRefused.
func (p *Plan) Apply(ctx context.Context) error {
	if p.undo {
		return p.applyUndo(ctx)
	}
	if err := updateRecord(p.env.Dir, func(r *record) { r.put(p.install) }); err != nil {
		return err
	}
	for _, change := range p.Changes {
		if err := p.write(change); err != nil {
			return err
		}
	}
	if len(p.Commands) == 0 {
		return nil
	}
	if err := p.runAll(ctx); err != nil {
		return p.revert(fmt.Errorf("%w: %w", ErrRefused, err))
	}
	return p.mend()
}

// runAll runs the client's commands; the way in ends where one fails. Files that these write
// besides, and in which nothing is ours, are then as they were.
func (p *Plan) runAll(ctx context.Context) (err error) {
	var kept []Change
	for _, path := range p.keep {
		change, err := look(file{path: path})
		if err != nil {
			return err
		}
		kept = append(kept, change)
	}
	defer func() {
		for _, was := range kept {
			err = errors.Join(err, was.restore())
		}
	}()
	for _, command := range p.Commands {
		if failed := p.run(ctx, command); failed != nil {
			err = errors.Join(err, failed)
			if !p.undo {
				return err
			}
		}
	}
	return err
}

// restore gives a file the text that it had.
func (c Change) restore() error {
	now, err := look(file{path: c.Path})
	switch {
	case err != nil:
		return err
	case c.Old == nil && now.Old != nil:
		return os.Remove(c.Path)
	case c.Old == nil || bytes.Equal(c.Old, now.Old):
		return nil
	}
	return c.replace(c.Old)
}

// revert undoes what was written before a client refused.
func (p *Plan) revert(cause error) error {
	undo, err := Uninstall(p.env, p.Client, p.Scope)
	if err == nil {
		undo.Commands = nil
		err = undo.Apply(context.Background())
	}
	return errors.Join(cause, err)
}

// write puts one change on disk. Before the rename the file is as it was.
func (p *Plan) write(c Change) error {
	now, err := look(file{c.role, c.Path, c.content})
	if err != nil {
		return refuse(c.Path, err)
	}
	if !bytes.Equal(now.Old, c.Old) {
		return refuse(c.Path, errors.New("it was changed just now; run the command again"))
	}
	if err := os.MkdirAll(filepath.Dir(c.target), 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	if c.Old != nil && !strings.HasPrefix(c.target, withoutLinks(p.env.Dir)+string(filepath.Separator)) {
		err := durable.Create(c.target+backupEnd, c.Old, c.mode)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return now.replace(c.New)
}

// replace gives the file another text. It stays whose it was.
func (c Change) replace(text []byte) error {
	if err := durable.Replace(c.target, text, c.mode); err != nil {
		return err
	}
	if c.info == nil || durable.OwnedBySelf(c.info) {
		return nil
	}
	return giveTo(c.target, c.info)
}

// mend gives files that a client's command has written again, with the same in them, the
// form that their owner gave them.
func (p *Plan) mend() error {
	for i, change := range p.Changes {
		if change.Own() {
			continue
		}
		now, err := look(file{change.role, change.Path, change.content})
		if err != nil {
			return refuse(change.Path, err)
		}
		switch {
		case bytes.Equal(now.Old, change.New):
		case same(now.Old, change.New):
			if err := now.replace(change.New); err != nil {
				return err
			}
		default:
			p.Changes[i].New = now.Old
			p.install.note(p.Changes[i])
		}
	}
	p.install.Begun = false
	return updateRecord(p.env.Dir, func(r *record) { r.put(p.install) })
}

// applyUndo takes duo out: by the client's commands, then out of what they have left.
func (p *Plan) applyUndo(ctx context.Context) error {
	if err := p.runAll(ctx); err != nil {
		p.Notes = append(p.Notes, err.Error())
	}
	for _, change := range p.Changes {
		if err := p.remove(change); err != nil {
			return err
		}
	}
	for _, dir := range slices.Backward(p.install.Folders) {
		_ = os.Remove(dir) // it stays where others have put something into it
	}
	return updateRecord(p.env.Dir, func(r *record) { r.drop(p.install) })
}

// remove takes what is ours out of one file.
func (p *Plan) remove(c Change) error {
	now, err := look(file{c.role, c.Path, c.content})
	if err != nil {
		return refuse(c.Path, err)
	}
	if now.Old == nil {
		return nil
	}
	if !bytes.Equal(now.Old, c.Old) && !same(now.Old, c.Old) && !sameButEmpty(now.Old, c.New) {
		if c.New, err = without(now, p.install.file(now.target), now.Old); err != nil {
			return refuse(c.Path, err)
		}
	}
	if c.New == nil {
		err = os.Remove(now.target)
	} else {
		err = now.replace(c.New)
	}
	if err != nil {
		return fmt.Errorf("take out of %q: %w", c.Path, err)
	}
	backup, err := os.ReadFile(now.target + backupEnd)
	if err == nil && p.install.file(now.target) != nil && (c.New == nil || bytes.Equal(backup, c.New)) {
		return os.Remove(now.target + backupEnd)
	}
	return nil
}

// sameButEmpty reports whether two documents differ only in what is empty. No document has
// nothing in it.
func sameButEmpty(a, b []byte) bool {
	x, err := plain(a)
	if err != nil {
		return false
	}
	if b == nil {
		return pruned(x) == nil
	}
	y, err := plain(b)
	return err == nil && bytes.Equal(encode(pruned(x)), encode(pruned(y)))
}

// run runs a client's command, in a folder of ours: some trust the folder that they are run
// in. What it prints is told only where it fails.
func (p *Plan) run(ctx context.Context, words []string) error {
	out, err := output(ctx, p.env.Dir, words...)
	if err != nil {
		return fmt.Errorf("%s: %w%s", strings.Join(words, " "), err, lastLine(out))
	}
	return nil
}

// output runs a client's command and returns what it prints.
func output(ctx context.Context, dir string, words ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Dir, cmd.WaitDelay = dir, time.Second
	var out bounded
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.text, err
}

// bounded keeps the beginning of what is written to it.
type bounded struct{ text []byte }

func (b *bounded) Write(p []byte) (int, error) {
	b.text = append(b.text, p[:min(len(p), maxOutput-len(b.text))]...)
	return len(p), nil
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		return ": " + last
	}
	return ""
}
