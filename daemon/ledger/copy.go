package ledger

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

// ErrReplica means that the origin of a conversation is another host than the one that
// wants to write its lines: who is not the origin gives no numbers, and nobody copies to
// a log of this host.
var ErrReplica = errors.New("another host is the origin of the conversation")

// ErrReplayed means that an origin gives another number to what the host of its author has
// signed once, and says so again.
var ErrReplayed = errors.New("its author has said it once")

// ForkError tells that two logs of one conversation have different lines under one seq.
type ForkError struct {
	Conversation string
	Seq          int64
}

func (e *ForkError) Error() string {
	return fmt.Sprintf("log of %q has another line %d than the one that was sent", e.Conversation, e.Seq)
}

// GapError tells that lines to copy begin later than behind the last one that is here.
type GapError struct {
	Conversation string
	Last, Got    int64
}

func (e *GapError) Error() string {
	return fmt.Sprintf("log of %q ends with line %d, got line %d", e.Conversation, e.Last, e.Got)
}

// Copy is lines of a conversation as they stand in the log of its origin, one behind the
// other.
type Copy struct {
	Origin       string // id of the host
	Conversation string
	Lines        [][]byte // without their newlines
	Own          bool     // they are lines of this host, and come back
	// Check is asked before the lines that are not here yet are appended, with the state
	// before them, and holds no lock. It is nil for nothing to ask. Where it returns an error,
	// Copy returns that, and nothing is appended.
	Check func(conv.State, []Stored) error
}

// Copy appends lines to a replica, verbatim, and returns what they say, with the state
// behind them; all of them are on disk then, also those that had been there before. A
// conversation that is not here yet is made with its first lines. One conversation is
// copied by one caller at a time.
//
// Lines that this host has already must be what it has, else the error is a *ForkError.
// Where lines are missing before them it is a *GapError. Lines that are none, or that no
// log of this conversation can have, are envelope.ErrInvalid, and ErrReplica where the
// conversation is not that origin's.
func (l *Ledger) Copy(ctx context.Context, c Copy) ([]Stored, conv.State, error) {
	lines, err := c.read(l.home.Host.ID)
	if err != nil || len(lines) == 0 {
		return nil, conv.State{}, err
	}
	state, err := l.copyTo(ctx, c, lines)
	if errors.Is(err, ErrNotFound) {
		state, err = l.createCopy(ctx, c, lines)
	}
	if err != nil {
		return nil, state, err
	}
	return lines, state, nil
}

func (l *Ledger) copyTo(ctx context.Context, c Copy, lines []Stored) (state conv.State, err error) {
	err = l.with(c.Conversation, func(log *conversation) error {
		err := log.copy(ctx, c, lines)
		state = log.current()
		return err
	})
	return state, err
}

// read checks what can be known of lines without the log.
func (c Copy) read(here string) (lines []Stored, err error) {
	if (c.Origin == here) != c.Own {
		return nil, fmt.Errorf("copy to %q: %w", c.Conversation, ErrReplica)
	}
	for i, text := range c.Lines {
		e, err := envelope.Decode(text)
		if err == nil {
			err = e.Validate()
		}
		switch {
		case err != nil:
		case e.Conversation != c.Conversation:
			err = fmt.Errorf("%w: it is a line of conversation %q", envelope.ErrInvalid, e.Conversation)
		case i > 0 && e.Seq != lines[i-1].Envelope.Seq+1:
			err = fmt.Errorf("%w: line %d behind line %d", envelope.ErrInvalid, e.Seq, lines[i-1].Envelope.Seq)
		case e.Seq == 1:
			err = c.begins(e)
		}
		if err != nil {
			return nil, fmt.Errorf("copy to %q: %w", c.Conversation, err)
		}
		lines = append(lines, Stored{Envelope: e, Bytes: text})
	}
	return lines, nil
}

// begins refuses a first line that does not make this conversation of this origin.
func (c Copy) begins(e *envelope.Envelope) error {
	if e.Type != envelope.System || e.Event != envelope.EventCreate || e.Origin != c.Origin ||
		envelope.ConversationID(c.Origin, e.ID) != c.Conversation {
		return fmt.Errorf("%w: line 1 does not create this conversation on host %q", envelope.ErrInvalid, c.Origin)
	}
	return nil
}

func (c Copy) check(state conv.State, lines []Stored) error {
	if c.Check == nil || len(lines) == 0 {
		return nil
	}
	return c.Check(state, lines)
}

// createCopy makes the log of a conversation that is not here yet.
func (l *Ledger) createCopy(ctx context.Context, c Copy, lines []Stored) (conv.State, error) {
	if first := lines[0].Envelope.Seq; first != 1 {
		return conv.State{}, &GapError{Conversation: c.Conversation, Got: first}
	}
	if err := c.check(conv.State{}, lines); err != nil {
		return conv.State{}, err
	}
	said := make(map[string]int64)
	for _, line := range lines {
		if err := replayed(line.Envelope, func(id string, _, _ int64) (int64, error) { return said[id], nil }); err != nil {
			return conv.State{}, err
		}
		said[line.Envelope.ID] = line.Envelope.Seq
	}
	if err := convlog.CreateCopy(l.home.LogPath(c.Conversation), c.Lines); err != nil && !errors.Is(err, fs.ErrExist) {
		return conv.State{}, err
	}
	l.refs.Add(c.Conversation)
	return l.copyTo(ctx, c, lines) // they are there now: this compares them, and tells the follower
}

