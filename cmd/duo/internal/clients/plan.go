package clients

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/rogpeppe/go-internal/diff"
)

const (
	maxFile     = 16 << 20 // of a client's file
	commandTime = 2 * time.Minute
	maxOutput   = 64 << 10 // of a client's command
	backupEnd   = ".duo-bak"
)

// ErrRefused means that a client's own command did not let duo in. Nothing is left of it.
var ErrRefused = errors.New("the client refused")

// Plan is what would be done to one client.
type Plan struct {
	Client   string
	Title    string
	Scope    Scope
	Way      string // "plugin" or "files"
	Changes  []Change
	Commands [][]string
	Notes    []string // what the user has to know or do

	env     Env
	install install // to be recorded, or what was
	undo    bool
	keep    []string // files that get their text back after the commands
	forgets bool     // there is a record to be taken out
}

// Change is what happens to one file. Nil stands for no file.
type Change struct {
	Path     string
	Old, New []byte

	target  string // Path without links
	mode    fs.FileMode
	info    fs.FileInfo // nil for no file
	role    string
	content content
	made    []string
}

// Own reports whether the file is duo's alone.
func (c Change) Own() bool {
	_, own := c.content.(whole)
	return own
}

// Diff is the change as a unified diff, with the line ends of other systems left out.
func (c Change) Diff() string {
	clean := func(text []byte) []byte { return bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")) }
	text := string(diff.Diff(c.Path, clean(c.Old), c.Path, clean(c.New)))
	_, text, _ = strings.Cut(text, "\n") // the first line repeats the path
	return text
}

// Empty reports whether there is nothing to do.
func (p *Plan) Empty() bool { return len(p.Changes) == 0 && len(p.Commands) == 0 && !p.forgets }

// Install plans to put duo into a client. Where files is true, it is written into the
// client's files even where the client has a command for it.
func Install(env Env, name string, scope Scope, files bool) (*Plan, error) {
	c := all[name]
	record, err := readRecord(env.Dir)
	if err != nil {
		return nil, err
	}
	if err := record.clash(name, env, scope); err != nil {
		return nil, err
	}
	was := record.find(name, env, scope)
	if was != nil && env.Outbox == "" {
		env.Outbox = was.Outbox
	}
	p := &Plan{Client: name, Title: c.title(), Scope: scope, Way: wayFiles, Notes: c.notes(env, scope), env: env}
	list := c.files(env, scope)
	if plugin := c.plugin(env); plugin != nil && scope == User && !files && (was == nil && has(c) || was != nil && was.Way == wayPlugin) {
		p.Way, list, p.Commands, p.keep = wayPlugin, plugin.files, plugin.in, plugin.keep
	}
	p.install = install{Client: name, Scope: scope, Project: projectOf(env, scope), Way: p.Way}
	if was != nil {
		p.install = was.clone()
	}
	p.install.Outbox = env.Outbox
	for _, f := range list {
		if err := p.put(f, record); err != nil {
			return nil, refuse(f.path, err)
		}
	}
	if was != nil && len(p.Changes) == 0 && !was.Begun {
		p.Commands = nil // it was let in before
	}
	p.install.Begun = len(p.Commands) > 0
	return p, nil
}

func projectOf(env Env, scope Scope) string {
	if scope == Project {
		return env.Project
	}
	return ""
}

// put plans what happens to one file when duo is installed.
func (p *Plan) put(f file, record *record) error {
	change, err := look(f)
	if err != nil {
		return err
	}
	if change.New, change.made, err = f.content.put(change.Old); err != nil {
		return err
	}
	if change.Old != nil && bytes.Equal(change.Old, change.New) {
		p.install.share(record, change.target)
		return nil
	}
	if err := change.writable(); err != nil {
		return err
	}
	p.Changes = append(p.Changes, change)
	p.install.note(change)
	return nil
}

// look reads a file as it is now.
func look(f file) (Change, error) {
	change := Change{Path: f.path, target: withoutLinks(f.path), mode: 0o600, role: f.role, content: f.content}
	if _, err := os.Lstat(f.path); errors.Is(err, fs.ErrNotExist) {
		return change, nil
	}
	target, err := filepath.EvalSymlinks(f.path)
	if err != nil {
		return change, fmt.Errorf("follow link: %w", err)
	}
	change.target = target
	info, err := os.Stat(target)
	switch {
	case err != nil:
		return change, err
	case !info.Mode().IsRegular():
		return change, errors.New("it is no plain file")
	case info.Size() > maxFile:
		return change, fmt.Errorf("it has %d bytes, want at most %d", info.Size(), maxFile)
	}
	change.mode, change.info = info.Mode().Perm(), info
	change.Old, err = os.ReadFile(target)
	if change.Old == nil {
		change.Old = []byte{}
	}
	return change, err
}

// withoutLinks is the path of a file that is not there, as it will be when it is.
func withoutLinks(path string) string {
	dir := filepath.Dir(path)
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	} else if dir != path {
		dir = withoutLinks(dir)
	}
	return filepath.Join(dir, filepath.Base(path))
}

