package show_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/show"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

const other = "09154173-c7dd-8dbc-8a45-a3bf3a3821a9"

// source has so many unseen messages in two conversations by turns; the log of one
// cannot be read.
func source(unseen int) show.Source {
	refs := maildir.NewRefs([]string{id, other})
	var items []mailbox.Item
	for i := range unseen {
		items = append(items, mailbox.ItemOf([]string{other, id}[i%2], int64(i+1), int64(1000+i)))
	}
	return show.Source{
		Refs: refs,
		Line: func(ctx context.Context, conversation string, seq int64) (api.Message, error) {
			switch {
			case ctx.Err() != nil:
				return api.Message{}, ctx.Err()
			case conversation == other:
				return api.Message{}, fmt.Errorf("read log: %w", syscall.EIO)
			case seq > 1000:
				return api.Message{}, show.NoLine("c92a3", seq, 1000)
			}
			e := &envelope.Envelope{Seq: seq, Type: envelope.Message, Conversation: conversation, From: nova, Content: fmt.Sprint("text ", seq), Timestamp: 7}
			return api.Message{Envelope: e, Ref: show.Ref(refs.Short(conversation), seq), Topic: "a"}, nil
		},
		Unseen: func(conversation string) ([]mailbox.Item, error) {
			return slices.DeleteFunc(slices.Clone(items), func(i mailbox.Item) bool { return conversation != "" && i.Conversation != conversation }), nil
		},
		Calls: func() ([]api.Message, error) { return nil, nil },
		Resolve: func(ref string) (string, error) {
			if found := refs.Resolve(ref); len(found) == 1 {
				return found[0], nil
			}
			return "", api.Errorf(api.ConversationNotFound, "no conversation %q here", ref)
		},
	}
}

// TestUnreadableMessages: one that cannot be read is listed with its error, and those
// behind it come all the same.
func TestUnreadableMessages(t *testing.T) {
	ctx := context.Background()
	s := source(8)
	const broken = "read log: input/output error"
	inbox, err := s.Inbox(ctx, 2, api.Cursor{})
	if err != nil {
		t.Fatal(err)
	}
	want := []api.InboxItem{
		{Ref: "c21a9.1", Conversation: other, Seq: 1, Timestamp: 1000, Error: broken},
		{Ref: "c92a3.2", Conversation: id, Seq: 2, Topic: "a", Type: "message", From: "Nova@nyc", Timestamp: 7, Preview: "text 2", Size: 6},
		{Ref: "c21a9.3", Conversation: other, Seq: 3, Timestamp: 1002, Error: broken},
		{Ref: "c92a3.4", Conversation: id, Seq: 4, Topic: "a", Type: "message", From: "Nova@nyc", Timestamp: 7, Preview: "text 4", Size: 6},
	}
	if !reflect.DeepEqual(inbox.Items, want) || inbox.More != 4 {
		t.Errorf("inbox: got %+v and %d more, want %+v and 4", inbox.Items, inbox.More, want)
	}
	for _, test := range []struct {
		ask  api.Read
		more int
		want []string
	}{
		{api.Read{Limit: 1}, 6, []string{"c21a9.1!", "c92a3.2"}},
		{api.Read{Limit: 3}, 2, []string{"c21a9.1!", "c92a3.2", "c21a9.3!", "c92a3.4", "c21a9.5!", "c92a3.6"}},
		{api.Read{Refs: []string{other + ".1", "c92a3.2"}}, 0, []string{"c21a9.1!", "c92a3.2"}},
		{api.Read{Refs: []string{"c21a9"}, Limit: 1}, 3, []string{"c21a9.1!"}},
	} {
		out, err := s.Read(ctx, test.ask)
		var got []string
		for _, m := range out.Messages {
			ref := m.Ref
			if m.Error == broken && m.Envelope.Content == "" && m.Envelope.Conversation == other {
				ref += "!"
			}
			got = append(got, ref)
		}
		if err != nil || !slices.Equal(got, test.want) || out.More != test.more {
			t.Errorf("%+v: got %q and %d more, %v, want %q and %d", test.ask, got, out.More, err, test.want, test.more)
		}
	}
}

// TestReadInVain: what is named and is not there is an error, and so is a question that
// nobody waits for any more.
func TestReadInVain(t *testing.T) {
	s := source(2)
	for ref, want := range map[string]api.Code{"c92a3.1001": api.MessageNotFound, "cffff": api.ConversationNotFound, "c92a3.x": api.BadReference} {
		var e *api.Error
		if _, err := s.Read(context.Background(), api.Read{Refs: []string{"c92a3.1", ref}}); !errors.As(err, &e) || e.Code != want {
			t.Errorf("%s: got %v, want %s", ref, err, want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Read(ctx, api.Read{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Read for nobody: got %v, want %v", err, context.Canceled)
	}
	if _, err := s.Inbox(ctx, 1, api.Cursor{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Inbox for nobody: got %v, want %v", err, context.Canceled)
	}
}

// TestAnswerIsBounded in bytes, however many messages are asked for.
func TestAnswerIsBounded(t *testing.T) {
	const mib = 1 << 20
	s := source(0)
	for what, test := range map[string]struct {
		sizes []int // of the contents; 0 for one that cannot be read
		want  int
	}{
		"small ones":               {[]int{1, 1, 1}, 3},
		"as many as fit":           {[]int{mib, mib, mib, mib, mib, mib, mib, mib, mib, 1}, 7},
		"one that is too long":     {[]int{9 * mib, 1}, 1},
		"a long one behind others": {[]int{1, 9 * mib, 1}, 1},
		"behind unreadable ones":   {[]int{0, 0, 9 * mib, 0, 1}, 3},
	} {
		s.Line = func(_ context.Context, conversation string, seq int64) (api.Message, error) {
			size := test.sizes[seq-1]
			if size == 0 {
				return api.Message{}, syscall.EIO
			}
			return api.Message{Envelope: &envelope.Envelope{Seq: seq, Conversation: conversation, Content: strings.Repeat("x", size)}}, nil
		}
		var refs []string
		for i := range test.sizes {
			refs = append(refs, fmt.Sprintf("c92a3.%d", i+1))
		}
		out, err := s.Read(context.Background(), api.Read{Refs: refs, Limit: 500})
		if err != nil || len(out.Messages) != test.want || out.More != len(refs)-test.want {
			t.Errorf("%s: got %d and %d more, %v, want %d of %d", what, len(out.Messages), out.More, err, test.want, len(refs))
		}
	}
}
