package daemontest_test

import (
	"context"
	"testing"

	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
)

func TestMessageReachesTheInbox(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova")
	posted := h.Post("Atlas", &envelope.Envelope{To: []string{"nova"}, Content: "hello"})
	inbox, err := h.As("Nova").Inbox(context.Background(), 10)
	if err != nil || len(inbox.Items) != 1 || inbox.Items[0].Ref != posted.Message.Ref {
		t.Fatalf("inbox = %s, %v; want one item %s", daemontest.JSON(inbox), err, posted.Message.Ref)
	}
}
