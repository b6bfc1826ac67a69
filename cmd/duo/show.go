package main

import (
	"context"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/spf13/cobra"
)

func newShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "show REF", Short: "Describe an agent, a call, a conversation or a message",
		Long: `Describe an agent, a call, a conversation, or a message without its body. It changes
nothing: duo read shows a body and marks it seen.`,
		Example: `  duo show Nova
  duo show r77b2
  duo show c9f3a
  duo show c9f3a.42`,
		Args: exactly(1), ValidArgsFunction: a.completeRefs,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runShow(cmd.Context(), args[0]) },
	}
}

func (a *app) runShow(ctx context.Context, ref string) error {
	if strings.TrimSpace(ref) == "" {
		return usage("duo list", "the reference is empty")
	}
	_, _ = a.me() // unread counts are of the agent, where this run is one
	found, err := ask(ctx, a, func(c *client.Client) (api.Found, error) { return c.Find(ctx, ref) })
	if client.Unreachable(err) {
		files, offlineErr := a.offline(err)
		if offlineErr != nil {
			return offlineErr
		}
		found, err = files.Find(ctx, ref)
	}
	switch {
	case err != nil:
		return err
	case found.Agent != nil:
		return a.showAgent(*found.Agent)
	case found.Request != nil:
		r := *found.Request
		r.Content, r.Data = "", nil
		return a.print(r, func() { a.text().Call(*found.Request) })
	case found.Conversation != nil:
		return a.print(found.Conversation, func() { a.text().Conversation(*found.Conversation) })
	case found.Message != nil:
		return a.print(withoutBody(*found.Message), func() { a.text().AboutMessage(*found.Message) })
	}
	return api.Errorf(api.Internal, "the daemon found nothing for %q", ref)
}

// shown is an agent and, where it is one of this host, its sessions.
type shown struct {
	api.Agent
	Sessions []liveSession `json:"sessions,omitempty"`
}

func (a *app) showAgent(agent api.Agent) error {
	what := shown{Agent: agent}
	if agent.Host == a.opened.Host.Name {
		what.Sessions = a.liveSessions(agent.Name)
	}
	return a.print(what, func() { a.text().Agent(agent, described(what.Sessions)...) })
}

// withoutBody is a message without what only its being read shows.
func withoutBody(m api.Message) api.Message {
	e := *m.Envelope
	e.Content, e.Data, e.Unknown = "", nil, nil
	m.Envelope = &e
	return m
}
