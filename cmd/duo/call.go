package main

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/offline"
	"github.com/claude-duo/duo/daemon/reach"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/spf13/cobra"
)

type callOptions struct {
	body
	topic     string
	mode      string
	turnLimit int64
	wait      span
	key       string
}

func (o *callOptions) addCallFlags(a *app, cmd *cobra.Command) {
	o.addFlags(a, cmd)
	f := cmd.Flags()
	f.StringVar(&o.topic, "topic", "", "what it is about")
	f.Var(choice{&o.mode, []string{"live", "async"}}, "mode", "of the conversation; default live where both are there")
	f.Int64Var(&o.turnLimit, "turn-limit", 0, "at most so many messages, 0 for no limit")
	addWait(cmd, &o.wait, "wait for the answer, 100s or --wait=DURATION")
	addKey(cmd, &o.key)
}

func (o *callOptions) check(cmd *cobra.Command) error {
	if cmd.Flags().Changed("topic") && strings.TrimSpace(o.topic) == "" {
		return usage(cmd.CommandPath()+" --help", "--topic: the topic is empty")
	}
	if o.turnLimit < 0 {
		return usage(cmd.CommandPath()+" --help", "--turn-limit: want 0 or more, got %d", o.turnLimit)
	}
	return nil
}

func newCall(a *app) *cobra.Command {
	var o callOptions
	cmd := &cobra.Command{
		Use: "call [AGENT... [BODY]]", Short: "Ask agents to talk now",
		Long: `Ask one or more agents to talk now. It rings where an agent is there; whoever accepts
first gets the conversation, and the others may come in while it lasts. For an agent that
is offline, busy or does not answer, the request waits in its inbox and can be accepted
later. A last argument that can be no name is the text: the first message. One word is taken
for a name, unless a space is behind it.

With --wait, exit code 0 means accepted, 9 declined or busy, 8 no answer yet. Without
agents it lists the calls of which something can still come.`,
		Example: `  duo call Nova --topic "Review auth.go" "Line 40 looks wrong." --wait
  duo call Nova Sage --topic "Flaky test"
  duo call`,
		ValidArgsFunction: a.completeAgents,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && o.file == "" {
				if slices.ContainsFunc([]string{"topic", "mode", "turn-limit", "wait", "key"}, cmd.Flags().Changed) {
					return usage("duo who", "say whom to call: duo call AGENT")
				}
				return a.listCalls(cmd.Context())
			}
			return a.runCall(cmd, o, args)
		},
	}
	o.addCallFlags(a, cmd)
	o.addAttach(cmd)
	return cmd
}

func (a *app) runCall(cmd *cobra.Command, o callOptions, args []string) error {
	if err := o.check(cmd); err != nil {
		return err
	}
	agents, text, err := o.callees(cmd, args)
	if err != nil {
		return err
	}
	draft, err := a.draft(envelope.Call, o.key)
	if err != nil {
		return err
	}
	draft.To, draft.Topic, draft.Mode, draft.TurnLimit, draft.Content = splitNames(agents), o.topic, o.mode, o.turnLimit, text
	if err := a.upload(cmd.Context(), draft, o.attach); err != nil {
		return err
	}
	called, err := a.signal(cmd.Context(), draft)
	if hint := cmp.Or(a.unquoted("call", err, args), a.oneWord(err, args)); hint != nil && o.file == "" {
		return hint
	}
	if err != nil {
		return err
	}
	if called.dropped != nil {
		return a.tellDroppedCall(called.dropped, o.wait)
	}
	return a.tellCall(cmd.Context(), called.Called, time.Duration(o.wait))
}

// oneWord recognises a text of one word, which looks like an agent.
func (a *app) oneWord(err error, args []string) error {
	var e *api.Error
	last := args[len(args)-1]
	if !errors.As(err, &e) || e.Code != api.AgentNotFound || len(e.Near) > 0 || len(args) < 2 || a.opened == nil || !strings.Contains(e.Message, strconv.Quote(last)) {
		return nil
	}
	if _, err := offline.ReadCard(a.opened, last); err == nil {
		return nil
	}
	return usage(a.withSpace(last), "%w; a text of one word needs a space behind it", e)
}

// withSpace is this run's command line with a space behind one of its words, which makes
// it a text.
func (a *app) withSpace(word string) string {
	line := append([]string{"duo"}, a.args...)
	if i := slices.Index(line, word); i > 0 {
		line[i] += " "
	}
	return shellLine(line...)
}

// callees takes the agents off the arguments. A last one that can be no name is the text.
func (o *callOptions) callees(cmd *cobra.Command, args []string) (agents []string, text string, err error) {
	if o.file != "" || !areNames(args[len(args)-1]) {
		return o.split(cmd, args, -1)
	}
	return args, "", o.app.checkWait(cmd)
}

func areNames(word string) bool {
	names := splitNames([]string{word})
	return len(names) > 0 && word != "-" && !slices.ContainsFunc(names, func(name string) bool {
		_, err := envelope.ParseAddress(name)
		return err != nil
	})
}

func (a *app) tellDroppedCall(d *reach.Dropped, wait span) error {
	if err := a.tellDropped(d, "duo up"); err != nil || wait == 0 {
		return err
	}
	return api.Errorf(api.Pending, "nothing to wait for yet: the call is queued, which is not an error").WithNext("duo up")
}

// tellCall tells that a call was placed, waits, and tells what came.
func (a *app) tellCall(ctx context.Context, called api.Called, wait time.Duration) error {
	if wait > 0 && !a.json {
		a.text().Placed(called)
		if err := a.flush(); err != nil {
			return err
		}
	}
	if wait > 0 {
		return a.waitAnswer(ctx, called, wait)
	}
	return a.print(called, func() {
		a.text().Placed(called)
		a.text().AfterPlacing(called)
	})
}

func (a *app) listCalls(ctx context.Context) error {
	if _, err := a.me(); err != nil {
		return err
	}
	list, err := ask(ctx, a, func(c *client.Client) (api.Requests, error) { return c.Requests(ctx) })
	if err != nil {
		return err
	}
	return a.print(list, func() { a.text().Calls(list.Requests) })
}
