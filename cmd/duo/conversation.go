package main

import (
	"context"
	"slices"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/offline"
	"github.com/claude-duo/duo/daemon/show"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// current is the conversation that a command means when it names none: that of
// DUO_CONVERSATION, the agent's current one, or with guess the only active one. Where
// there are several, name is the command line that names one.
func (a *app) current(ctx context.Context, guess bool, name func(ref string) string) (string, error) {
	if ref := a.env("DUO_CONVERSATION"); ref != "" {
		if !isConversation(ref) {
			return "", usage("duo list", "DUO_CONVERSATION is %q, which is no reference to a conversation: want one like c9f3a", ref)
		}
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
	return a.onlyActive(ctx, guess, name)
}

// goOnIn makes a conversation the current one. That it is not noted harms nothing.
func (a *app) goOnIn(id string) {
	box := mailbox.At(a.opened.AgentDir(a.self.Name))
	if current, err := box.Current(); err == nil && current != id {
		_ = box.SetCurrent(id)
	}
}

func (a *app) onlyActive(ctx context.Context, guess bool, name func(ref string) string) (string, error) {
	list, err := a.conversations(ctx, "active", "", defaultLimit)
	if err != nil {
		return "", err
	}
	list.Conversations = slices.DeleteFunc(list.Conversations, func(c api.Conversation) bool { return !a.isIn(c) })
	switch n := len(list.Conversations); {
	case n == 0:
		return "", api.Errorf(api.ConversationNotFound, "you are in no conversation").WithNext(`duo message AGENT "..."`)
	case n == 1 && guess:
		return list.Conversations[0].ID, nil
	}
	var refs []string
	for _, c := range list.Conversations {
		refs = append(refs, c.Ref+text.Title(c.Topic))
	}
	return "", usage(name(list.Conversations[0].Ref), "say which conversation: %s", strings.Join(refs, ", "))
}

// isIn reports whether this run's agent is in a conversation, and has not left it.
func (a *app) isIn(c api.Conversation) bool {
	return slices.ContainsFunc(c.Participants, func(text string) bool {
		address, err := envelope.ParseAddress(text)
		return err == nil && a.isMe(address)
	})
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
	return files.Conversations(show.Query{Status: status, With: with, Limit: limit})
}

// conversation asks for the conversation that a reference means.
func (a *app) conversation(ctx context.Context, ref string) (api.Conversation, error) {
	found, err := ask(ctx, a, func(c *client.Client) (api.Found, error) { return c.Find(ctx, ref) })
	switch {
	case err != nil:
		return api.Conversation{}, err
	case found.Agent != nil: // which has a name that looks like a reference
		return api.Conversation{}, api.Errorf(api.ConversationNotFound, "no conversation %q here, but an agent", ref).WithNext("duo list")
	case found.Conversation == nil:
		return api.Conversation{}, usage("duo list", "%q names no conversation", ref)
	}
	return *found.Conversation, nil
}

// splitRef reads "c9f3a.42" or "c9f3a"; the seq is 0 where there is none.
func splitRef(ref string) (conversation string, seq int64, err error) { return offline.SplitRef(ref) }

// checkConversation is an error where a text is no reference to a conversation; next is
// for who has named a message.
func checkConversation(ref, next string) error {
	_, seq, err := splitRef(ref)
	if err == nil && seq > 0 {
		err = usage(next, "%q names a message, not a conversation", ref)
	}
	return err
}

// digits are the last hex digits of the id that a reference to a conversation means.
func digits(ref string) string {
	if id, err := envelope.ParseID(ref); err == nil {
		return strings.ReplaceAll(id, "-", "")
	}
	return strings.TrimPrefix(strings.ToLower(ref), "c")
}

// isConversation reports whether a text has the form of a reference to a
// conversation, or of an id.
func isConversation(text string) bool { return maildir.NamesConversation(text) }
