package search

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

// The most that is put into the tables at once.
const (
	maxBatchLines = 8192
	maxBatchBytes = 8 << 20
)

// feeder puts what logs say into the tables of a database. One goroutine uses it.
type feeder struct {
	db    *sql.DB
	home  *maildir.Home
	words bool // the database is searched, too
	// durable is how many bytes of a log that is being written are on disk for good, -1
	// where nobody here writes it. It is asked after the log was opened.
	durable func(id string) int64
	// skip is told of a log that cannot be read, which is then passed over. Where it is nil,
	// such a log is an error.
	skip func(id string, err error)

	agents map[string]int64 // numbers of agents by the keys of their addresses
}

// batch is what is put into the tables by one transaction.
type batch struct {
	*feeder
	ctx     context.Context
	tx      *sql.Tx
	lines   []line
	bytes   int
	talk    map[talk]pair
	recount map[int64]bool // hours of which lines were removed: who talks to whom has to be counted again
}

// talk is that one agent has written to another in an hour.
type talk struct{ hour, sender, recipient int64 }

type pair struct{ count, last int64 }

// feed puts the lines of conversations into the tables that are not there yet, as many as
// fit, and returns the conversations of which there are no more. What it has put there
// stays when it returns no error, else nothing.
func (f *feeder) feed(ctx context.Context, ids []string) (done []string, err error) {
	tx, err := f.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("write index: %w", err)
	}
	defer func() {
		if err != nil {
			clear(f.agents) // numbers that were given now are not
			err = errors.Join(fmt.Errorf("write index: %w", err), ignoreDone(tx.Rollback()))
		}
	}()
	// Each statement that can be cancelled costs a goroutine: a batch is small enough to end.
	b := &batch{feeder: f, ctx: context.WithoutCancel(ctx), tx: tx, talk: make(map[talk]pair), recount: make(map[int64]bool)}
	for _, id := range ids {
		if b.full() || ctx.Err() != nil {
			break
		}
		all, err := b.conversation(id)
		if err != nil {
			return nil, fmt.Errorf("conversation %q: %w", id, err)
		}
		if all {
			done = append(done, id)
		}
	}
	if err := b.flush(); err != nil {
		return nil, err
	}
	return done, tx.Commit()
}

func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

func (b *batch) full() bool { return len(b.lines) >= maxBatchLines || b.bytes >= maxBatchBytes }

// place is how far the log of a conversation is in the tables.
type place struct {
	n    int64  // of the conversation, 0 for none
	size int64  // bytes of the log
	seq  int64  // the last line
	line int64  // where it begins
	hash uint64 // of what stands from there on
}

// conversation takes in what is new in a log, and reports whether that is all.
func (b *batch) conversation(id string) (all bool, err error) {
	at, state, err := b.load(id)
	if err != nil {
		return false, err
	}
	log, err := b.openLog(id)
	if errors.Is(err, fs.ErrNotExist) {
		return true, b.remove(at.n)
	}
	if b.skip != nil && (errors.Is(err, fs.ErrPermission) || errors.Is(err, errNoLog)) {
		b.skip(id, err)
		return true, nil // others are searched all the same; it is read when it has changed, or at the next start
	}
	if err != nil {
		return false, err
	}
	defer log.Close()
	same, err := at.holds(log)
	if err != nil {
		return false, err
	}
	if !same {
		if err := b.remove(at.n); err != nil {
			return false, err
		}
		at, state = place{}, conv.State{}
	}
	if at.n == 0 {
		if at.n, err = b.number("INSERT INTO c (id) VALUES (?) RETURNING n", id); err != nil {
			return false, err
		}
	}
	return b.read(id, at, state, log)
}

// log is a log up to what is on disk of it.
type log struct {
	*os.File
	size  int64
	looks string // empty where there is more than that
}

var errNoLog = errors.New("a log is a regular file")

func (b *batch) openLog(id string) (l log, err error) {
	file, err := os.OpenFile(b.home.LogPath(id), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return log{}, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%w: %q", errNoLog, file.Name())
	}
	if err != nil {
		return log{}, errors.Join(err, file.Close())
	}
	l = log{File: file, size: info.Size(), looks: looksOf(info)}
	if b.durable != nil {
		if size := b.durable(id); size >= 0 && size < l.size {
			l.size, l.looks = size, ""
		}
	}
	return l, nil
}

