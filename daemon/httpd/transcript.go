package httpd

import (
	"bufio"
	"io"
	"math"
	"net/http"
	"strconv"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/maildir/convlog"
)

// lines selects lines of a log.
type lines struct {
	after  int64 // those behind it
	before int64 // those before it, 0 for all
	last   int64 // the last so many, 0 for all
	limit  int64 // the first so many, 0 for all
}

func (q *lines) parse(r *http.Request) error {
	for name, target := range map[string]*int64{"after": &q.after, "before": &q.before, "last": &q.last, "limit": &q.limit} {
		n, err := number(r, name)
		if err != nil {
			return err
		}
		*target = n
	}
	return nil
}

func (q *lines) scan(log *convlog.Reader, state conv.State) (*convlog.Scanner, error) {
	if q.before == 0 {
		q.before = math.MaxInt64
	}
	if q.limit == 0 {
		q.limit = math.MaxInt64
	}
	after := q.after
	if q.last > 0 {
		after = max(after, min(q.before-1, state.LastSeq)-q.last)
	}
	return log.Since(after)
}

func (q *lines) send(w io.Writer, scan *convlog.Scanner) error {
	out := bufio.NewWriterSize(w, 64<<10)
	for n := int64(0); n < q.limit && scan.Next(); {
		line := scan.Line()
		if line.Noise() {
			continue
		}
		if line.Seq >= q.before {
			break
		}
		n++
		if _, err := out.Write(line.Bytes); err != nil {
			return err
		}
		if err := out.WriteByte('\n'); err != nil {
			return err
		}
	}
	if err := scan.Err(); err != nil {
		return err
	}
	return out.Flush()
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
