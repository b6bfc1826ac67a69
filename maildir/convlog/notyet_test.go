package convlog_test

import (
	"context"
	"testing"
)

// Who only looks does not break a line apart that somebody else is writing.
func TestLookingLeavesAnUnfinishedLineAlone(t *testing.T) {
	l, path := newLog(t, unsynced)
	appendRaw(t, path, `{"from":"Atlas",`)
	before := string(readLog(t, path))
	if err := l.Update(context.Background(), nil); err != nil {
		t.Fatalf("Update: got %v, want no error", err)
	}
	if got := string(readLog(t, path)); got != before {
		t.Errorf("log after a look: got %q, want %q", got, before)
	}
	appendRaw(t, path, `"content":"slowly"}`+"\n")
	mustAdd(t, l, message("two"))
	wantContents(t, path, "first", "two")
	if got := len(reference(readLog(t, path)).valid); got != 2 {
		t.Errorf("valid lines: got %d, want 2", got)
	}
}
