package show

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Span selects lines of a log; zero fields bound nothing.
type Span struct {
	After, Before int64 // behind the one, before the other
	Last, Limit   int   // the last so many of these, the first so many of those
}

// start is the line behind which the selection begins, in a log with a last line.
func (s Span) start(last int64) int64 {
	if s.Last == 0 {
		return s.After
	}
	return max(s.After, min(s.end()-1, last)-int64(s.Last))
}

// end is the line before which the selection ends.
func (s Span) end() int64 { return cmp.Or(s.Before, math.MaxInt64) }

const writeBuffer = 64 << 10

// Write copies the lines that are selected as they stand in a log whose last line is
// known, without noise, and tells how many. Damage ends it like the end of the log does:
// who wants to know asks for the conversation. With an error, w has what was read before.
func (s Span) Write(w io.Writer, log *convlog.Reader, last int64) (n int, err error) {
	scan, err := log.Since(s.start(last))
	if err != nil {
		return 0, err
	}
	out := bufio.NewWriterSize(w, writeBuffer)
	n, err = s.copy(out, scan, log.Size())
	return n, errors.Join(err, out.Flush())
}

func (s Span) copy(out *bufio.Writer, scan *convlog.Scanner, size int64) (n int, err error) {
	for s.Limit == 0 || n < s.Limit {
		if !scan.Next() {
			return n, ended(scan, size)
		}
		line := scan.Line()
		if line.Noise() {
			continue
		}
		if line.Seq >= s.end() {
			break
		}
		n++
		if _, err := out.Write(line.Bytes); err != nil {
			return n, err
		}
		if err := out.WriteByte('\n'); err != nil {
			return n, err
		}
	}
	return n, nil
}

// ended tells what has ended a scan of a log with so many bytes: nil for its end, and for
// damage.
func ended(scan *convlog.Scanner, size int64) error {
	var damage *convlog.DamageError
	if err := scan.Err(); err != nil && !errors.As(err, &damage) {
		return err
	}
	rest := len(scan.Fragment())
	end := scan.Pos().Offset + int64(rest)
	if damage == nil && end < size && rest <= envelope.MaxLine { // of a longer rest not all is kept
		return fmt.Errorf("log ends at byte %d of %d: %w", end, size, io.ErrUnexpectedEOF)
	}
	return nil
}
