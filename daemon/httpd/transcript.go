package httpd

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/show"
)

// transcript sends lines of a log as they stand there, without noise. Where reading fails
// in the middle, the connection breaks: nobody takes what came for all that there is.
func (s *Server) transcript(w http.ResponseWriter, r *http.Request) {
	who, err := s.admit(r, reading)
	var span show.Span
	id := ""
	if err == nil {
		span, err = spanOf(r)
	}
	if err == nil {
		id, err = s.conversationOf(r.Context(), who, r.PathValue("ref"))
	}
	sent := 0
	if err == nil {
		err = s.Ledger.Read(r.Context(), id, func(v ledger.View) error {
			if sent > 0 { // the log has failed, and is read anew
				return errors.New("the log has failed")
			}
			w.Header().Set("Content-Type", "application/x-ndjson")
			n, err := span.Write(patient{w}, v.Log, v.State.LastSeq)
			sent += n
			return err
		})
	}
	switch {
	case err != nil && sent == 0:
		s.fail(w, r, err)
	case err != nil:
		s.Logger.Warn("transcript ends early", "conv", id, "err", err)
		_ = http.NewResponseController(w).Flush() // the client may be what has failed
		panic(http.ErrAbortHandler)
	}
}

// patient is an answer of any length, which ends where the client takes nothing.
type patient struct{ http.ResponseWriter }

func (p patient) Write(data []byte) (int, error) {
	if err := http.NewResponseController(p.ResponseWriter).SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return p.ResponseWriter.Write(data)
}

// spanOf reads which lines a query asks for.
func spanOf(r *http.Request) (show.Span, error) {
	var n [4]int64
	names := []string{"after", "before", "last", "limit"}
	err := checkQuery(r, names...)
	if err != nil {
		return show.Span{}, err
	}
	for i, name := range names {
		if n[i], err = number(r, name); err != nil {
			return show.Span{}, err
		}
	}
	return show.Span{After: n[0], Before: n[1], Last: int(min(n[2], math.MaxInt)), Limit: int(min(n[3], math.MaxInt))}, nil
}

// number reads an integer of the query, 0 where it is absent.
func number(r *http.Request, name string) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, api.Errorf(api.BadRequest, "%s: want a number, got %q", name, text)
	}
	return n, nil
}