// holds reports whether a log is still the one of which so much was read: the last line
// and what follows it stand where they stood.
func (p place) holds(log log) (bool, error) {
	if p.size == 0 || log.size < p.size {
		return p.size == 0, nil
	}
	hash, err := p.hashIn(log)
	return hash == p.hash, err
}

const maxHashed = 512 << 10 // bytes of the beginning, and of the end

// hashIn is the hash of what was read of a log from the last line on. Of much noise behind
// it not all counts.
func (p place) hashIn(log log) (uint64, error) {
	h := fnv.New64a()
	parts := []*io.SectionReader{io.NewSectionReader(log, p.line, p.size-p.line)}
	if p.size-p.line > 2*maxHashed {
		parts = []*io.SectionReader{io.NewSectionReader(log, p.line, maxHashed), io.NewSectionReader(log, p.size-maxHashed, maxHashed)}
	}
	for _, part := range parts {
		if _, err := io.Copy(h, part); err != nil {
			return 0, err
		}
	}
	return h.Sum64() >> 1, nil // as SQLite has it
}

func (b *batch) read(id string, at place, state conv.State, log log) (all bool, err error) {
	scan := convlog.NewScanner(log, convlog.Pos{Offset: at.size, Seq: at.seq}, log.size)
	moved := false // somebody may have come or gone
	for !b.full() && scan.Next() {
		l := scan.Line()
		at.size = scan.Pos().Offset
		if l.Noise() {
			continue
		}
		at.line = l.Offset
		at.seq = l.Seq
		e, err := envelope.Decode(append([]byte(nil), l.Bytes...))
		if err != nil {
			state.LastSeq = l.Seq
			continue
		}
		state = state.Apply(e)
		moved = moved || e.Type != envelope.Message
		if e.Validate() == nil {
			if err := b.take(at.n, state, e); err != nil {
				return false, err
			}
		}
	}
	damage := ""
	if found := new(convlog.DamageError); errors.As(scan.Err(), &found) {
		damage = found.Error()
	} else if scan.Err() != nil {
		return false, scan.Err()
	}
	all = !b.full() || damage != ""
	if !all {
		log.looks = ""
	}
	if moved {
		if err := b.saveMembers(at.n, state); err != nil {
			return false, err
		}
	}
	if at.hash, err = at.hashIn(log); err != nil {
		return false, err
	}
	return all, b.save(id, at, state, log.looks, damage)
}

// take puts a line into the batch.
func (b *batch) take(conversation int64, state conv.State, e *envelope.Envelope) error {
	sender, err := b.agent(e.From)
	if err != nil {
		return err
	}
	l := line{conversation: conversation, sender: sender, open: state.Open, e: e, entry: entryOf(e)}
	b.lines = append(b.lines, l)
	b.bytes += 200 + len(l.body) + len(e.Data)
	if e.Type != envelope.Message {
		return nil
	}
	for _, m := range state.Members {
		if !m.Present() || m.Address.Same(e.From) || !directed(e.To, m.Address) {
			continue
		}
		recipient, err := b.agent(m.Address)
		if err != nil {
			return err
		}
		key := talk{e.Timestamp / hour, sender, recipient}
		p := b.talk[key]
		b.talk[key] = pair{p.count + 1, max(p.last, e.Timestamp)}
	}
	return nil
}

const hour = 3600 * 1000 // Unix milliseconds

// directed reports whether a message to somebody is to an agent; one to nobody is to all.
func directed(to []string, a envelope.Address) bool {
	for _, name := range to {
		if strings.EqualFold(name, a.Name) || strings.EqualFold(name, a.String()) {
			return true
		}
	}
	return len(to) == 0
}

// entryOf is a line as it is searched.
func entryOf(e *envelope.Envelope) entry {
	var x entry
	x.body = bodyOf(e.Content, reasonOf(e))
	for i, f := range e.Attachments {
		if i > 0 {
			x.names += "\n"
		}
		x.names += f.Name
	}
	if e.Type == envelope.System && e.Event == envelope.EventCreate && e.Seq == 1 {
		x.topic = e.Topic
	}
	return x
}

func reasonOf(e *envelope.Envelope) string {
	if e.Reason != "" && e.Why != "" {
		return e.Reason + "\n" + e.Why
	}
	return e.Reason + e.Why
}

func bodyOf(content, reason string) string {
	if content != "" && reason != "" {
		return content + "\n" + reason
	}
	return content + reason
}

