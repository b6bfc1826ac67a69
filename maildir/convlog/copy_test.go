package convlog_test

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

// bare is a valid line without its newline.
func bare(seq int64, content string) []byte {
	return bytes.TrimSuffix(line(seq, content), []byte("\n"))
}

// TestCopiesAreVerbatim: lines of another host stand here as they stand there, however
// they are written, and give the log its time.
func TestCopiesAreVerbatim(t *testing.T) {
	id := envelope.NewID()
	odd := []byte(` {"type": "message", "timestamp": 9000000000000, "x":[1, 2], "seq":3, "id":"` + id + `"}`)
	path := filepath.Join(t.TempDir(), "copy.jsonl")
	if err := convlog.CreateCopy(path, [][]byte{bare(1, "one"), bare(2, "two")}); err != nil {
		t.Fatal(err)
	}
	if err := convlog.CreateCopy(path, [][]byte{bare(1, "again")}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("CreateCopy again: got %v, want it to exist", err)
	}
	l := openLog(t, path, convlog.Options{})
	appendRaw(t, path, "noise\n")
	err := update(l, func(tx *convlog.Tx) error {
		if err := tx.AddCopy(odd, id, 9000000000000); err != nil {
			return err
		}
		if got := tx.Line(); tx.Last() != 3 || !bytes.Equal(got, odd) {
			t.Errorf("AddCopy: got line %d, %s, want line 3, %s", tx.Last(), got, odd)
		}
		if seq, err := tx.Find(id, 0, 0); seq != 3 || err != nil {
			t.Errorf("Find: got line %d, %v, want line 3", seq, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := join(line(1, "one"), line(2, "two"), "noise\n", odd, "\n")
	if got := readLog(t, path); !bytes.Equal(got, want) {
		t.Errorf("log: got\n%s\nwant\n%s", got, want)
	}
	if got := l.Tail(); got.Seq != 3 || got.Time != 9000000000000 || got.Offset != int64(len(want)) {
		t.Errorf("Tail: got %+v, want line 3 at the end", got)
	}
}

func TestAddCopyRefuses(t *testing.T) {
	path := writeLog(t, lines(1, 2))
	l := openLog(t, path, convlog.Options{})
	id := envelope.NewID()
	for name, bad := range map[string][]byte{
		"there already":  bare(2, "two"),
		"too far":        bare(4, "four"),
		"no JSON":        []byte(`{"seq":3`),
		"no object":      []byte(`[3]`),
		"no seq":         []byte(`{"id":"` + id + `"}`),
		"seq twice":      []byte(`{"seq":3,"seq":3}`),
		"two lines":      []byte("{\"seq\":3,\n\"x\":1}"),
		"nothing":        nil,
		"over the limit": []byte(`{"seq":3,"x":"` + strings.Repeat("x", envelope.MaxLine) + `"}`),
	} {
		err := update(l, func(tx *convlog.Tx) error { return tx.AddCopy(bad, id, 1) })
		if !errors.Is(err, envelope.ErrInvalid) {
			t.Errorf("%s: got %v, want it refused", name, err)
		}
		if err := convlog.CreateCopy(filepath.Join(t.TempDir(), "copy.jsonl"), [][]byte{bad}); !errors.Is(err, envelope.ErrInvalid) {
			t.Errorf("%s: CreateCopy: got %v, want it refused", name, err)
		}
	}
	if err := update(l, func(tx *convlog.Tx) error { return tx.AddCopy(bare(3, "three"), "no id", 1) }); !errors.Is(err, envelope.ErrInvalid) {
		t.Errorf("no id: got %v, want it refused", err)
	}
	if got := readLog(t, path); !bytes.Equal(got, lines(1, 2)) {
		t.Errorf("log: got\n%s\nwant it as it was", got)
	}
}
