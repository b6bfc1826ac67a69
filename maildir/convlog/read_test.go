package convlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/claude-duo/duo/maildir/convlog"
	"pgregory.net/rapid"
)

// seqsToAsk are some numbers of a log with n lines.
func seqsToAsk(n int64, some int64) (seqs []int64) {
	for seq := int64(1); seq < n-1; seq += max(1, n/some) {
		seqs = append(seqs, seq)
	}
	return append(seqs, n-1, n, n+1)
}

// wantLargeReading is wantReading for logs in which readers guess. It asks for the
// exact lines where nobody has appended a block again, else for lines that are equal.
func wantLargeReading(t tb, log []byte, blocks bool) {
	t.Helper()
	want := reference(log)
	if want.damage != nil {
		t.Fatalf("the test's log: got %v, want no damage", want.damage)
	}
	valid := want.valid
	n := int64(len(valid))
	r := convlog.NewReader(bytes.NewReader(log), int64(len(log)))
	for _, seq := range seqsToAsk(n, 5) {
		if !blocks {
			wantAt(t, r, seq, want)
			continue
		}
		wantAnyOf(t, r, seq, valid)
	}
	if !blocks {
		wantSince(t, r, n-n/4, want)
	}
	for _, k := range []int{1, 20} {
		got, err := r.Last(k)
		wantErr(t, fmt.Sprintf("Last(%d)", k), err, nil)
		wantLines(t, fmt.Sprintf("Last(%d)", k), got, valid[max(0, len(valid)-k):])
	}
}

// wantAnyOf checks that At and Since give lines with the right numbers and bytes,
// wherever they stand.
func wantAnyOf(t tb, r *convlog.Reader, seq int64, valid []convlog.Line) {
	t.Helper()
	n := int64(len(valid))
	got, err := r.At(seq)
	if seq < 1 || seq > n {
		wantErr(t, fmt.Sprintf("At(%d)", seq), err, convlog.ErrNoLine)
		return
	}
	if err != nil || got.Seq != seq || !bytes.Equal(got.Bytes, valid[seq-1].Bytes) {
		t.Fatalf("At(%d): got line %d (%.80q), %v, want %.80q", seq, got.Seq, got.Bytes, err, valid[seq-1].Bytes)
	}
	s, err := r.Since(seq)
	wantErr(t, fmt.Sprintf("Since(%d)", seq), err, nil)
	next := seq
	for s.Next() {
		if s.Line().Noise() {
			continue
		}
		if next++; s.Line().Seq != next || !bytes.Equal(s.Line().Bytes, valid[next-1].Bytes) {
			t.Fatalf("Since(%d): got line %d (%.80q), want line %d", seq, s.Line().Seq, s.Line().Bytes, next)
		}
	}
	if s.Err() != nil || next != n {
		t.Fatalf("Since(%d): got up to line %d, %v, want up to line %d", seq, next, s.Err(), n)
	}
}

// sized makes the lines from first to last, each with a text of this length.
func sized(first, last int64, length func(seq int64) int) []byte {
	var log []byte
	for seq := first; seq <= last; seq++ {
		log = append(log, line(seq, strings.Repeat("x", length(seq)))...)
	}
	return log
}

func every(n int) func(int64) int { return func(int64) int { return n } }

