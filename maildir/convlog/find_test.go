package convlog_test

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"pgregory.net/rapid"
)

func find(t tb, l *convlog.Log, id string, after, since int64) (found int64) {
	t.Helper()
	if err := update(l, func(tx *convlog.Tx) (err error) {
		found, err = tx.Find(id, after, since)
		return err
	}); err != nil {
		t.Fatalf("Find(%s, %d, %d): got %v, want no error", id, after, since, err)
	}
	return found
}

func lineID(seq int64) string { return envelope.NamedID("line", fmt.Sprint(seq)) }

func lineTime(seq int64) int64 { return 1739654400000 + seq }

// tailOf is where a log ends, as its writer knows it.
func tailOf(t testing.TB, path string) convlog.Tail {
	t.Helper()
	l, err := convlog.Open(path, convlog.Tail{}, nil, unsynced)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	mustAdd(t, l)
	return l.Tail()
}

func TestFind(t *testing.T) {
	path := writeLog(t, lines(1, 300))
	tail := tailOf(t, path)
	for _, test := range []struct {
		name         string
		id           string
		after, since int64
		want         int64
	}{
		{"from the start", lineID(10), 0, 0, 10},
		{"the first line", lineID(1), 0, 0, 1},
		{"the last line", lineID(300), 0, 0, 300},
		{"just behind after", lineID(10), 9, 0, 10},
		{"just since", lineID(10), 0, lineTime(10), 10},
		{"long since", lineID(10), 0, 1, 10},
		{"behind after and since", lineID(10), 9, lineTime(5), 10},
		{"the last behind after", lineID(300), 299, lineTime(300), 300},
		{"upper case", strings.ToUpper(lineID(10)), 0, 0, 10},
		{"no line", lineID(999), 0, 0, 0},
		{"no line behind after", lineID(999), 150, 0, 0},
		{"no line since", lineID(999), 0, lineTime(150), 0},
		{"after the end", lineID(999), 5000, 0, 0},
		{"since the future", lineID(999), 0, lineTime(5000), 0},
	} {
		for what, from := range map[string]convlog.Tail{"all in the cache": {}, "nothing in the cache": tail} {
			l, err := convlog.Open(path, from, nil, unsynced)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time it was read already
				if got := find(t, l, test.id, test.after, test.since); got != test.want {
					t.Errorf("%s, %s: got %d, want %d", test.name, what, got, test.want)
				}
			}
			l.Close()
		}
	}
}

// What stands before both bounds is not looked for, unless it is known already.
func TestFindIsBounded(t *testing.T) {
	path := writeLog(t, lines(1, 300))
	tail := tailOf(t, path)
	for _, test := range []struct {
		name         string
		after, since int64
	}{
		{"after", 10, 0},
		{"since", 0, lineTime(11)},
		{"both", 10, lineTime(11)},
		{"after the end", 300, 0},
		{"since the future", 0, lineTime(301)},
	} {
		l, err := convlog.Open(path, tail, nil, unsynced)
		if err != nil {
			t.Fatal(err)
		}
		if got := find(t, l, lineID(10), test.after, test.since); got != 0 {
			t.Errorf("%s: got %d, want 0", test.name, got)
		}
		if got := find(t, l, lineID(10), 0, 0); got != 10 {
			t.Errorf("%s, then without bounds: got %d, want 10", test.name, got)
		}
		l.Close()
	}
}

