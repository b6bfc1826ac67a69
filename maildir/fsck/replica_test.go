package fsck_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/fsck"
	"github.com/google/go-cmp/cmp"
)

// TestReplica: what lines have adopted stood in the file of their origin, and what was
// appended to a replica comes back as a line with an id of its own.
func TestReplica(t *testing.T) {
	const createID = "01990000-0000-7000-8000-000000000001"
	id := envelope.ConversationID("x", createID)
	in := func(line string) string { return strings.ReplaceAll(line, conversation, id) }
	head := in(create)
	first := int64(len(head)) + 1
	const raw = `{"from":"Nova","content":"from the shell"}`
	back := func(id string) string {
		return in(strings.Replace(message(2), "01990000-0000-7000-8000-000000000002", id, 1))
	}
	for name, test := range map[string]struct {
		log  string
		want []seen
	}{
		"raw lines of the origin": {lines(head, in(message(2, `,"raw":5`)), in(message(3, `,"raw":5`))), nil},
		"raw line that waits": {
			lines(head, raw, in(message(2, fmt.Sprintf(`,"raw":%d`, first+100)))),
			[]seen{{fsck.Note, fsck.Raw, first, 0}},
		},
		"raw line that came back": {lines(head, raw, back(envelope.NamedID("raw", "y", id, fmt.Sprint(first)))), nil},
		"raw line with an id that came back": {
			lines(head, `{"id":"01990000-0000-7000-8000-000000000009","from":"Nova","content":"hi"}`, back("01990000-0000-7000-8000-000000000009")), nil,
		},
		"a claimed conversation": {
			lines(strings.Replace(head, `"origin":"x"`, `"origin":"z"`, 1)),
			[]seen{{fsck.Error, fsck.Conversation, 0, 1}},
		},
	} {
		path := filepath.Join(t.TempDir(), id+".jsonl")
		if err := os.WriteFile(path, []byte(test.log), 0o600); err != nil {
			t.Fatal(err)
		}
		report, err := fsck.Log(path, "y")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, summary(report.Findings)); diff != "" {
			t.Errorf("%s: findings (-want +got):\n%s%v", name, diff, report.Findings)
		}
	}
}