func TestReaderInLargeLogs(t *testing.T) {
	forged := `{"seq":%d,"id":"x","content":"forged"}` + "\n"
	for _, test := range []struct {
		name   string
		log    []byte
		blocks bool
	}{
		{"lines of one length", sized(1, 800, every(200)), false},
		{"tiny lines", sized(1, 1000, every(0)), false},
		{"lines of growing length", sized(1, 700, func(seq int64) int { return int(seq) }), false},
		{"lines of shrinking length", sized(1, 700, func(seq int64) int { return int(700 - seq) }), false},
		{"1 MiB among small ones", join(sized(1, 300, every(200)), sized(301, 301, every(1<<20)), sized(302, 600, every(200)), sized(601, 601, every(1<<20)), sized(602, 610, every(200))), false},
		{"1 MiB at the start", join(sized(1, 1, every(1<<20)), sized(2, 600, every(100))), false},
		{"1 MiB at the end", join(sized(1, 300, every(100)), sized(301, 301, every(1<<20))), false},
		{"300 kB of noise", join(sized(1, 300, every(200)), strings.Repeat("noise ", 50_000), "\n", sized(301, 600, every(200))), false},
		{"many short noise lines", join(sized(1, 300, every(200)), strings.Repeat("noise\n", 4_000), sized(301, 600, every(200))), false},
		{"noise at the end", join(sized(1, 600, every(200)), strings.Repeat("noise\n", 4_000)), false},
		{"a fragment of 300 kB", join(sized(1, 600, every(200)), strings.Repeat("noise ", 50_000)), false},
		{"seq never first", bytes.ReplaceAll(sized(1, 300, every(200)), []byte(`{"seq"`), []byte(`{ "seq"`)), false},
		{"a forged line in the middle", join(sized(1, 300, every(200)), fmt.Sprintf(forged, 150), sized(301, 600, every(200))), false},
		{"a forged line at the end", join(sized(1, 300, every(200)), fmt.Sprintf(forged, 150)), false},
		{"a long line again at the end", join(sized(1, 2, every(9000)), sized(1, 1, every(9000))), false},
		{"the last line forged", join(sized(1, 300, every(200)), fmt.Sprintf(forged, 300)), false},
		{"torn and written again", join(sized(1, 300, every(200)), line(301, "")[:50], "\n", sized(301, 600, every(200)), line(601, "")[:50], "\n", sized(601, 601, every(200))), false},
		{"a high number in noise", join(sized(1, 300, every(200)), `{"seq":999999,"id":`+"\n", sized(301, 600, every(200)), `{"seq":999999,"id":`+"\n"), false},
		{"cat log >> log", bytes.Repeat(sized(1, 300, every(100)), 2), true},
		{"cat log >> log, three times", bytes.Repeat(sized(1, 300, every(100)), 4), true},
		{"cat log >> log, and on", join(bytes.Repeat(sized(1, 300, every(100)), 2), sized(301, 302, every(100))), true},
		{"cat log >> log, and far on", join(bytes.Repeat(sized(1, 300, every(100)), 2), sized(301, 602, every(100))), true},
		{"head log >> log", join(sized(1, 450, every(100)), sized(1, 50, every(100))), true},
		{"head log >> log, and on", join(sized(1, 450, every(100)), sized(1, 250, every(100)), sized(451, 650, every(100))), true},
		{"tail log >> log", join(sized(1, 450, every(100)), sized(350, 450, every(100))), true},
		{"old lines of the middle", join(sized(1, 450, every(100)), sized(150, 300, every(100))), true},
		{"old lines of the middle, and on", join(sized(1, 450, every(100)), sized(150, 300, every(100)), sized(451, 750, every(100))), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			wantLargeReading(t, test.log, test.blocks)
		})
	}
}

func TestReaderInRandomLargeLogs(t *testing.T) {
	t.Parallel()
	lengths := rapid.SampledFrom([]int{0, 50, 200, 1000, 9000})
	rapid.Check(t, func(t *rapid.T) {
		var log []byte
		next := int64(1)
		for range rapid.IntRange(1, 5).Draw(t, "stretches") {
			length := lengths.Draw(t, "length")
			last := next + int64(rapid.IntRange(1, 1+16_000/(length+200)).Draw(t, "lines"))
			log = append(log, sized(next, last, every(length))...)
			next = last + 1
			var odd []byte
			odd, next = rapid.SampledFrom([]piece{oddLine, noiseLine, tornLine, repeatedLine, forgedLine}).Draw(t, "odd")(t, log, next)
			log = append(log, odd...)
		}
		wantLargeReading(t, log, false)
	})
}

// counter counts the bytes that are read.
type counter struct {
	log  *bytes.Reader
	read int64
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.log.ReadAt(p, off)
	c.read += int64(n)
	return n, err
}

