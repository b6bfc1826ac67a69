package mailbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/claude-duo/duo/maildir/envelope"
)

// Bounce puts a message into failed/, durably, with the error in it: one that was taken
// and that another host has refused. It has the name that Leave would have given it.
// Where it is there already, nothing changes.
func (b *Box) Bounce(e *envelope.Envelope, stamp Stamp) error {
	if _, there := b.Bounced(e.ID); there {
		return nil
	}
	content, ok := stamp.applyJSON(e.Append(nil))
	if !ok {
		return fmt.Errorf("bounce message %q: it cannot be stamped", e.ID)
	}
	if err := b.place(Failed, e.ID+".json", content, b.createSynced); err != nil {
		return fmt.Errorf("bounce message %q: %w", e.ID, err)
	}
	return nil
}

// Bounced returns the error with which a message with an id has come to failed/.
func (b *Box) Bounced(id string) (reason string, ok bool) {
	name := id + ".json"
	if _, err := os.Lstat(b.path(Failed, name)); errors.Is(err, fs.ErrNotExist) {
		return "", false
	}
	return b.FailureOf(name), true
}
