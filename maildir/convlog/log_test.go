package convlog_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

const conversation = "7c1e0d52-91aa-8b7c-9c1d-5e6f708192a3"

func message(content string) *envelope.Envelope {
	return &envelope.Envelope{
		ID: envelope.NewID(), Type: envelope.Message, Conversation: conversation,
		From: envelope.Address{Name: "Atlas", Host: "nyc"}, Content: content,
	}
}

// newLog makes a log with one line and opens it.
func newLog(t testing.TB, opts convlog.Options) (*convlog.Log, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), conversation+".jsonl")
	if err := convlog.Create(path, []*envelope.Envelope{message("first")}, time.Now()); err != nil {
		t.Fatal(err)
	}
	l, err := convlog.Open(path, convlog.Tail{}, nil, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, path
}

func add(t testing.TB, l *convlog.Log, contents ...string) {
	t.Helper()
	if err := l.Update(context.Background(), func(tx *convlog.Tx) error {
		for _, c := range contents {
			tx.Add(message(c))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestEveryLineIsFoundByNumber(t *testing.T) {
	l, path := newLog(t, convlog.Options{Sync: func(*os.File) error { return nil }})
	var contents []string
	for i := range 5000 {
		contents = append(contents, fmt.Sprintf("%0*d", i%700, i))
	}
	add(t, l, contents...)
	r, err := convlog.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for seq := int64(1); seq <= 5001; seq++ {
		line, err := r.At(seq)
		if err != nil || line.Seq != seq {
			t.Fatalf("At(%d) = line %d, %v", seq, line.Seq, err)
		}
	}
}