func TestReaderReadsLittle(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		log   []byte
		limit int64 // of bytes for one line
	}{
		{"lines of one length", sized(1, 10_000, every(200)), 300 << 10},
		{"lines that a guess hits", sized(1, 400, every(2800)), 200 << 10},
		{"long lines first", join(sized(1, 100, every(60_000)), sized(101, 5_000, every(0))), 3 << 20},
		{"long lines last", join(sized(1, 5_000, every(0)), sized(5_001, 5_100, every(60_000))), 3 << 20},
	} {
		c := &counter{log: bytes.NewReader(test.log)}
		r := convlog.NewReader(c, int64(len(test.log)))
		for _, seq := range seqsToAsk(int64(bytes.Count(test.log, []byte("\n"))), 17) {
			c.read = 0
			if _, err := r.At(seq); err != nil && !errors.Is(err, convlog.ErrNoLine) {
				t.Fatal(err)
			}
			if c.read > test.limit {
				t.Errorf("%s: At(%d): got %d bytes read of %d, want at most %d", test.name, seq, c.read, len(test.log), test.limit)
			}
		}
	}
}

// A guess may land on a line that somebody has forged.
func TestReaderIsNotMisledByForgedLines(t *testing.T) {
	const n, sound = 2000, 1700
	random := rand.New(rand.NewPCG(1, 2))
	var log []byte
	for seq := int64(1); seq <= n; seq++ {
		log = append(log, line(seq, strings.Repeat("x", random.IntN(10)*random.IntN(100)))...)
		if seq%4 == 0 && seq < sound {
			log = append(log, line(seq-seq*31%20, "forged")...)
		}
	}
	want := reference(log)
	c := &counter{log: bytes.NewReader(log)}
	r := convlog.NewReader(c, int64(len(log)))
	for seq := int64(900); seq < 1500; seq++ {
		c.read = 0
		wantAt(t, r, seq, want)
		if c.read > 256<<10 {
			t.Errorf("At(%d): got %d bytes read of %d, want at most 256 KiB", seq, c.read, len(log))
		}
	}
}

// Older lines stand in the log again, where a guess for their numbers leads, and far
// from where the reader looks whether the numbers fall. What follows them is no damage.
func TestSinceInsideABlockOfOlderLines(t *testing.T) {
	t.Parallel()
	log := join(sized(1, 600, every(100)), sized(470, 590, every(100)), sized(601, 2000, every(100)))
	want := reference(log)
	r := convlog.NewReader(bytes.NewReader(log), int64(len(log)))
	for seq := int64(575); seq <= 595; seq++ {
		wantAnyOf(t, r, seq, want.valid)
	}
}

func TestUnfinishedLastLineIsInvisible(t *testing.T) {
	whole := lines(1, 3)
	path := writeLog(t, whole[:len(whole)-1])
	r, err := convlog.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.At(3); !errors.Is(err, convlog.ErrNoLine) {
		t.Errorf("At(3): got %v, want ErrNoLine", err)
	}
	last, err := r.Last(5)
	if err != nil || len(last) != 2 {
		t.Errorf("Last(5): got %d lines, %v, want 2", len(last), err)
	}
	if got, err := collect(r.Scan(convlog.Pos{})); err != nil || len(got) != 2 {
		t.Errorf("Scan: got %d lines, %v, want 2", len(got), err)
	}
}

func TestReaderSeesTheLogAsLongAsItWas(t *testing.T) {
	path := writeLog(t, lines(1, 3))
	r, err := convlog.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	appendRaw(t, path, string(line(4, "later")))
	if _, err := r.At(4); !errors.Is(err, convlog.ErrNoLine) {
		t.Errorf("At(4): got %v, want ErrNoLine", err)
	}
	if got := r.Size(); got != int64(len(lines(1, 3))) {
		t.Errorf("Size: got %d, want %d", got, len(lines(1, 3)))
	}
}

// Nothing but a regular file is a log: a link could lead anywhere, and opening a pipe
// could wait for ever.
func TestOnlyARegularFileIsALog(t *testing.T) {
	dir := t.TempDir()
	target := writeLog(t, lines(1, 3))
	for name, make := range map[string]func(path string) error{
		"link":   func(path string) error { return os.Symlink(target, path) },
		"pipe":   func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"folder": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			if err := make(path); err != nil {
				t.Fatal(err)
			}
			if l, err := convlog.Open(path, convlog.Tail{}, nil, unsynced); err == nil {
				l.Close()
				t.Error("Open: got no error, want one")
			}
			if r, err := convlog.OpenReader(path); err == nil {
				r.Close()
				t.Error("OpenReader: got no error, want one")
			}
		})
	}
	if _, err := convlog.OpenReader(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: got %v, want fs.ErrNotExist", err)
	}
}
