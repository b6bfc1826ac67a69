package convlog_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

// badSync is a disk whose syncs fail from the nth on.
type badSync struct {
	mu    sync.Mutex
	good  int
	calls int
}

func (s *badSync) sync(*os.File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.calls > s.good {
		return syscall.EIO
	}
	return nil
}

func TestAFailedSyncIsFinal(t *testing.T) {
	disk := &badSync{good: 2} // what was there, and one line
	l, path := newLog(t, convlog.Options{Sync: disk.sync})
	mustAdd(t, l, message("acknowledged"))
	tail := l.Tail()
	for range 3 {
		err := add(l, message("lost"))
		if !errors.Is(err, convlog.ErrFailed) || !errors.Is(err, syscall.EIO) {
			t.Errorf("Update: got %v, want ErrFailed and the error of the disk", err)
		}
	}
	if err := update(l, nil); !errors.Is(err, convlog.ErrFailed) {
		t.Errorf("Update that only observes: got %v, want ErrFailed", err)
	}
	if disk.calls != 3 {
		t.Errorf("syncs: got %d, want 3: none after the one that failed", disk.calls)
	}
	if got := l.Tail(); got != tail {
		t.Errorf("Tail: got %+v, want %+v, the end of what is on disk", got, tail)
	}
	if err := l.Close(); err != nil {
		t.Errorf("Close: got %v, want no error", err)
	}

	again := openLog(t, path, convlog.Options{})
	mustAdd(t, again, message("after opening again"))
	wantDense(t, path, nil)
}

// What others wrote is not passed on as long as it may not be on disk.
func TestAFailedSyncOfWhatOthersWrote(t *testing.T) {
	disk := &badSync{}
	path := writeLog(t, lines(1, 3))
	l := openLog(t, path, convlog.Options{Sync: disk.sync})
	called := false
	for range 2 {
		err := update(l, func(*convlog.Tx) error { called = true; return nil })
		if !errors.Is(err, convlog.ErrFailed) {
			t.Errorf("Update: got %v, want ErrFailed", err)
		}
	}
	if called || disk.calls != 1 {
		t.Errorf("fill was called: %v, and sync %d times, want false and once", called, disk.calls)
	}
	if got := l.Tail(); got != (convlog.Tail{}) {
		t.Errorf("Tail: got %+v, want none", got)
	}
}

func TestAFailedSyncIsFinalForAllWhoWait(t *testing.T) {
	disk := &badSync{good: 10}
	l, path := newLog(t, convlog.Options{Sync: disk.sync})
	var mu sync.Mutex
	acked, failed := make(map[string]int64), 0
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 5 {
				e := message("x")
				err := add(l, e)
				mu.Lock()
				if err == nil {
					acked[e.ID] = e.Seq
				} else if errors.Is(err, convlog.ErrFailed) {
					failed++
				} else {
					t.Errorf("Update: got %v, want nil or ErrFailed", err)
				}
				mu.Unlock()
			}
		})
	}
	writers.Wait()
	if len(acked) != 9 || failed != 40-9 || disk.calls != 11 {
		t.Errorf("got %d acknowledged, %d failed, %d syncs, want 9, 31, 11", len(acked), failed, disk.calls)
	}
	wantDense(t, path, acked)
}

func TestAcknowledgedMeansSynced(t *testing.T) {
	var synced int64
	opts := convlog.Options{Sync: func(f *os.File) error {
		info, err := f.Stat()
		synced = info.Size()
		return err
	}}
	l, path := newLog(t, opts)
	for i := range 5 {
		if i == 3 {
			appendRaw(t, path, "noise\n", string(line(5, "another writer")), "fragment")
		}
		mustAdd(t, l, message("x"))
		if got := int64(len(readLog(t, path))); synced != got {
			t.Errorf("when Update returned: got %d bytes synced, want all %d", synced, got)
		}
		if got := l.Read(1 << 62).Size(); got != synced {
			t.Errorf("Read: got %d bytes, want the %d that are synced", got, synced)
		}
	}
	// Nothing is new, so nothing has to reach the disk.
	synced = -1
	mustAdd(t, l)
	if synced != -1 {
		t.Error("an update without lines: got a sync, want none")
	}
}

func TestAFullDisk(t *testing.T) {
	dir := smallDisk(t)
	path := filepath.Join(dir, conversation+".jsonl")
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 96<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := convlog.Create(path, []*envelope.Envelope{message("first")}, time.Now()); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, path, convlog.Options{})
	acked := make(map[string]int64)
	err := fillUp(l, acked)
	if !errors.Is(err, convlog.ErrFailed) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Update on a full disk: got %v, want ErrFailed and ENOSPC", err)
	}
	if err := add(l, message("x")); !errors.Is(err, convlog.ErrFailed) {
		t.Errorf("a later update: got %v, want ErrFailed", err)
	}
	again := openLog(t, path, convlog.Options{})
	if err := add(again, message(strings.Repeat("x", 9000))); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("opened again on the full disk: got %v, want ENOSPC", err)
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	third := openLog(t, path, convlog.Options{})
	for range 5 {
		e := message(strings.Repeat("x", 900))
		mustAdd(t, third, e)
		acked[e.ID] = e.Seq
	}
	wantDense(t, path, acked)
}

// fillUp appends until that fails.
func fillUp(l *convlog.Log, acked map[string]int64) error {
	for range 10_000 {
		e := message(strings.Repeat("x", 3000))
		if err := add(l, e); err != nil {
			return err
		}
		acked[e.ID] = e.Seq
	}
	return errors.New("the disk is not full yet")
}
