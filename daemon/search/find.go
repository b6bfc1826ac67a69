package search

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/show"
	"github.com/claude-duo/duo/maildir/envelope"
)

const (
	window   = 1000   // lines that are put in order together
	examined = 30_000 // lines that are read for one answer, of which a filter may let few pass
	maxTags  = 256    // conversations that are asked for by name
)

// Find returns the lines that a query selects, the best first. Reader is the agent that
// asks, who sees what it may read; the zero address sees everything. Errors are *api.Error,
// api.Busy while there is no index.
func (x *Index) Find(ctx context.Context, q *Query, reader envelope.Address, limit int, cursor string) (api.Hits, error) {
	at, err := parseCursor(cursor)
	if err != nil {
		return api.Hits{}, err
	}
	lag, read, err := x.ask(ctx)
	if err != nil {
		return api.Hits{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, x.within)
	defer cancel()
	f := finder{Query: q, ctx: ctx, db: read, reader: reader, ref: x.ref}
	hits, err := f.find(show.Limit(limit), at)
	if err != nil {
		slow := api.Errorf(api.TooSlow, "the search took longer than %s: ask for rarer words, or for less time with since:", x.within)
		return api.Hits{}, x.failed(ctx, err, slow.WithNext("duo search --help"))
	}
	hits.Behind = lag
	return hits, nil
}

// ask waits a little for what is not read yet, and returns how far behind the index is.
func (x *Index) ask(ctx context.Context) (api.Lag, *sql.DB, error) {
	opening, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	x.await(opening, func() bool { return x.read != nil })
	waiting, stop := context.WithTimeout(ctx, patience)
	defer stop()
	poke(x.asked)
	x.Settle(waiting)
	lag := x.Behind() // before the question: what comes in meanwhile may be in the answer
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.read == nil {
		return lag, nil, api.Errorf(api.Busy, "the index of search is being made").WithNext("duo status")
	}
	return lag, x.read, nil
}

// failed notes an error of a question. Where the index is broken, it is made again. Slow is
// the error where the question took too long.
func (x *Index) failed(ctx context.Context, err error, slow *api.Error) error {
	if ctx.Err() != nil {
		return slow
	}
	x.Logger.Warn("search failed", "path", x.path, "err", err)
	if x.broken(err) {
		x.suspect(err)
	}
	return api.Errorf(api.Busy, "the index of search cannot be read: %w", err).WithNext("duo status")
}

// cursor is where a search goes on: among the lines below top, behind one with a score
// and an n.
type cursor struct {
	top    int64 // 0 for all
	score  int
	n      int64
	inside bool // among the lines below top some were given
}

func (c cursor) String() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %d %d %t", c.top, c.score, c.n, c.inside))
}

func parseCursor(text string) (c cursor, err error) {
	if text == "" {
		return c, nil
	}
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		_, err = fmt.Sscanf(string(data), "%d %d %d %t", &c.top, &c.score, &c.n, &c.inside)
	}
	if err != nil {
		return c, wrong("cursor: %q is none that was given as \"next\"", clip(text))
	}
	return c, nil
}

// finder answers one query.
type finder struct {
	*Query
	ctx    context.Context
	db     *sql.DB
	reader envelope.Address
	ref    func(conversation string) string

	match   string           // for the table of words
	allowed []map[int64]bool // sets of conversations: a line has to be in one of each
	denied  []map[int64]bool // and in none of these
	mine    map[int64]bool   // or in an open one; nil for all
	nothing bool             // no line can be found
}

// found is a line that a query selects.
type found struct {
	n                               int64
	score                           int
	conversation, sender, seq, time int64
	kind, event, id, from, title    string // title is the topic of the conversation
	isOpen                          bool
	entry
}

func (f *finder) find(limit int, at cursor) (api.Hits, error) {
	out := api.Hits{Hits: []api.Hit{}}
	if err := f.prepare(); err != nil || f.nothing {
		return out, err
	}
	seen := 0
	for len(out.Hits) < limit {
		list, bottom, n, err := f.window(at.top)
		if err != nil {
			return out, err
		}
		seen += n
		if at.inside {
			i := slices.IndexFunc(list, func(l found) bool { return l.behind(at) })
			if i < 0 {
				i = len(list)
			}
			list = list[i:]
		}
		take := min(len(list), limit-len(out.Hits))
		for _, l := range list[:take] {
			out.Hits = append(out.Hits, f.hit(l))
		}
		if take < len(list) {
			l := list[take-1]
			out.More = len(list) - take
			out.Next = cursor{at.top, l.score, l.n, true}.String()
			return out, nil
		}
		if bottom == 0 {
			return out, nil
		}
		at = cursor{top: bottom}
		if seen >= examined || len(out.Hits) >= limit {
			out.More, out.Next = 1, at.String()
			return out, nil
		}
	}
	return out, nil
}