// writable makes sure that the owner of the file lets it be written: the folder alone
// decides whether it can be replaced.
func (c Change) writable() error {
	switch {
	case c.Old == nil:
		return nil
	case c.mode&0o200 == 0:
		return errors.New("it is read-only")
	case !durable.OwnedBySelf(c.info) && os.Geteuid() != 0:
		return errors.New("it belongs to another user")
	}
	return nil
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

func refuse(path string, err error) error {
	return api.Errorf(api.BadConfig, "%s: %w", path, err).WithNext("cat %s", frame.ShellWord(path))
}

// Uninstall plans to take duo out of a client.
func Uninstall(env Env, name string, scope Scope) (*Plan, error) {
	c := all[name]
	record, err := readRecord(env.Dir)
	if err != nil {
		return nil, err
	}
	was := record.find(name, env, scope)
	if was != nil {
		env.Outbox = was.Outbox
	}
	p := &Plan{Client: name, Title: c.title(), Scope: scope, Way: wayFiles, env: env, undo: true}
	list := c.files(env, scope)
	if plugin := c.plugin(env); plugin != nil && was != nil && was.Way == wayPlugin {
		p.Way, list, p.keep = wayPlugin, plugin.files, plugin.keep
		if has(c) {
			p.Commands = plugin.out
		}
	}
	if was != nil {
		p.install, p.forgets = *was, true
		list = was.at(list)
	}
	for _, f := range list {
		if record.shared(f.path, was) {
			continue
		}
		if err := p.take(f); err != nil {
			return nil, refuse(f.path, err)
		}
	}
	return p, nil
}

// take plans what happens to one file when duo is taken out.
func (p *Plan) take(f file) error {
	change, err := look(f)
	if err != nil || change.Old == nil {
		return err
	}
	was := p.install.file(change.target)
	if change.New, err = without(change, was, change.Old); err != nil {
		return err
	}
	if change.New != nil && bytes.Equal(change.Old, change.New) {
		if change.Own() {
			p.Notes = append(p.Notes, change.Path+" was edited and stays")
		}
		return nil
	}
	if err := change.writable(); err != nil {
		return err
	}
	p.Changes = append(p.Changes, change)
	return nil
}

// without is the text of a file without what is ours: what it was before where nobody has
// edited it since.
func without(c Change, was *written, text []byte) ([]byte, error) {
	untouched := was != nil && was.After == sum(text) && !was.Edited
	switch {
	case untouched && was.Created:
		return nil, nil
	case untouched && was.Before != "":
		if backup, err := os.ReadFile(c.target + backupEnd); err == nil && sum(backup) == was.Before {
			return backup, nil
		}
	}
	var made []string
	if was != nil {
		made = append([]string{}, was.Made...)
	}
	left, err := c.content.take(text, made)
	if err != nil {
		return nil, err
	}
	if was != nil && was.Created && c.content.empty(left) {
		return nil, nil
	}
	return left, nil
}

func sum(text []byte) string {
	hash := sha256.Sum256(text)
	return hex.EncodeToString(hash[:])
}

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