// number runs a statement that returns one number.
func (b *batch) number(query string, args ...any) (n int64, err error) {
	err = b.tx.QueryRowContext(b.ctx, query, args...).Scan(&n)
	return n, err
}

func (b *batch) exec(query string, args ...any) error {
	_, err := b.tx.ExecContext(b.ctx, query, args...)
	return err
}

const maxAgents = 10_000 // whose numbers are kept in memory

// agent is the number of an agent.
func (b *batch) agent(a envelope.Address) (n int64, err error) {
	key := a.Key()
	if n, ok := b.agents[key]; ok {
		return n, nil
	}
	n, err = b.number("INSERT INTO a (key, address) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET key = key RETURNING n", key, a.String())
	if err != nil {
		return 0, err
	}
	if len(b.agents) >= maxAgents {
		clear(b.agents)
	}
	b.agents[key] = n
	return n, nil
}

// load tells what the tables have of a conversation.
func (b *batch) load(id string) (at place, s conv.State, err error) {
	var creator sql.NullString
	err = b.tx.QueryRowContext(b.ctx, `SELECT c.n, size, last_seq, line, hash, topic, mode, open, turn_limit, turns, origin, a.address, created,
		request, closed, reason, last_time FROM c LEFT JOIN a ON a.n = c.creator WHERE c.id = ?`, id).Scan(
		&at.n, &at.size, &at.seq, &at.line, &at.hash, &s.Topic, &s.Mode, &s.Open, &s.TurnLimit, &s.Turns, &s.Origin, &creator, &s.CreatedAt,
		&s.Request, &s.Closed, &s.Reason, &s.LastTime)
	if errors.Is(err, sql.ErrNoRows) {
		return place{}, conv.State{}, nil
	}
	if err == nil && creator.Valid {
		s.Creator, err = envelope.ParseAddress(creator.String)
	}
	if err != nil {
		return place{}, conv.State{}, err
	}
	s.ID, s.LastSeq = id, at.seq
	s.Members, err = b.members(at.n)
	return at, s, err
}

func (b *batch) members(conversation int64) (list []conv.Member, err error) {
	rows, err := b.tx.QueryContext(b.ctx, "SELECT a.address, joined, gone FROM p JOIN a ON a.n = p.agent WHERE conversation = ? ORDER BY agent, joined", conversation)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var address string
		var m conv.Member
		if err := rows.Scan(&address, &m.Joined, &m.Left); err != nil {
			return nil, err
		}
		if m.Address, err = envelope.ParseAddress(address); err != nil {
			return nil, err
		}
		if last := len(list) - 1; last >= 0 && list[last].Address.Same(m.Address) {
			m.Earlier = append(list[last].Earlier, conv.Stay{Joined: list[last].Joined, Left: list[last].Left})
			list[last] = m
			continue
		}
		list = append(list, m)
	}
	return list, rows.Err()
}

func (b *batch) saveMembers(conversation int64, s conv.State) error {
	for _, m := range s.Members {
		agent, err := b.agent(m.Address)
		if err != nil {
			return err
		}
		for _, stay := range append(m.Earlier[:len(m.Earlier):len(m.Earlier)], conv.Stay{Joined: m.Joined, Left: m.Left}) {
			err := b.exec("INSERT INTO p VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET gone = excluded.gone WHERE gone <> excluded.gone",
				conversation, agent, stay.Joined, stay.Left)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *batch) save(id string, at place, s conv.State, looks, damage string) error {
	var creator sql.NullInt64
	if !s.Creator.IsZero() {
		n, err := b.agent(s.Creator)
		if err != nil {
			return err
		}
		creator = sql.NullInt64{Int64: n, Valid: true}
	}
	return b.exec(`UPDATE c SET topic = ?, mode = ?, open = ?, turn_limit = ?, turns = ?, origin = ?, creator = ?, created = ?, request = ?, closed = ?,
		reason = ?, last_seq = ?, last_time = ?, size = ?, line = ?, hash = ?, looks = ?, damage = ? WHERE n = ?`,
		s.Topic, s.Mode, s.Open, s.TurnLimit, s.Turns, s.Origin, creator, s.CreatedAt, s.Request, s.Closed,
		s.Reason, at.seq, s.LastTime, at.size, at.line, at.hash, looks, damage, at.n)
}

// jsonOrNil is a value as JSON text, nil for an empty list.
func jsonOrNil(list []string) any {
	if len(list) == 0 {
		return nil
	}
	text, _ := json.Marshal(list) // texts have a JSON form
	return string(text)
}