// behind reports whether a line comes behind the one at a cursor.
func (l found) behind(c cursor) bool {
	return l.score < c.score || l.score == c.score && l.n < c.n
}

// window returns the latest lines below top that the query selects, in order, and the n of
// the last that was looked at, 0 where there are none further down. It tells how many lines
// were looked at.
func (f *finder) window(top int64) (list []found, bottom int64, seen int, err error) {
	if top == 0 {
		top = 1<<63 - 1
	}
	rows, err := f.db.QueryContext(f.ctx, `SELECT w.rowid, m.conversation, m.agent, m.seq, m.time, m.type, ifnull(m.event, ''), m.content, ifnull(m.reason, ''), m.files,
		c.id, c.topic, c.open, a.address
		FROM (SELECT rowid FROM words WHERE words MATCH ? AND rowid < ? AND rowid >= ? ORDER BY rowid DESC LIMIT ?) w
		CROSS JOIN m ON m.n = w.rowid CROSS JOIN c ON c.n = m.conversation CROSS JOIN a ON a.n = m.agent`,
		f.match, top, lowest(f.since), window)
	if err != nil {
		return nil, 0, 0, err
	}
	defer rows.Close()
	bottom = top
	for rows.Next() {
		var l found
		var content, reason string
		var files int
		if err := rows.Scan(&l.n, &l.conversation, &l.sender, &l.seq, &l.time, &l.kind, &l.event, &content, &reason, &files,
			&l.id, &l.title, &l.isOpen, &l.from); err != nil {
			return nil, 0, 0, err
		}
		seen++
		bottom = min(bottom, l.n)
		if !f.passes(l) {
			continue
		}
		l.body = bodyOf(content, reason)
		if l.seq == 1 && l.event == envelope.EventCreate {
			l.topic = l.title
		}
		if files > 0 {
			l.names = fmt.Sprint(files) // read later
		}
		list = append(list, l)
	}
	if err := rows.Err(); err != nil {
		return nil, 0, 0, err
	}
	if seen < window {
		bottom = 0
	}
	if err := f.rank(list); err != nil {
		return nil, 0, 0, err
	}
	return list, bottom, seen, nil
}

// rank puts lines in order.
func (f *finder) rank(list []found) error {
	for i := range list {
		l := &list[i]
		if l.names != "" {
			names, err := f.names(l.n)
			if err != nil {
				return err
			}
			l.names = strings.Join(names, "\n")
		}
		l.score = f.score(l.entry)
	}
	slices.SortFunc(list, func(a, b found) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(b.n, a.n))
	})
	return nil
}

func (f *finder) names(message int64) (list []string, err error) {
	rows, err := f.db.QueryContext(f.ctx, "SELECT name FROM f WHERE message = ? ORDER BY place", message)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		list = append(list, name)
	}
	return list, rows.Err()
}

// passes checks what the table of words was not asked.
func (f *finder) passes(l found) bool {
	if l.time < f.since || f.until > 0 && l.time >= f.until {
		return false
	}
	has := func(set map[int64]bool) bool { return set[l.conversation] }
	lacks := func(set map[int64]bool) bool { return !set[l.conversation] }
	if f.mine != nil && !l.isOpen && lacks(f.mine) {
		return false
	}
	return !slices.ContainsFunc(f.allowed, lacks) && !slices.ContainsFunc(f.denied, has)
}

func (f *finder) hit(l found) api.Hit {
	return api.Hit{
		Ref: show.Ref(f.ref(l.id), l.seq), Conversation: l.id, Seq: l.seq, Type: l.kind, Event: l.event,
		From: l.from, Timestamp: l.time, Topic: l.title, Snippet: f.snippet(l.entry),
		Attachment: f.attachment(l.entry),
	}
}

// attachment is the attachment of a line to name: one that was searched for, else the first.
func (q *Query) attachment(e entry) string {
	if e.names == "" {
		return ""
	}
	names := strings.Split(e.names, "\n")
	for _, name := range names {
		words := wordsOf(name)
		for _, t := range q.terms {
			if !t.not && t.in != inTopic && t.first(words, 0) >= 0 {
				return name
			}
		}
	}
	return names[0]
}

// prepare makes of the query what the table of words is asked, and what is checked of
// each line.
func (f *finder) prepare() error {
	var is, isNot []string
	for _, t := range f.terms {
		text := "{body names topic} : " + t.phrase()
		switch {
		case t.in == inTopic:
			if err := f.topics(t, &is, &isNot); err != nil {
				return err
			}
			continue
		case t.in == inName:
			text = "names : " + t.phrase()
		}
		if t.not {
			isNot = append(isNot, text)
		} else {
			is = append(is, text)
		}
	}
	for _, attached := range f.attached {
		if attached {
			is = append(is, `tags : "x"`)
		} else {
			isNot = append(isNot, `tags : "x"`)
		}
	}
	if err := f.people(&is, &isNot); err != nil {
		return err
	}
	if err := f.places(&is, &isNot); err != nil {
		return err
	}
	if err := f.visible(&is); err != nil {
		return err
	}
	if len(is) == 0 {
		is = append(is, tags("kmessage", "ksystem", "kjoin", "kleave"))
	}
	f.match = "(" + strings.Join(is, ") AND (") + ")"
	for _, text := range isNot {
		f.match = "(" + f.match + ") NOT (" + text + ")"
	}
	return nil
}

