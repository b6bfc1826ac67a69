package convlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"pgregory.net/rapid"
)

// wantReading checks that everything that reads agrees with the reference. It is for
// logs that are short enough to be read from the start.
func wantReading(t tb, log []byte) {
	t.Helper()
	want := reference(log)
	for _, limit := range []int64{int64(len(log)), -1} {
		s := convlog.NewScanner(bytes.NewReader(log), convlog.Pos{}, limit)
		got, err := collect(s)
		wantLines(t, "Scanner", got, want.lines)
		wantErr(t, "Scanner", err, want.err())
		if err == nil && !bytes.Equal(s.Fragment(), want.fragment) {
			t.Fatalf("Fragment: got %.80q, want %.80q", s.Fragment(), want.fragment)
		}
		if s.Next() {
			t.Fatalf("Next behind the end: got a line, want none")
		}
	}
	valid := want.valid
	r := convlog.NewReader(bytes.NewReader(log), int64(len(log)))
	for _, k := range []int{1, 2, 3, len(valid), len(valid) + 1, 1 << 62} {
		got, err := r.Last(k)
		if k < 1 {
			continue
		}
		wantLines(t, fmt.Sprintf("Last(%d)", k), got, valid[max(0, len(valid)-k):])
		wantErr(t, fmt.Sprintf("Last(%d)", k), err, want.err())
	}
	for seq := int64(-1); seq <= int64(len(valid))+2; seq++ {
		wantAt(t, r, seq, want)
		wantSince(t, r, seq, want)
	}
}

func wantAt(t tb, r *convlog.Reader, seq int64, want reading) {
	t.Helper()
	what := fmt.Sprintf("At(%d)", seq)
	got, err := r.At(seq)
	valid := want.valid
	switch {
	case seq >= 1 && seq <= int64(len(valid)):
		wantErr(t, what, err, nil)
		wantLine(t, what, got, valid[seq-1])
	case seq >= 1 && want.damage != nil:
		wantErr(t, what, err, want.damage)
	default:
		wantErr(t, what, err, convlog.ErrNoLine)
	}
}

func wantSince(t tb, r *convlog.Reader, seq int64, want reading) {
	t.Helper()
	what := fmt.Sprintf("Since(%d)", seq)
	valid := want.valid
	s, err := r.Since(seq)
	if seq > int64(len(valid)) && want.damage != nil {
		wantErr(t, what, err, want.damage)
		return
	}
	wantErr(t, what, err, nil)
	got, err := collect(s)
	wantLines(t, what, got, behind(want.lines, seq))
	if seq <= int64(len(valid)) {
		wantErr(t, what, err, want.err())
	}
}

// behind are the lines, noise included, that follow the line seq.
func behind(lines []convlog.Line, seq int64) []convlog.Line {
	if seq <= 0 {
		return lines
	}
	for i, l := range lines {
		if l.Seq == seq {
			return lines[i+1:]
		}
	}
	return nil
}

