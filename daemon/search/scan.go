package search

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/show"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Scan finds what Find finds by reading the logs from their beginning to their end. It
// needs no index and no daemon, and its answer has no cursor: of what a query selects it
// keeps the latest. Ref is the reference of a conversation.
func Scan(ctx context.Context, home *maildir.Home, q *Query, reader envelope.Address, limit int, ref func(string) string) (api.Hits, error) {
	ids, err := home.Conversations()
	if err != nil {
		return api.Hits{}, err
	}
	s := scanner{Query: q, home: home, reader: reader}
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return api.Hits{}, err
		}
		if len(q.In) > 0 && !slices.Contains(q.In, id) || slices.Contains(q.NotIn, id) {
			continue
		}
		if err := s.conversation(id); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return api.Hits{}, err
		}
	}
	s.cut(window)
	slices.SortStableFunc(s.list, func(a, b found) int { return cmp.Compare(b.score, a.score) })
	out := api.Hits{Hits: []api.Hit{}, More: s.left}
	f := finder{Query: q, ref: ref}
	for _, l := range s.list[:min(len(s.list), show.Limit(limit))] {
		out.Hits = append(out.Hits, f.hit(l))
	}
	out.More += len(s.list) - len(out.Hits)
	return out, nil
}

// scanner is one search in the logs.
type scanner struct {
	*Query
	home   *maildir.Home
	reader envelope.Address
	list   []found
	left   int // lines that were found and are not in the list any more
}

func (s *scanner) conversation(id string) error {
	log, err := convlog.OpenReader(s.home.LogPath(id))
	if err != nil {
		return err
	}
	defer log.Close()
	var state conv.State
	var topic []word
	var mine []found
	scan := log.Scan(convlog.Pos{})
	for scan.Next() {
		if scan.Line().Noise() {
			continue
		}
		e, err := envelope.Decode(slices.Clone(scan.Line().Bytes))
		if err != nil {
			continue
		}
		state = state.Apply(e)
		if e.Seq == 1 {
			topic = wordsOf(state.Topic)
		}
		if e.Validate() == nil && s.takes(e) && s.matches(entryOf(e).words(), topic) {
			mine = append(mine, foundIn(id, state, e))
		}
	}
	_, was := state.Member(s.reader)
	if s.reader.IsZero() || was || state.Open {
		s.list = append(s.list, mine...)
		if len(s.list) > 2*window {
			s.cut(window)
		}
	}
	damage := new(convlog.DamageError)
	if errors.As(scan.Err(), &damage) {
		return nil
	}
	return scan.Err()
}

func foundIn(id string, state conv.State, e *envelope.Envelope) found {
	return found{
		id: id, seq: e.Seq, time: e.Timestamp, kind: string(e.Type), event: e.Event, from: e.From.String(), title: state.Topic, entry: entryOf(e),
	}
}

// cut keeps the latest lines, so many, and gives them their scores.
func (s *scanner) cut(most int) {
	slices.SortStableFunc(s.list, func(a, b found) int { return cmp.Compare(b.time, a.time) })
	if len(s.list) > most {
		s.left += len(s.list) - most
		s.list = s.list[:most]
	}
	for i := range s.list {
		s.list[i].score = s.score(s.list[i].entry)
	}
}

// takes checks the filters of a query but those for words and conversations.
func (q *Query) takes(e *envelope.Envelope) bool {
	if e.Timestamp < q.since || q.until > 0 && e.Timestamp >= q.until {
		return false
	}
	by := func(name string) bool {
		return name == e.From.Key() || !strings.Contains(name, "@") && name == strings.ToLower(e.From.Name)
	}
	if len(q.from) > 0 && !slices.ContainsFunc(q.from, by) || slices.ContainsFunc(q.notFrom, by) {
		return false
	}
	return !slices.Contains(q.attached, len(e.Attachments) == 0)
}
