package search

import (
	"cmp"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/claude-duo/duo/maildir/envelope"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// line is a line of a log on its way into the tables.
type line struct {
	n            int64
	conversation int64
	sender       int64
	open         bool // the conversation is
	e            *envelope.Envelope
	entry
}

func (l line) tags() string {
	t := fmt.Sprintf("a%d c%d k%s", l.sender, l.conversation, l.e.Type)
	if len(l.e.Attachments) > 0 {
		t += " x"
	}
	if l.open {
		t += " o"
	}
	return t
}

const (
	slotBits = 10                        // of n, below those of the time
	farBits  = 13                        // more of them, where it is crowded
	farthest = 1 << (slotBits + farBits) // that n is above the lowest one
	maxTime  = 1<<43 - 1
)

// lowest is the least n of a line with a timestamp. Lines are numbered by time, so that the
// latest that are found can be read without the others.
func lowest(timestamp int64) int64 { return min(max(timestamp, 0), maxTime) << slotBits }

// slot is the n of a line, at the n-th try: one that is free the first time, as a rule.
func (l line) slot(try int64) int64 {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%d.%d", l.conversation, l.e.Seq)
	return lowest(l.e.Timestamp) + (int64(h.Sum64()>>1)+try*7919)%(1<<(slotBits+min(try/4, farBits)))
}

// flush puts the lines of the batch into the tables.
func (b *batch) flush() error {
	for i := range b.lines {
		b.lines[i].n = b.lines[i].slot(0)
	}
	slices.SortFunc(b.lines, func(x, y line) int { return cmp.Compare(x.n, y.n) }) // out of order it is slow
	if err := b.insertLines(); err != nil {
		return err
	}
	if err := b.countOn(); err != nil {
		return err
	}
	return b.countAgain()
}

// countOn adds who has written to whom, but for hours that are counted again.
func (b *batch) countOn() error {
	row, err := b.tx.PrepareContext(b.ctx, `INSERT INTO t VALUES (?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET count = count + excluded.count, last = max(last, excluded.last)`)
	if err != nil {
		return err
	}
	defer row.Close()
	for key, p := range b.talk {
		if b.recount[key.hour] {
			continue
		}
		if _, err := row.ExecContext(b.ctx, key.hour, key.sender, key.recipient, p.count, p.last); err != nil {
			return err
		}
	}
	return nil
}

func (b *batch) insertLines() error {
	row, err := b.tx.PrepareContext(b.ctx, "INSERT INTO m VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
	if err != nil {
		return err
	}
	defer row.Close()
	var words *sql.Stmt
	if b.words {
		if words, err = b.tx.PrepareContext(b.ctx, "INSERT INTO words (rowid, body, names, topic, tags) VALUES (?, ?, ?, ?, ?)"); err != nil {
			return err
		}
		defer words.Close()
	}
	for _, l := range b.lines {
		values := l.values()
		_, err := row.ExecContext(b.ctx, values...)
		for try := int64(1); isTaken(err); try++ {
			l.n = l.slot(try)
			values[0] = l.n
			_, err = row.ExecContext(b.ctx, values...)
		}
		if err != nil {
			return err
		}
		if err := b.insertFiles(l); err != nil {
			return err
		}
		if words == nil {
			continue
		}
		if _, err := words.ExecContext(b.ctx, l.n, normal(l.body), normal(l.names), normal(l.topic), l.tags()); err != nil {
			return err
		}
	}
	return nil
}

// isTaken reports whether a row was refused because another one has its n.
func isTaken(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
}

// values are the columns of m.
func (l line) values() []any {
	e := l.e
	id, _ := hex.DecodeString(strings.ReplaceAll(e.ID, "-", "")) // a valid envelope has a UUID
	reply := e.ReplyTo.ID
	if e.ReplyTo.Seq > 0 {
		reply = fmt.Sprint(e.ReplyTo.Seq)
	}
	return []any{
		l.n, l.conversation, e.Seq, string(e.Type), orNil(e.Event), l.sender, e.Timestamp, id, e.Content, orNil(reasonOf(e)), jsonOrNil(e.To),
		orNil(reply), e.After, orNil(e.Auto), orNil(e.Hops), orNil(e.Request), orNil(string(e.Data)), len(e.Attachments),
	}
}

// orNil is a value, NULL where it is empty.
func orNil[T comparable](value T) any {
	var zero T
	if value == zero {
		return nil
	}
	return value
}

func (b *batch) insertFiles(l line) error {
	for i, f := range l.e.Attachments {
		if err := b.exec("INSERT INTO f VALUES (?, ?, ?, ?, ?, ?)", l.n, i, f.Name, f.MediaType, f.Size, f.SHA256); err != nil {
			return err
		}
	}
	return nil
}

// remove takes a conversation out of the tables.
func (b *batch) remove(conversation int64) error {
	if conversation == 0 {
		return nil
	}
	if err := b.uncount(conversation); err != nil {
		return err
	}
	if b.words {
		if err := b.removeWords(conversation); err != nil {
			return err
		}
	}
	for _, query := range []string{
		"DELETE FROM f WHERE message IN (SELECT n FROM m WHERE conversation = ?)",
		"DELETE FROM m WHERE conversation = ?", "DELETE FROM p WHERE conversation = ?", "DELETE FROM c WHERE n = ?",
	} {
		if err := b.exec(query, conversation); err != nil {
			return err
		}
	}
	return nil
}

// removeWords says to the table of words again what is to go: it keeps no text.
func (b *batch) removeWords(conversation int64) error {
	for behind := int64(-1); ; {
		lines, err := b.some(conversation, behind)
		if err != nil || len(lines) == 0 {
			return err
		}
		for _, l := range lines {
			err := b.exec("INSERT INTO words (words, rowid, body, names, topic, tags) VALUES ('delete', ?, ?, ?, ?, ?)",
				l.n, normal(l.body), normal(l.names), normal(l.topic), l.tags())
			if err != nil {
				return err
			}
			behind = l.n
		}
	}
}

// some reads lines of a conversation back from the tables, those behind an n.
func (b *batch) some(conversation, behind int64) (list []line, err error) {
	rows, err := b.tx.QueryContext(b.ctx, `SELECT m.n, agent, open, type, ifnull(event, ''), seq, topic, content, ifnull(m.reason, ''), files,
		ifnull((SELECT group_concat(name, char(10)) FROM (SELECT name FROM f WHERE message = m.n ORDER BY place)), '')
		FROM m JOIN c ON c.n = m.conversation WHERE conversation = ? AND m.n > ? ORDER BY m.n LIMIT 100`, conversation, behind)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		l := line{conversation: conversation, e: &envelope.Envelope{}}
		var topic, content, reason string
		var files int
		if err := rows.Scan(&l.n, &l.sender, &l.open, &l.e.Type, &l.e.Event, &l.e.Seq, &topic, &content, &reason, &files, &l.names); err != nil {
			return nil, err
		}
		l.body = bodyOf(content, reason)
		if l.e.Event == envelope.EventCreate && l.e.Seq == 1 {
			l.topic = topic
		}
		l.e.Attachments = make([]envelope.Attachment, files)
		list = append(list, l)
	}
	return list, rows.Err()
}

// uncount notes in which hours a conversation has messages that are to go.
func (b *batch) uncount(conversation int64) error {
	rows, err := b.tx.QueryContext(b.ctx, "SELECT DISTINCT time / ? FROM m WHERE conversation = ? AND type = 'message'", hour, conversation)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var at int64
		if err := rows.Scan(&at); err != nil {
			return err
		}
		b.recount[at] = true
	}
	return rows.Err()
}

// countAgain counts anew who has written to whom in the hours of which lines were removed.
func (b *batch) countAgain() error {
	for at := range b.recount {
		if err := b.exec("DELETE FROM t WHERE hour = ?", at); err != nil {
			return err
		}
		err := b.exec(`INSERT INTO t SELECT ?1, m.agent, p.agent, count(*), max(m.time)
			FROM m CROSS JOIN p ON p.conversation = m.conversation AND p.agent <> m.agent AND p.joined <= m.seq AND (p.gone = 0 OR m.seq <= p.gone)
			WHERE m.n BETWEEN ?2 AND ?3 AND m.time / ?4 = ?1 AND m.type = 'message' AND (recipients IS NULL OR EXISTS (
				SELECT 1 FROM json_each(m.recipients) j, a WHERE a.n = p.agent AND lower(j.value) IN (a.key, substr(a.key, 1, instr(a.key, '@') - 1))))
			GROUP BY 2, 3`, at, lowest(at*hour), lowest((at+1)*hour)+farthest, hour)
		if err != nil {
			return err
		}
	}
	return nil
}