func TestScannerAgreesWithTheDefinition(t *testing.T) {
	three := lines(1, 3)
	torn := string(line(4, "torn"))
	for _, test := range []struct {
		name  string
		log   []byte
		valid int64
	}{
		{"empty", nil, 0},
		{"one newline", []byte("\n"), 0},
		{"three lines", three, 3},
		{"last line without its newline", three[:len(three)-1], 2},
		{"stray echo", join(lines(1, 1), "hello\n", lines(2, 3)), 3},
		{"blank lines", join("\n\n", lines(1, 1), "\n \r\n\n", lines(2, 3), "\n"), 3},
		{"carriage returns", bytes.ReplaceAll(three, []byte("\n"), []byte("\r\n")), 3},
		{"blanks in front", join("  ", lines(1, 1), "\t", lines(2, 2)), 2},
		{"torn line", join(three, torn[:40], "\n", lines(4, 5)), 5},
		{"torn line glued to the next", join(three, torn[:40], lines(4, 4), lines(4, 4)), 4},
		{"NULs", join(three, "\x00\x00\x00\n", lines(4, 4)), 4},
		{"NULs glued to a line", join(three, "\x00\x00\x00", lines(4, 4), lines(4, 4)), 4},
		{"NULs at the end", join(three, "\x00\x00\x00"), 3},
		{"all repeated", join(three, three, three), 3},
		{"all repeated and continued", join(three, three, lines(4, 4)), 4},
		{"some repeated", join(three, lines(2, 3), lines(4, 4), lines(1, 2)), 4},
		{"repeat with other content", join(three, `{"seq":2,"content":"forged"}`, "\n", lines(4, 4)), 4},
		{"a low number last", join(three, `{"seq":1,"content":"forged"}`, "\n"), 3},
		{"jump", join(three, lines(5, 6)), 3},
		{"jump at the start", lines(2, 3), 0},
		{"jump behind noise", join(three, "hello\n", lines(9, 9)), 3},
		{"jump that is torn", join(three, `{"seq":9,"id":`, "\n", lines(4, 4)), 4},
		{"an object without seq", join(three, `{"from":"Atlas","content":"What do you think?"}`, "\n", lines(4, 4)), 4},
		{"seq in another place", join(three, `{"content":"x","seq":4,"id":"y"}`, "\n", lines(5, 5)), 5},
		{"seq alone", join(`{"seq":1}`, "\n", `{ "seq" : 2 }`, "\n"), 2},
		{"seq with an escaped name", join(three, `{"s\u0065q":4}`, "\n", lines(5, 5)), 5},
		{"seq inside another object", join(three, `{"data":{"seq":4}}`, "\n", lines(4, 4)), 4},
		{"seq in a list", join(three, `[{"seq":4}]`, "\n", lines(4, 4)), 4},
		{"seq twice", join(three, `{"seq":4,"seq":4}`, "\n", lines(4, 4)), 4},
		{"seq twice, once escaped", join(three, `{"seq":4,"s\u0065q":5}`, "\n", lines(4, 4)), 4},
		{"any name twice", join(three, `{"seq":4,"data":{"a":1,"a":2}}`, "\n", lines(4, 4)), 4},
		{"Seq", join(three, `{"Seq":4}`, "\n", lines(4, 4)), 4},
		{"seq 0", join(three, `{"seq":0}`, "\n", lines(4, 4)), 4},
		{"seq negative", join(three, `{"seq":-4}`, "\n", lines(4, 4)), 4},
		{"seq with a fraction", join(three, `{"seq":4.0}`, "\n", lines(4, 4)), 4},
		{"seq with an exponent", join(three, `{"seq":4e0}`, "\n", lines(4, 4)), 4},
		{"seq with a zero in front", join(three, `{"seq":04}`, "\n", lines(4, 4)), 4},
		{"seq as text", join(three, `{"seq":"4"}`, "\n", lines(4, 4)), 4},
		{"seq just too large", join(three, `{"seq":9007199254740992}`, "\n", `{"seq":9007199254740999}`, "\n", lines(4, 4)), 4},
		{"seq far too large", join(three, `{"seq":18446744073709551620}`, "\n", lines(4, 4)), 4},
		{"seq as large as can be", join(three, `{"seq":9007199254740991}`, "\n"), 3},
		{"two objects on a line", join(three, `{"seq":4}{"seq":5}`, "\n", lines(4, 4)), 4},
		{"invalid UTF-8", join(three, "{\"seq\":4,\"content\":\"\xff\"}\n", lines(4, 4)), 4},
		{"nested too deep", join(three, `{"seq":4,"data":`, strings.Repeat("[", 64), strings.Repeat("]", 64), "}\n", lines(4, 4)), 4},
		{"nested deep enough", join(three, `{"seq":4,"data":`, strings.Repeat("[", 63), strings.Repeat("]", 63), "}\n", lines(5, 5)), 5},
		{"brackets in a text", join(three, `{"seq":4,"content":"`, strings.Repeat("[{", 100), "\"}\n", lines(5, 5)), 5},
		{"a fragment that looks whole", join(three, `{"seq":4}`), 3},
		{"a fragment that jumps", join(three, `{"seq":9}`), 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := int64(len(reference(test.log).valid)); got != test.valid {
				t.Errorf("reference: got %d valid lines, want %d", got, test.valid)
			}
			wantReading(t, test.log)
		})
	}
}

func TestEveryPrefixOfALog(t *testing.T) {
	t.Parallel()
	log := join(lines(1, 2), "noise\n", lines(2, 2), `{"content":"x","seq":3}`, "\n", lines(4, 4))
	for n := range len(log) + 1 {
		wantReading(t, log[:n])
	}
}

func TestScannerStopsAtTheLimit(t *testing.T) {
	log := join(lines(1, 3), "noise\n", lines(4, 9))
	for limit := range len(log) + 1 {
		got, err := collect(convlog.NewScanner(bytes.NewReader(log), convlog.Pos{}, int64(limit)))
		wantErr(t, "limit", err, nil)
		wantLines(t, fmt.Sprintf("limit %d", limit), got, reference(log[:limit]).lines)
	}
}

