package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir"
)

// TestNextFitsTheFault: what is wrong with the home or its disk has a code to decide on,
// and a command that helps.
func TestNextFitsTheFault(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		home string
		err  error
		code api.Code
		next string
	}{
		"read-only disk":      {dir, fmt.Errorf("mark seen: %w", syscall.EROFS), api.StorageFailed, "df -h "},
		"full disk":           {dir, fmt.Errorf("write: %w", syscall.ENOSPC), api.StorageFailed, "df -h "},
		"home open to others": {dir, fmt.Errorf("home: %w", maildir.ErrUnsafe), api.UnsafeHome, "chmod 700 "},
		"home is a file":      {file, fmt.Errorf("home: %w", maildir.ErrUnsafe), api.UnsafeHome, "ls -ld "},
	} {
		t.Setenv("DUO_HOME", test.home)
		if e := asError(test.err); e.Code != test.code || e.Next != test.next+test.home || !strings.Contains(e.Message, test.err.Error()) {
			t.Errorf("%s: got %s, %q, next %q; want %s, next %q", name, e.Code, e.Message, e.Next, test.code, test.next+test.home)
		}
	}
}
