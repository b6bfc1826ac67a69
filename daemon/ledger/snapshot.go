package ledger

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"maps"
	"slices"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
)

// snapshot is what the index keeps of a log: the state at a place in the file. It
// stays true for as long as the file is not replaced, since logs only grow.
type snapshot struct {
	State   conv.State
	Tail    convlog.Tail
	Noise   bool  // there are lines that readers pass over
	Changed int64 // last write of the file, when it ended at the place; else 0
}

// whole reports whether the log, as info tells of it, is as the snapshot has it, and
// nothing behind it.
func (s snapshot) whole(info fs.FileInfo) bool {
	return s.Tail.Suits(info) && s.Tail.Offset == info.Size() && s.Changed == info.ModTime().UnixNano()
}

// is reports whether the log looks as the snapshot has it, and nothing behind it.
func (s snapshot) is(look durable.Look) bool {
	return s.Tail.Inode == look.Inode && s.Tail.Offset == look.Size && s.Changed == look.Modified
}

// snapshotForm is the first byte of a snapshot. One of another form is not read.
const snapshotForm = 4

// encode writes a snapshot in a form that is short and quickly read: a home has as many
// of them in memory as it has conversations. Numbers are varints, texts have their
// length in front, and a host that is the one before is left out.
func (s snapshot) encode() []byte {
	w := writer{buf: make([]byte, 0, 192)}
	st := s.State
	w.buf = append(w.buf, snapshotForm)
	w.flags(s.Noise, st.Open, st.Auto, st.Closed)
	for _, text := range []string{st.ID, st.Topic, st.Mode, st.Origin, st.Request, st.Reason} {
		w.text(text)
	}
	for _, n := range []int64{
		st.TurnLimit, st.CreatedAt, st.Turns, st.Autos, st.LastSeq, st.LastTime, st.Adopted,
		s.Tail.Offset, s.Tail.Seq, s.Tail.Time, int64(s.Tail.Inode), int64(s.Tail.Mark), s.Changed,
	} {
		w.number(n)
	}
	w.address(st.Creator)
	w.number(int64(len(st.Hosts)))
	for _, name := range slices.Sorted(maps.Keys(st.Hosts)) {
		w.text(name)
		w.text(st.Hosts[name])
	}
	w.number(int64(len(st.Members)))
	for _, m := range st.Members {
		w.address(m.Address)
		w.flags(m.Spoke, m.Operator)
		w.number(m.Joined)
		w.number(m.Left)
		w.number(int64(len(m.Earlier)))
		for _, stay := range m.Earlier {
			w.number(stay.Joined)
			w.number(stay.Left)
		}
	}
	return w.buf
}

var errSnapshot = errors.New("the index has no snapshot of this form")

// decodeSnapshot reads what encode has written.
func decodeSnapshot(data []byte) (s snapshot, err error) {
	r := reader{buf: data}
	if r.byte() != snapshotForm {
		return snapshot{}, errSnapshot
	}
	st := &s.State
	r.flags(&s.Noise, &st.Open, &st.Auto, &st.Closed)
	for _, text := range []*string{&st.ID, &st.Topic, &st.Mode, &st.Origin, &st.Request, &st.Reason} {
		*text = r.text()
	}
	var inode, mark int64
	for _, n := range []*int64{
		&st.TurnLimit, &st.CreatedAt, &st.Turns, &st.Autos, &st.LastSeq, &st.LastTime, &st.Adopted,
		&s.Tail.Offset, &s.Tail.Seq, &s.Tail.Time, &inode, &mark, &s.Changed,
	} {
		*n = r.number()
	}
	s.Tail.Inode, s.Tail.Mark = uint64(inode), uint32(mark)
	st.Creator = r.address()
	if n := r.count(); n > 0 {
		st.Hosts = make(map[string]string, n)
		for range n {
			name := r.text()
			st.Hosts[name] = r.text()
		}
	}
	st.Members = make([]conv.Member, r.count())
	for i := range st.Members {
		m := &st.Members[i]
		m.Address = r.address()
		r.flags(&m.Spoke, &m.Operator)
		m.Joined, m.Left = r.number(), r.number()
		for range r.count() {
			m.Earlier = append(m.Earlier, conv.Stay{Joined: r.number(), Left: r.number()})
		}
	}
	if r.bad || len(r.buf) > 0 {
		return snapshot{}, errSnapshot
	}
	return s, nil
}

// writer writes the pieces of a snapshot.
type writer struct {
	buf  []byte
	host string // of the last address
}

func (w *writer) number(n int64) { w.buf = binary.AppendVarint(w.buf, n) }

func (w *writer) text(s string) {
	w.number(int64(len(s)))
	w.buf = append(w.buf, s...)
}

func (w *writer) flags(list ...bool) {
	bits := byte(0)
	for i, is := range list {
		if is {
			bits |= 1 << i
		}
	}
	w.buf = append(w.buf, bits)
}

func (w *writer) address(a envelope.Address) {
	w.text(a.Name)
	w.flags(a.Host == w.host)
	if a.Host != w.host {
		w.text(a.Host)
		w.host = a.Host
	}
}

// reader reads the pieces of a snapshot. When one is not there, bad is true and stays so.
type reader struct {
	buf  []byte
	host string // of the last address
	bad  bool
}

func (r *reader) byte() byte {
	if len(r.buf) == 0 {
		r.bad = true
		return 0
	}
	b := r.buf[0]
	r.buf = r.buf[1:]
	return b
}

func (r *reader) number() int64 {
	n, size := binary.Varint(r.buf)
	if size <= 0 {
		r.bad, r.buf = true, nil
		return 0
	}
	r.buf = r.buf[size:]
	return n
}

// count is a number of things that follow, of which each takes a byte at least.
func (r *reader) count() int {
	n := r.number()
	if n < 0 || n > int64(len(r.buf)) {
		r.bad, r.buf = true, nil
		return 0
	}
	return int(n)
}

func (r *reader) text() string {
	n := r.count()
	s := string(r.buf[:n])
	r.buf = r.buf[n:]
	return s
}

func (r *reader) flags(list ...*bool) {
	bits := r.byte()
	for i, is := range list {
		*is = bits&(1<<i) != 0
	}
}

func (r *reader) address() envelope.Address {
	a := envelope.Address{Name: r.text()}
	var same bool
	if r.flags(&same); !same {
		r.host = r.text()
	}
	a.Host = r.host
	return a
}