func TestFindInTheSameUpdate(t *testing.T) {
	l, _ := newLog(t, unsynced)
	e := message("x")
	if err := update(l, func(tx *convlog.Tx) error {
		if err := tx.Add(e); err != nil {
			return err
		}
		if got, err := tx.Find(e.ID, 1, 0); got != 2 || err != nil {
			t.Errorf("Find of a line that waits to be written: got %d, %v, want 2", got, err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := find(t, l, e.ID, 0, 0); got != 2 {
		t.Errorf("Find afterwards: got %d, want 2", got)
	}
}

func TestFindWhatOthersWrote(t *testing.T) {
	l, path := newLog(t, unsynced)
	other := openLog(t, path, unsynced)
	e := message("x")
	mustAdd(t, other, e)
	if got := find(t, l, e.ID, 0, 0); got != 2 {
		t.Errorf("Find: got %d, want 2", got)
	}
}

func TestFindRefusesWhatIsNoID(t *testing.T) {
	l, _ := newLog(t, unsynced)
	if err := update(l, func(tx *convlog.Tx) error {
		if got, err := tx.Find("hello", 0, 0); err == nil {
			t.Errorf("Find: got %d, want an error", got)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// An id in the text of a message, in data, or in noise is not the id of a line.
func TestFindIsNotFooled(t *testing.T) {
	id := lineID(777)
	data := message("about " + id)
	data.Seq, data.Timestamp, data.Data = 4, lineTime(4), fmt.Appendf(nil, `{"seq":4,"id":"%s"}`, id)
	log := join(lines(1, 3), data.Append(nil), "\n",
		fmt.Sprintf(`{"seq":2,"id":"%s","content":"forged"}`, id), "\n",
		fmt.Sprintf(`{"seq":9999,"id":"%s"`, id), "\n",
		fmt.Sprintf(`{"id":"%s","content":"noise"}`, id), "\n", lines(5, 40))
	for _, generation := range []int{10, 1000} { // searched, and read into the cache
		path := writeLog(t, log)
		l, err := convlog.Open(path, tailOf(t, path), nil, unsynced)
		if err != nil {
			t.Fatal(err)
		}
		l.SetGeneration(generation)
		if got := find(t, l, id, 0, 0); got != 0 {
			t.Errorf("generation %d: got %d, want 0", generation, got)
		}
		if got := find(t, l, lineID(2), 0, 0); got != 2 {
			t.Errorf("generation %d: got %d, want 2", generation, got)
		}
		l.Close()
	}
}

// The first line with an id is the message, whatever comes later.
func TestFindReturnsTheFirst(t *testing.T) {
	first := line(2, "first")
	second := bytes.Replace(line(4, "second"), []byte(lineID(4)), []byte(lineID(2)), 1)
	log := join(lines(1, 1), first, lines(3, 3), second, lines(5, 30))
	for _, generation := range []int{2, 10, 1000} {
		path := writeLog(t, log)
		for what, from := range map[string]convlog.Tail{"read from the start": {}, "opened at the end": tailOf(t, path)} {
			l, err := convlog.Open(path, from, nil, unsynced)
			if err != nil {
				t.Fatal(err)
			}
			l.SetGeneration(generation)
			if got := find(t, l, lineID(2), 0, 0); got != 2 {
				t.Errorf("%s, generation %d: got %d, want 2", what, generation, got)
			}
			l.Close()
		}
	}
}

// More lines than the cache holds, with its real size.
func TestFindInAVeryLongLog(t *testing.T) {
	t.Parallel()
	const n = 135_000
	id := func(seq int64) string { return fmt.Sprintf("00000000-0000-8000-8000-%012d", seq) }
	var log bytes.Buffer
	for seq := int64(1); seq <= n; seq++ {
		fmt.Fprintf(&log, `{"seq":%d,"id":"%s","timestamp":%d}`+"\n", seq, id(seq), lineTime(seq))
	}
	path := writeLog(t, log.Bytes())
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	tail := convlog.Tail{Pos: convlog.Pos{Offset: info.Size(), Seq: n}, Time: lineTime(n)}
	l, err := convlog.Open(path, tail, nil, unsynced)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, test := range []struct{ seq, after, since int64 }{
		{1, 0, 0}, {n / 2, 0, 0}, {n, 0, 0}, {n / 2, n/2 - 1, 0}, {n / 2, 0, lineTime(n / 2)}, {n, n / 3, lineTime(n / 2)},
	} {
		if got := find(t, l, id(test.seq), test.after, test.since); got != test.seq {
			t.Errorf("Find of line %d (after %d, since %d): got %d", test.seq, test.after, test.since, got)
		}
	}
	if got := find(t, l, id(n+1), 0, 0); got != 0 {
		t.Errorf("Find of no line: got %d, want 0", got)
	}
}

// The search reads the log in pieces of 256 KiB, and an id may stand across two.
func TestFindAcrossTwoPieces(t *testing.T) {
	t.Parallel()
	const piece = 256 << 10
	body := lines(2, 3000)
	for shift := 0; shift < 200; shift += 12 {
		log := join(longLine(1, 400+shift), "\n", body)
		path := writeLog(t, log)
		valid := reference(log[:piece+1000]).valid
		across := valid[0]
		for _, line := range valid {
			if line.Offset < piece {
				across = line
			}
		}
		l, err := convlog.Open(path, convlog.Tail{Pos: convlog.Pos{Offset: int64(len(log)), Seq: 3000}, Time: lineTime(3000)}, nil, unsynced)
		if err != nil {
			t.Fatal(err)
		}
		l.SetGeneration(10)
		for seq := across.Seq - 1; seq <= across.Seq+1; seq++ {
			if got := find(t, l, strings.ToUpper(lineID(seq)), 0, 0); got != seq {
				t.Errorf("Find of line %d near byte %d: got %d", seq, piece, got)
			}
		}
		l.Close()
	}
}

// The log against a plain list, with a cache of a few lines that fills, turns over,
// and is lost when the log is opened again.
func TestFindAgreesWithAList(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		path := fmt.Sprintf("%s/%s.jsonl", dir, envelope.NewID())
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(path)
		m := &findMachine{t: t, path: path, time: 1000}
		m.open(convlog.Tail{})
		defer func() { m.log.Close() }()
		t.Repeat(map[string]func(*rapid.T){
			"Add":    m.add,
			"Find":   m.find,
			"Reopen": m.reopen,
		})
	})
}

type findMachine struct {
	t     *rapid.T
	path  string
	log   *convlog.Log
	ids   []string // of line i+1
	times []int64
	time  int64
}

func (m *findMachine) open(from convlog.Tail) {
	opts := unsynced
	opts.Now = func() time.Time { return time.UnixMilli(m.time) }
	l, err := convlog.Open(m.path, from, nil, opts)
	if err != nil {
		m.t.Fatal(err)
	}
	l.SetGeneration(4)
	m.log = l
}

func (m *findMachine) add(t *rapid.T) {
	m.time += int64(rapid.IntRange(0, 3).Draw(t, "later"))
	var batch []*envelope.Envelope
	for range rapid.IntRange(1, 6).Draw(t, "lines") {
		batch = append(batch, message("x"))
	}
	if err := add(m.log, batch...); err != nil {
		t.Fatalf("Update: got %v, want no error", err)
	}
	for _, e := range batch {
		m.ids, m.times = append(m.ids, e.ID), append(m.times, e.Timestamp)
	}
}

func (m *findMachine) find(t *rapid.T) {
	ids := []string{envelope.NewID()}
	for range min(3, len(m.ids)) {
		ids = append(ids, rapid.SampledFrom(m.ids).Draw(t, "id"))
	}
	if err := update(m.log, func(tx *convlog.Tx) error {
		for _, id := range ids {
			m.findOne(t, tx, id)
		}
		return nil
	}); err != nil {
		t.Fatalf("Update: got %v, want no error", err)
	}
}

func (m *findMachine) findOne(t *rapid.T, tx *convlog.Tx, id string) {
	after := rapid.Int64Range(0, int64(len(m.ids))+1).Draw(t, "after")
	since := rapid.SampledFrom([]int64{0, 0, m.time - 5, m.time, m.time + 1}).Draw(t, "since")
	got, err := tx.Find(id, after, since)
	seq := int64(slices.Index(m.ids, id) + 1)
	bounded := seq > 0 && (seq <= after || m.times[seq-1] < since)
	if err != nil || got != seq && !(bounded && got == 0) {
		t.Fatalf("Find(%s, %d, %d) in %d lines: got %d, %v, want %d", id, after, since, len(m.ids), got, err, seq)
	}
}

func (m *findMachine) reopen(t *rapid.T) {
	from := convlog.Tail{}
	if rapid.Bool().Draw(t, "at the tail") {
		from = m.log.Tail()
	}
	m.log.Close()
	m.open(from)
}

// TestFindByModel lets a log grow and be opened again, and looks for ids of all ages, some
// of which stand there twice.
func TestFindByModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		path := writeLog(t, lines(1, 1))
		var ids []string // of the lines from 2 on
		l, err := convlog.Open(path, convlog.Tail{}, nil, unsynced)
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { l.Close() }()
		l.SetGeneration(rapid.IntRange(1, 8).Draw(rt, "generation"))
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"add", "add", "add", "find", "find", "open"}).Draw(rt, "step") {
			case "add":
				e := message("x")
				e.ID = lineID(rapid.Int64Range(100, 140).Draw(rt, "id"))
				if err := add(l, e); err != nil {
					rt.Fatal(err)
				}
				ids = append(ids, e.ID)
			case "open":
				tail := l.Tail()
				l.Close()
				if l, err = convlog.Open(path, tail, nil, unsynced); err != nil {
					rt.Fatal(err)
				}
				l.SetGeneration(rapid.IntRange(1, 8).Draw(rt, "generation"))
			case "find":
				id := lineID(rapid.Int64Range(100, 145).Draw(rt, "id"))
				after := rapid.Int64Range(0, int64(len(ids))+2).Draw(rt, "after")
				got := find(rt, l, id, after, 0)
				there := slices.Contains(ids[min(len(ids), max(0, int(after)-1)):], id)
				if there && got == 0 || got > 0 && (got-2 >= int64(len(ids)) || ids[got-2] != id) {
					rt.Fatalf("find %s behind %d among %v: got %d", id, after, ids, got)
				}
			}
		}
	})
}

// TestFindTwice: an id that stands on the last line of one generation and the first of the
// next is remembered as long as the later of the two.
func TestFindTwice(t *testing.T) {
	l, err := convlog.Open(writeLog(t, lines(1, 1)), convlog.Tail{}, nil, unsynced)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.SetGeneration(1)
	for _, id := range []int64{101, 101, 100, 100} { // of the lines 2 to 5
		e := message("x")
		e.ID = lineID(id)
		if err := add(l, e); err != nil {
			t.Fatal(err)
		}
	}
	if got := find(t, l, lineID(101), 2, 0); got != 2 && got != 3 {
		t.Errorf("the line 3: got %d", got)
	}
}
