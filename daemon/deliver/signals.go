package deliver

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/claude-duo/duo/daemon/bus"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

const keptSignals = time.Minute // for streams that are slow; those that wait are kept

// signal is what an agent is told of a call. Unlike a message it always has a file, and
// changes while the call goes on.
type signal struct {
	mailbox.Signal
	envelope *envelope.Envelope // not changed
	waits    bool               // the agent was not shown it, and has to be
	version  uint64             // of the reader, when it changed
	at       time.Time          // of the change
}

func liveLine(e *envelope.Envelope) Line {
	return Line{Stored: ledger.Stored{Envelope: e, Bytes: e.Append(nil)}, Live: true}
}

// loadSignals reads what waits in the inbox. One that cannot be read is said again by
// who keeps the records of calls.
func (r *reader) loadSignals() error {
	list, err := r.box.Signals()
	if err != nil {
		return fmt.Errorf("agent %q: %w", r.name, err)
	}
	for _, s := range list {
		if e, err := r.box.ReadItem(s.Name); err == nil {
			r.signals[s.Request] = &signal{Signal: s, envelope: e, waits: true, version: r.version}
		}
	}
	return nil
}

// signalsAfter lists the signals that have changed after a version, oldest first. The
// caller holds the lock.
func (r *reader) signalsAfter(version uint64) (list []*signal) {
	if r.version == version {
		return nil
	}
	for _, s := range r.signals {
		if s.version > version {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b *signal) int {
		return cmp.Or(cmp.Compare(a.version, b.version), a.Compare(b.Signal))
	})
	return list
}

// Signal tells an agent of this host how far a call is, which was placed at a time in
// Unix milliseconds: its streams at once, and with a file in its inbox, in new where it
// waits for the agent. To say the same twice changes nothing, also after a start or long
// ago. After an error it may be said again; streams know by then.
func (d *Deliverer) Signal(agent, request string, placed int64, e *envelope.Envelope, waits bool) error {
	r, err := d.reader(agent)
	if err != nil {
		return fmt.Errorf("mailbox of %q: %w", agent, err)
	}
	s := &signal{Signal: mailbox.SignalOf(request, placed), envelope: e, at: d.now()}
	line := e.Append(nil)
	r.filing.Lock()
	defer r.filing.Unlock()
	seen, err := r.box.PutSignal(s.Signal, line, waits)
	s.waits = waits && !seen
	r.mu.Lock()
	before, ok := r.signals[request]
	switch {
	case ok && bytes.Equal(before.envelope.Append(nil), line):
		before.waits = s.waits
	case ok || !seen:
		r.version++
		s.version = r.version
		r.signals[request] = s
		d.bus.Poke(bus.Agent(d.home.Address(r.name)))
	}
	r.mu.Unlock()
	d.notify()
	if s.waits && d.waits != nil {
		d.waits(r.name)
	}
	return err
}

// SeenSignal notes that an agent was shown how far a call is: that it has a status, or
// for an empty one, whatever it has. What has come since stays unseen.
func (d *Deliverer) SeenSignal(agent, request, status string) error {
	r, err := d.reader(agent)
	if err != nil {
		return fmt.Errorf("mailbox of %q: %w", agent, err)
	}
	r.filing.Lock()
	defer r.filing.Unlock()
	r.mu.Lock()
	s, ok := r.signals[request]
	ok = ok && (status == "" || status == s.envelope.Status)
	if ok {
		s.waits, s.at = false, d.now()
	}
	r.mu.Unlock()
	if !ok {
		return nil
	}
	_, err = r.box.MarkSeen(s.Name)
	d.notify()
	return err
}

// Signals lists what an agent was not shown of calls, oldest first. The envelopes are
// not to be changed.
func (d *Deliverer) Signals(agent string) ([]*envelope.Envelope, error) {
	r, err := d.reader(agent)
	if err != nil {
		return nil, fmt.Errorf("mailbox of %q: %w", agent, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*envelope.Envelope
	for _, s := range r.signalsAfter(0) {
		if s.waits {
			list = append(list, s.envelope)
		}
	}
	return list, nil
}

// signalsMoved notes which signals the agent has moved from new to cur itself.
func (r *reader) signalsMoved() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.signals {
		if !s.waits {
			continue
		}
		_, waiting := os.Lstat(filepath.Join(r.box.Dir(), mailbox.InboxNew, s.Name))
		_, seen := os.Lstat(filepath.Join(r.box.Dir(), mailbox.InboxCur, s.Name))
		if errors.Is(waiting, fs.ErrNotExist) && seen == nil {
			s.waits = false
		}
	}
}

// forgetSignals drops what is over for long enough that every stream has it.
func (r *reader) forgetSignals(before time.Time) (left bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, s := range r.signals {
		if !s.waits && s.at.Before(before) {
			delete(r.signals, id)
		}
		left = left || !s.waits
	}
	return left
}
