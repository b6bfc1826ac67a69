package export

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/show"
	"github.com/claude-duo/duo/maildir/blob"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

// talk is one conversation as its log was when it was opened.
type talk struct {
	id, ref string
	log     *convlog.Reader
	state   conv.State            // behind the last line
	lines   int64                 // valid ones
	bytes   int64                 // of these, with a newline behind each
	sum     string                // SHA-256 of these bytes, in hex
	files   []envelope.Attachment // that they bring, each content once
	damage  error                 // what stands behind the last line that can be read, nil for nothing
}

// open reads a log once, from its start to its end. The caller closes it.
func (s *source) open(id string) (*talk, error) {
	log, err := convlog.OpenReader(s.home.LogPath(id))
	if err != nil {
		return nil, err
	}
	t := &talk{id: id, ref: s.refs.Short(id), log: log}
	if err := t.survey(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return t, nil
}

func (t *talk) survey() error {
	sum := sha256.New()
	known := make(map[string]bool)
	scan := t.log.Scan(convlog.Pos{})
	for scan.Next() {
		line := scan.Line()
		if line.Noise() {
			continue
		}
		t.lines++
		t.bytes += int64(len(line.Bytes)) + 1
		sum.Write(line.Bytes)
		sum.Write([]byte{'\n'})
		if line.From != nil {
			t.state = t.state.Message(line.Seq, string(line.From))
			continue
		}
		e := decode(line)
		t.state = t.state.Apply(e)
		for _, a := range e.Attachments {
			if !known[a.SHA256] {
				known[a.SHA256] = true
				t.files = append(t.files, a)
			}
		}
	}
	t.sum = hex.EncodeToString(sum.Sum(nil))
	err := scan.Err()
	if errors.As(err, new(*convlog.DamageError)) {
		t.damage, err = err, nil
	}
	return err
}

// decode reads a line. One that is no envelope has only its number. A file without a sum is
// none: no daemon has written that line.
func decode(line convlog.Line) *envelope.Envelope {
	e, err := envelope.Decode(line.Bytes)
	if err != nil {
		return &envelope.Envelope{Seq: line.Seq}
	}
	e.Attachments = slices.DeleteFunc(e.Attachments, func(a envelope.Attachment) bool { return !blob.IsSum(a.SHA256) })
	return e
}

// raw runs over the lines as they stand in the log, as survey has counted them.
func (t *talk) raw(do func(convlog.Line) error) error {
	scan := t.log.Scan(convlog.Pos{})
	n := int64(0)
	for n < t.lines && scan.Next() {
		if scan.Line().Noise() {
			continue
		}
		n++
		if err := do(scan.Line()); err != nil {
			return err
		}
	}
	if n < t.lines {
		return fmt.Errorf("log has changed while it was read: %d of %d lines: %w", n, t.lines, scan.Err())
	}
	return nil
}

// entry is a line as it is told of.
type entry struct {
	*envelope.Envelope            // of a line that is no envelope, only the number
	state              conv.State // with the line
	crossed            []int64    // seqs of the messages by others that the sender had not been shown
}

// known reports whether an entry says anything.
func (e entry) known() bool { return e.Type != "" && !e.From.IsZero() }

// maxCrossing is how many lines before a message can have crossed it: see show.Crossed.
const maxCrossing = 128

// entries runs over the lines. What it gives is valid until the next one.
func (t *talk) entries(do func(entry) error) error {
	var state conv.State
	var recent []*envelope.Envelope // without their bodies
	return t.raw(func(line convlog.Line) error {
		e := decode(line)
		state = state.Apply(e)
		entry := entry{Envelope: e, state: state}
		if behind, ok := show.CrossedBehind(e); ok {
			entry.crossed = show.Crossed(e, after(recent, behind))
		}
		if len(recent) == 2*maxCrossing {
			recent = append(recent[:0], recent[maxCrossing:]...)
		}
		recent = append(recent, &envelope.Envelope{Seq: e.Seq, Type: e.Type, From: e.From})
		return do(entry)
	})
}

func after(list []*envelope.Envelope, seq int64) iter.Seq2[*envelope.Envelope, error] {
	return func(yield func(*envelope.Envelope, error) bool) {
		for _, e := range list {
			if e.Seq > seq && !yield(e, nil) {
				return
			}
		}
	}
}