func TestScannerGoesOnFromAnyPlace(t *testing.T) {
	log := join(lines(1, 3), "noise\n", lines(2, 2), lines(4, 6))
	want := reference(log).lines
	s := convlog.NewScanner(bytes.NewReader(log), convlog.Pos{}, -1)
	for i := range want {
		if !s.Next() {
			t.Fatalf("line %d: got %v, want a line", i, s.Err())
		}
		got, err := collect(convlog.NewScanner(bytes.NewReader(log), s.Pos(), -1))
		wantErr(t, "from a place", err, nil)
		wantLines(t, fmt.Sprintf("from %+v", s.Pos()), got, want[i+1:])
	}
}

func TestTrustChangesNothingInASoundLog(t *testing.T) {
	log := join(lines(1, 5), `{"content":"x","seq":6}`, "\n", lines(7, 9), "noise\n", lines(10, 12))
	want := reference(log)
	for _, trust := range []int64{0, 300, want.lines[8].Offset} {
		r := convlog.NewReader(bytes.NewReader(log), int64(len(log)))
		r.Trust(trust)
		got, err := collect(r.Scan(convlog.Pos{}))
		wantErr(t, "Trust", err, nil)
		wantLines(t, fmt.Sprintf("Trust(%d)", trust), got, want.lines)
	}
}

// longLine is a valid line of n bytes, without its newline.
func longLine(seq int64, n int) []byte {
	short := bytes.TrimSuffix(line(seq, ""), []byte("\n"))
	return bytes.Replace(short, []byte(`"content":""`), fmt.Appendf(nil, `"content":"%s"`, strings.Repeat("x", n-len(short))), 1)
}

func TestLinesOverTheLimitAreNoise(t *testing.T) {
	for _, test := range []struct {
		name   string
		length int
		valid  int64
	}{
		{"at the limit", envelope.MaxLine, 3},
		{"one byte over", envelope.MaxLine + 1, 1},
		{"longer than any buffer", 17 << 20, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			log := join(lines(1, 1), longLine(2, test.length), "\n")
			next := test.valid + 1
			if next > 2 {
				next = 3
			}
			log = append(log, line(next, "behind")...)
			want := reference(log)
			got, err := collect(convlog.NewScanner(bytes.NewReader(log), convlog.Pos{}, -1))
			wantErr(t, "Scanner", err, nil)
			wantLines(t, "Scanner", got, want.lines)
			wantLastTwo(t, log, want)
			if test.valid == 1 && got[1].Bytes != nil {
				t.Errorf("bytes of the long line: got %d, want none kept", len(got[1].Bytes))
			}
		})
	}
}

func wantLastTwo(t *testing.T, log []byte, want reading) {
	t.Helper()
	r := convlog.NewReader(bytes.NewReader(log), int64(len(log)))
	got, err := r.Last(2)
	wantErr(t, "Last", err, nil)
	wantLines(t, "Last(2)", got, want.valid[len(want.valid)-2:])
}

func TestALongLineWithoutItsEnd(t *testing.T) {
	t.Parallel()
	for _, length := range []int{envelope.MaxLine + 1, 17 << 20} {
		log := join(lines(1, 1), longLine(2, length))
		got, err := collect(convlog.NewScanner(bytes.NewReader(log), convlog.Pos{}, -1))
		wantErr(t, "Scanner", err, nil)
		wantLines(t, fmt.Sprintf("a fragment of %d bytes", length), got, reference(lines(1, 1)).lines)
	}
}

// badDisk fails to read behind a byte.
type badDisk struct {
	log []byte
	bad int64
}

var errBadDisk = errors.New("bad disk")

func (d badDisk) ReadAt(p []byte, off int64) (int, error) {
	if off >= d.bad {
		return 0, errBadDisk
	}
	n, err := bytes.NewReader(d.log[:d.bad]).ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		err = errBadDisk
	}
	return n, err
}

func TestReadersReportABadDisk(t *testing.T) {
	log := lines(1, 2000)
	disk := badDisk{log, int64(len(log)) - 100}
	if got, err := collect(convlog.NewScanner(disk, convlog.Pos{}, int64(len(log)))); !errors.Is(err, errBadDisk) {
		t.Errorf("Scanner: got %d lines, %v, want the error of the disk", len(got), err)
	}
	r := convlog.NewReader(disk, int64(len(log)))
	if _, err := r.At(1000); !errors.Is(err, errBadDisk) {
		t.Errorf("At: got %v, want the error of the disk", err)
	}
	if _, err := r.Last(1); !errors.Is(err, errBadDisk) {
		t.Errorf("Last: got %v, want the error of the disk", err)
	}
	if _, err := r.Since(1000); !errors.Is(err, errBadDisk) {
		t.Errorf("Since: got %v, want the error of the disk", err)
	}
}