// phrase is a term as the table of words is asked. Words hold nothing but letters and digits.
func (t term) phrase() string {
	text := `"` + strings.Join(t.words, " ") + `"`
	if t.prefix {
		text += " *"
	}
	return text
}

// tags asks for a line with any of some tags.
func tags(list ...string) string {
	return `tags : ("` + strings.Join(list, `" OR "`) + `")`
}

func numbered(letter string, numbers []int64) []string {
	list := make([]string, len(numbers))
	for i, n := range numbers {
		list[i] = letter + strconv.FormatInt(n, 10)
	}
	return list
}

// numbers runs a query for a list of numbers.
func (f *finder) numbers(query string, args ...any) (list []int64, err error) {
	rows, err := f.db.QueryContext(f.ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, rows.Err()
}

// within lets only lines in conversations pass.
func (f *finder) within(conversations []int64, is *[]string) {
	switch {
	case len(conversations) == 0:
		f.nothing = true
	case len(conversations) <= maxTags:
		*is = append(*is, tags(numbered("c", conversations)...))
	default:
		f.allowed = append(f.allowed, setOf(conversations))
	}
}

func setOf(list []int64) map[int64]bool {
	set := make(map[int64]bool, len(list))
	for _, n := range list {
		set[n] = true
	}
	return set
}

func (f *finder) people(is, isNot *[]string) error {
	some, err := f.senders(f.from)
	if err != nil {
		return err
	}
	others, err := f.senders(f.notFrom)
	if err != nil {
		return err
	}
	switch {
	case len(f.from) == 0:
	case len(some) == 0:
		f.nothing = true
	default:
		*is = append(*is, tags(numbered("a", some)...))
	}
	if len(others) > 0 {
		*isNot = append(*isNot, tags(numbered("a", others)...))
	}
	return nil
}

// senders are the numbers of the agents with names or addresses.
func (f *finder) senders(names []string) (list []int64, err error) {
	for _, name := range names {
		query := "SELECT n FROM a WHERE key >= ?1 || '@' AND key < ?1 || 'A'" // A follows @
		if strings.Contains(name, "@") {
			query = "SELECT n FROM a WHERE key = ?"
		}
		some, err := f.numbers(query, name)
		if err != nil {
			return nil, err
		}
		list = append(list, some...)
	}
	return list, nil
}

// places lets those lines pass that are in the conversations that are asked for.
func (f *finder) places(is, isNot *[]string) error {
	some, err := f.conversations(f.In)
	if err != nil {
		return err
	}
	others, err := f.conversations(f.NotIn)
	if err != nil {
		return err
	}
	if len(f.In) > 0 {
		f.within(some, is)
	}
	f.without(others, isNot)
	return nil
}

// without lets only lines outside of conversations pass.
func (f *finder) without(conversations []int64, isNot *[]string) {
	switch {
	case len(conversations) == 0:
	case len(conversations) <= maxTags:
		*isNot = append(*isNot, tags(numbered("c", conversations)...))
	default:
		f.denied = append(f.denied, setOf(conversations))
	}
}

// topics lets those lines pass whose conversation has a topic with a term, or has none.
func (f *finder) topics(t term, is, isNot *[]string) error {
	list, err := f.numbers("SELECT DISTINCT m.conversation FROM words JOIN m ON m.n = words.rowid WHERE words MATCH ?", "topic : "+t.phrase())
	if err != nil {
		return err
	}
	if t.not {
		f.without(list, isNot)
	} else {
		f.within(list, is)
	}
	return nil
}

// visible lets those lines pass that the reader may read.
func (f *finder) visible(is *[]string) error {
	if f.reader.IsZero() {
		return nil
	}
	list, err := f.numbers("SELECT DISTINCT conversation FROM p WHERE agent = (SELECT n FROM a WHERE key = ?)", f.reader.Key())
	switch {
	case err != nil:
		return err
	case len(list) <= maxTags:
		*is = append(*is, tags(append(numbered("c", list), "o")...))
	default:
		f.mine = setOf(list)
	}
	return nil
}

func (f *finder) conversations(ids []string) (list []int64, err error) {
	for _, id := range ids {
		some, err := f.numbers("SELECT n FROM c WHERE id = ?", id)
		if err != nil {
			return nil, err
		}
		list = append(list, some...)
	}
	return list, nil
}
