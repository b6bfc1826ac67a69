package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/claude-duo/duo/cmd/duo/internal/frame"
	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// current is the conversation that a command means when it names none: that of
// DUO_CONVERSATION, the agent's current one, or the only active one. Where there are
// several, name is the command line that names one.
func (a *app) current(ctx context.Context, name func(ref string) string) (string, error) {
	if ref := a.env("DUO_CONVERSATION"); ref != "" {
		return ref, nil
	}
	self, err := a.me()
	if err != nil {
		return "", err
	}
	id, err := mailbox.At(a.opened.AgentDir(self.Name)).Current()
	if err != nil || id != "" {
		return id, err
	}
	return a.onlyActive(ctx, name)
}

func (a *app) onlyActive(ctx context.Context, name func(ref string) string) (string, error) {
	list, err := a.conversations(ctx, "active", "", defaultLimit)
	if err != nil {
		return "", err
	}
	switch len(list.Conversations) {
	case 0:
		return "", api.Errorf(api.ConversationNotFound, "you are in no conversation").WithNext(`duo message <agent> "..."`)
	case 1:
		return list.Conversations[0].ID, nil
	}
	var refs []string
	for _, c := range list.Conversations {
		refs = append(refs, c.Ref+title(c.Topic))
	}
	return "", usage(name(list.Conversations[0].Ref), "say which conversation: %s", strings.Join(refs, ", "))
}

// conversations lists the conversations of this run's agent.
func (a *app) conversations(ctx context.Context, status, with string, limit int) (api.Conversations, error) {
	list, err := ask(ctx, a, func(c *client.Client) (api.Conversations, error) {
		return c.Conversations(ctx, status, with, limit)
	})
	if !client.Unreachable(err) {
		return list, err
	}
	files, err := a.offline(err)
	if err != nil {
		return list, err
	}
	return files.conversations(status, with, limit)
}

// splitRef reads "c9f3a.42" or "c9f3a"; the seq is 0 where there is none.
func splitRef(ref string) (conversation string, seq int64, err error) {
	conversation, seq, ok := maildir.SplitRef(ref)
	if !ok || !isConversation(conversation) {
		return "", 0, api.Errorf(api.BadReference, "%q is no reference: want one like c9f3a or c9f3a.42", ref).WithNext("duo list")
	}
	return conversation, seq, nil
}

const minRef = len("c1234")

// isConversation reports whether a text has the form of a reference to a
// conversation, or of an id.
func isConversation(text string) bool {
	if _, err := envelope.ParseID(text); err == nil {
		return true
	}
	digits, ok := strings.CutPrefix(strings.ToLower(text), "c")
	return ok && len(text) >= minRef && strings.Trim(digits, "0123456789abcdef") == ""
}

// summary tells of a conversation in one line.
func (a *app) summary(c api.Conversation) string {
	var traits []string
	if c.Mode != "" {
		traits = append(traits, frame.Cut(c.Mode, 20))
	}
	if c.Open {
		traits = append(traits, "open")
	}
	if c.TurnLimit > 0 {
		traits = append(traits, fmt.Sprintf("turn %d of %d", c.Turns, c.TurnLimit))
	}
	if c.Status != "active" {
		traits = append(traits, frame.Cut(strings.TrimSpace(c.Status+" "+c.Reason), 200))
	}
	return fmt.Sprintf("%s%s: %s (%s)", a.bold(c.Ref), title(c.Topic), a.people(c.Participants), strings.Join(traits, ", "))
}
