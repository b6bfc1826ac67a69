package ledger

import (
	"bytes"
	"fmt"
	"iter"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

// View is a conversation as it is on disk. It is valid inside the use of Read.
type View struct {
	State conv.State
	Log   *convlog.Reader
	last  []Stored // the last lines of the log, without a gap; may be none
}

// Stored is a line of a log and what it says. It may be kept, and is shared by all who
// read it: nobody changes it.
type Stored struct {
	Envelope *envelope.Envelope
	Bytes    []byte // without the newline
}

// Since runs over the lines behind seq, in order. The last lines come from memory. A
// line that is no envelope has only its number. An error ends the run.
func (v View) Since(seq int64) iter.Seq2[Stored, error] {
	if i, ok := v.kept(seq + 1); ok {
		return func(yield func(Stored, error) bool) {
			for _, line := range v.last[i:] {
				if !yield(line, nil) {
					return
				}
			}
		}
	}
	return func(yield func(Stored, error) bool) {
		scan, err := v.Log.Since(seq)
		if err != nil {
			yield(Stored{}, err)
			return
		}
		for scan.Next() {
			if !scan.Line().Noise() && !yield(stored(scan.Line()), nil) {
				return
			}
		}
		if scan.Err() != nil {
			yield(Stored{}, scan.Err())
		}
	}
}

// At returns the line with the number seq, or convlog.ErrNoLine.
func (v View) At(seq int64) (Stored, error) {
	if i, ok := v.kept(seq); ok && i < len(v.last) {
		return v.last[i], nil
	}
	line, err := v.Log.At(seq)
	if err != nil {
		return Stored{}, fmt.Errorf("line %d: %w", seq, err)
	}
	return stored(line), nil
}

// kept reports whether the lines from seq on are in memory, and from which one.
func (v View) kept(seq int64) (int, bool) {
	if len(v.last) == 0 || seq < v.last[0].Envelope.Seq {
		return 0, false
	}
	return int(min(seq-v.last[0].Envelope.Seq, int64(len(v.last)))), true
}

func stored(line convlog.Line) Stored {
	text := bytes.Clone(line.Bytes)
	e, err := envelope.Decode(text)
	if err != nil {
		e = &envelope.Envelope{Seq: line.Seq}
	}
	return Stored{Envelope: e, Bytes: text}
}