// origin is the id of the host that orders a conversation.
func (l *Ledger) origin(state conv.State) string {
	return cmp.Or(state.Origin, l.home.Host.ID)
}

// replica reports whether the conversation is another host's. The caller holds the turn.
func (c *conversation) replica() bool {
	return c.work.Origin != "" && c.work.Origin != c.ledger.home.Host.ID
}

// copy appends the lines that are not in the log yet.
func (c *conversation) copy(ctx context.Context, from Copy, lines []Stored) error {
	if err := c.ready(ctx); err != nil {
		return err
	}
	state := c.current()
	if err := c.check(from, state, lines[0]); err != nil {
		return err
	}
	if err := from.check(state, behind(state.LastSeq, lines)); err != nil {
		return err
	}
	var added []Stored
	var refused error
	err := c.update(ctx, func(tx *convlog.Tx) error {
		fresh := behind(tx.Last(), lines) // fewer than were checked where a last line had no newline
		if refused = c.compare(tx, lines[:len(lines)-len(fresh)]); refused == nil {
			added, refused = c.addCopies(tx, fresh)
		}
		return nil // what was added before is written
	}, &added)
	return cmp.Or(err, refused)
}

// behind are those of some lines that stand behind seq.
func behind(seq int64, lines []Stored) []Stored {
	here := seq + 1 - lines[0].Envelope.Seq
	return lines[max(0, min(int64(len(lines)), here)):]
}

// check refuses lines of another origin, and those that begin too late.
func (c *conversation) check(from Copy, state conv.State, first Stored) error {
	switch {
	case state.LastSeq > 0 && c.ledger.origin(state) != from.Origin:
		return fmt.Errorf("copy to %q: %w", c.id, ErrReplica)
	case first.Envelope.Seq > state.LastSeq+1:
		return &GapError{Conversation: c.id, Last: state.LastSeq, Got: first.Envelope.Seq}
	}
	return nil
}

// compare holds lines against those that the log has under their numbers.
func (c *conversation) compare(tx *convlog.Tx, lines []Stored) error {
	if len(lines) == 0 {
		return nil
	}
	scan, err := tx.Since(lines[0].Envelope.Seq - 1)
	if err != nil {
		return err
	}
	for len(lines) > 0 && scan.Next() {
		if scan.Line().Noise() {
			continue
		}
		if !bytes.Equal(scan.Line().Bytes, lines[0].Bytes) {
			return &ForkError{Conversation: c.id, Seq: lines[0].Envelope.Seq}
		}
		lines = lines[1:]
	}
	return scan.Err()
}

// addCopies queues lines for the write, as far as they follow each other.
func (c *conversation) addCopies(tx *convlog.Tx, lines []Stored) (added []Stored, err error) {
	for _, line := range lines {
		e := line.Envelope
		if err := replayed(e, tx.Find); err != nil {
			return added, err
		}
		if err := tx.AddCopy(line.Bytes, e.ID, e.Timestamp); err != nil {
			return added, err
		}
		c.apply(elsewhere(e, tx.Offset()))
		added = append(added, Stored{Envelope: e, Bytes: tx.Line()})
	}
	return added, nil
}

// replayed refuses a line that its author's host has signed where it stands in the log already,
// or in front of one that its author had seen. Find is that of convlog.Tx.
func replayed(e *envelope.Envelope, find func(id string, after, since int64) (int64, error)) error {
	if e.Signature == "" || e.After == nil {
		return nil
	}
	if *e.After >= e.Seq {
		return fmt.Errorf("line %d was said behind line %d: %w", e.Seq, *e.After, ErrReplayed)
	}
	seq, err := find(e.ID, *e.After, 0)
	if err == nil && seq > 0 {
		err = fmt.Errorf("line %d stands as line %d already: %w", e.Seq, seq, ErrReplayed)
	}
	return err
}

// apply takes a line into the state. On a replica, what a line has adopted stood in
// another file.
func (c *conversation) apply(e *envelope.Envelope) {
	adopted := c.work.Adopted
	c.work = c.work.Apply(e)
	if c.replica() {
		c.work.Adopted = adopted
	}
}

// Head is the last line of a log.
type Head struct {
	Seq  int64  // 0 for none
	Hash string // in hex, the SHA-256 of the line without its newline
}

// Head tells the last line of a conversation, and its state.
func (l *Ledger) Head(ctx context.Context, id string) (head Head, state conv.State, err error) {
	err = l.Read(ctx, id, func(v View) error {
		state = v.State
		head, err = v.Head(v.State.LastSeq)
		return err
	})
	return head, state, err
}

// Head is the line seq as a head; that of the line 0 is empty.
func (v View) Head(seq int64) (Head, error) {
	if seq == 0 {
		return Head{}, nil
	}
	line, err := v.At(seq)
	if err != nil {
		return Head{}, err
	}
	sum := sha256.Sum256(line.Bytes)
	return Head{Seq: seq, Hash: hex.EncodeToString(sum[:])}, nil
}
