package mailbox

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Signal names a file in the inbox that says how far a call is; see docs/calls.md.
type Signal struct {
	Name    string
	Time    int64  // of the call, Unix milliseconds
	Request string // id
}

// SignalOf is the signal of a call. Its name follows from the call, so that what is
// said of it later takes the place of what was said before.
func SignalOf(request string, placed int64) Signal {
	return Signal{Name: fmt.Sprintf("%013d.call.%s.json", placed, request), Time: placed, Request: request}
}

// ParseSignal reads the name of a file in the inbox.
func ParseSignal(name string) (Signal, bool) {
	placed, parts, ok := splitName(name)
	if !ok || parts[1] != "call" || !isID(parts[2]) {
		return Signal{}, false
	}
	s := SignalOf(parts[2], placed)
	return s, s.Name == name
}

// PutSignal says in the inbox how far a call is. What waits is put into new, else into
// cur. Where exactly that is in cur already, as the agent has seen it, it stays there, and
// that is reported. PutSignal does not wait for the disk: signals are made again from the
// records of calls.
func (b *Box) PutSignal(s Signal, line []byte, waits bool) (seen bool, err error) {
	to, from := InboxCur, InboxNew
	before, err := b.read(filepath.Join(InboxCur, s.Name), envelope.MaxLine+1)
	seen = err == nil && bytes.Equal(bytes.TrimSuffix(before, []byte("\n")), line)
	if waits {
		to, from = from, to
	}
	if seen {
		from = InboxNew
	} else if err := b.mending(func() error { return b.deposit(to, s.Name, line) }); err != nil {
		return false, fmt.Errorf("put signal %q: %w", s.Name, err)
	}
	if err := os.Remove(b.path(from, s.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("put signal: %w", err)
	}
	return seen, nil
}

// KeepSignal makes a signal durable that waits in the inbox. That it does not wait there
// is no error: the agent has seen it, or put something in its place.
func (b *Box) KeepSignal(s Signal) error {
	f, _, err := b.open(filepath.Join(InboxNew, s.Name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrForeign) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("keep signal: %w", err)
	}
	defer f.Close()
	if err := durable.Sync(f); err != nil {
		return fmt.Errorf("keep signal %q: %w", s.Name, err)
	}
	return durable.SyncDir(b.path(InboxNew))
}

// Signals lists the signals that wait in the inbox, oldest first.
func (b *Box) Signals() ([]Signal, error) { return b.signals(InboxNew) }

// AllSignals lists the signals in the inbox, those that were seen too, oldest first.
func (b *Box) AllSignals() ([]Signal, error) { return b.signals(InboxNew, InboxCur) }

func (b *Box) signals(folders ...string) ([]Signal, error) {
	var signals []Signal
	for _, folder := range folders {
		names, err := list(b.path(folder))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if s, ok := ParseSignal(name); ok {
				signals = append(signals, s)
			}
		}
	}
	slices.SortFunc(signals, Signal.Compare)
	return slices.Compact(signals), nil
}

// TidySignals removes the oldest of the signals that were seen, but for so many.
func (b *Box) TidySignals(kept int) error {
	seen, err := b.signals(InboxCur)
	if err != nil || len(seen) <= kept {
		return err
	}
	for _, s := range seen[:len(seen)-kept] {
		if err := os.Remove(b.path(InboxCur, s.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("tidy signals: %w", err)
		}
	}
	return nil
}

// Compare orders signals by the time of the calls.
func (s Signal) Compare(other Signal) int {
	return cmp.Or(cmp.Compare(s.Time, other.Time), cmp.Compare(s.Request, other.Request))
}