// shortLog makes logs of all kinds of pieces, damage included.
func shortLog(t *rapid.T) []byte {
	var log []byte
	next := int64(1)
	for _, kind := range rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 30).Draw(t, "pieces") {
		var piece []byte
		piece, next = kind(t, log, next)
		log = append(log, piece...)
	}
	return log[:min(len(log), shortest)]
}

// shortest is a length that readers never guess in.
const shortest = 16 << 10

// A piece is what somebody appends to a log whose next number is next.
type piece func(t *rapid.T, log []byte, next int64) ([]byte, int64)

var pieces = []piece{
	validLine, validLine, validLine, validLine, oddLine, noiseLine, tornLine, repeatedLine, forgedLine,
	func(t *rapid.T, log []byte, next int64) ([]byte, int64) { // a block again
		all := bytes.SplitAfter(log, []byte("\n"))
		from := rapid.IntRange(0, len(all)-1).Draw(t, "from")
		to := rapid.IntRange(from, len(all)-1).Draw(t, "to")
		return bytes.Join(all[from:to], nil), next
	},
	func(t *rapid.T, log []byte, next int64) ([]byte, int64) { // a tail that was cut
		l := line(next, "cut")
		return l[:rapid.IntRange(0, len(l)).Draw(t, "cut")], next
	},
	func(t *rapid.T, log []byte, next int64) ([]byte, int64) { // a jump
		if rapid.IntRange(0, 4).Draw(t, "jump") > 0 {
			return nil, next
		}
		return line(next+1, "jump"), next + 2
	},
}

func validLine(t *rapid.T, _ []byte, next int64) ([]byte, int64) {
	return line(next, strings.Repeat("x", rapid.IntRange(0, 300).Draw(t, "length"))), next + 1
}

func oddLine(t *rapid.T, _ []byte, next int64) ([]byte, int64) {
	return fmt.Appendf(nil, `{"content":"odd", "seq": %d}`+"\n", next), next + 1
}

func noiseLine(t *rapid.T, _ []byte, next int64) ([]byte, int64) {
	return []byte(rapid.SampledFrom([]string{
		"hello\n", "\n", "{}\n", "{\n", "\x00\x00\n", `{"from":"Atlas","content":"hi"}` + "\n", `{"seq":0}` + "\n", `{"seq":"5"}` + "\n", "[1]\n",
	}).Draw(t, "noise")), next
}

func tornLine(t *rapid.T, _ []byte, next int64) ([]byte, int64) {
	l := line(next, "torn")
	return append(l[:rapid.IntRange(0, len(l)-2).Draw(t, "torn")], '\n'), next
}

func repeatedLine(t *rapid.T, log []byte, next int64) ([]byte, int64) {
	valid := reference(log).valid
	if len(valid) == 0 {
		return nil, next
	}
	return join(rapid.SampledFrom(valid).Draw(t, "again").Bytes, "\n"), next
}

func forgedLine(t *rapid.T, _ []byte, next int64) ([]byte, int64) {
	if next == 1 {
		return nil, next
	}
	return line(rapid.Int64Range(1, next-1).Draw(t, "forged"), "forged"), next
}

func TestReadersAgreeOnRandomLogs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { wantReading(t, shortLog(t)) })
}

func FuzzScanner(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(lines(1, 5))
	f.Add(join(lines(1, 2), "hello\n\x00\x00\n", lines(1, 3), `{"content":"x","seq":4}`+"\n", lines(6, 6)))
	f.Add(join(`{"seq":1}`, "\n", `{"s\u0065q":2}`, "\r\n", ` {"seq":3,"a":{"a":1,"a":1}}`, "\n", `{"seq":3`))
	f.Add(join(`{"seq":9007199254740991}`, "\n", `{"seq":01}`, "\n", `{"seq":1.0}`, "\n", `{"seq":1}{"seq":2}`, "\n"))
	f.Fuzz(func(t *testing.T, log []byte) {
		if len(log) > shortest {
			t.Skip("readers guess in longer logs")
		}
		wantReading(t, log)
	})
}
