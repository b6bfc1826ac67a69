package main

import (
	"context"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/spf13/cobra"
)

type registerOptions struct {
	name         string
	capabilities []string
	description  string
	platform     string
	accepts      string
}

func newRegister(a *app) *cobra.Command {
	var o registerOptions
	cmd := &cobra.Command{
		Use: "register NAME", Short: "Become an agent",
		Long: `Make an agent with a name, or change the card of the one that has it: the same name is
the same agent, with its mail. The session of your client program is bound to it, so
that later commands need not say who you are.`,
		Example: `  duo register Atlas --capabilities coding,review
  duo register --name Atlas --description "Reviews Go code"`,
		Args: atMost(1), ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && o.name != "" && args[0] != o.name {
				return usage("duo register "+shellQuote(args[0]), "two names: %s and %s", args[0], o.name)
			}
			if len(args) == 1 {
				o.name = args[0]
			}
			return a.runRegister(cmd, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.name, "name", "", "name: letters, digits, _ and -")
	f.StringSliceVar(&o.capabilities, "capabilities", nil, "what you can do: a,b")
	f.StringVar(&o.description, "description", "", "who you are, in a sentence")
	f.StringVar(&o.platform, "platform", "", "the program that you run in")
	f.Var(choice{&o.accepts, []string{card.Anyone, card.Known, card.Nobody}}, "accepts", "who may call and write to you: known are those you have written to; default anyone")
	return cmd
}

func (a *app) runRegister(cmd *cobra.Command, o registerOptions) error {
	if o.name == "" {
		return usage("duo register NAME --capabilities coding,review", "register needs a name")
	}
	if err := envelope.CheckName(o.name); err != nil {
		return usage("duo register NAME", "%w", err)
	}
	home, err := a.makeHome()
	if err != nil {
		return err
	}
	made, err := a.register(cmd.Context(), o.request(cmd))
	if err != nil {
		return err
	}
	if err := a.bind(home, made.Agent.Name); err != nil {
		return err
	}
	return a.print(made, func() { a.tellRegistered(made) })
}

// request holds the fields that the command line names; the others stay as they are.
func (o *registerOptions) request(cmd *cobra.Command) api.Register {
	r := api.Register{Name: o.name}
	if cmd.Flags().Changed("capabilities") {
		r.Capabilities = &o.capabilities
	}
	if cmd.Flags().Changed("description") {
		r.Description = &o.description
	}
	if cmd.Flags().Changed("platform") {
		r.Platform = &o.platform
	}
	if cmd.Flags().Changed("accepts") {
		r.Accepts = &o.accepts
	}
	return r
}

// register makes an agent, with the daemon or in the files.
func (a *app) register(ctx context.Context, r api.Register) (api.Registered, error) {
	made, err := ask(ctx, a, func(c *client.Client) (api.Registered, error) { return c.Register(ctx, r) })
	if !client.Unreachable(err) {
		return made, err
	}
	files, offlineErr := a.offline(err)
	if offlineErr != nil {
		return made, offlineErr
	}
	return files.Register(r)
}

func (a *app) tellRegistered(made api.Registered) {
	verb := "registered"
	if !made.Created {
		verb = "registered before, with its mail:"
	}
	a.say("%s %s, folder %s", verb, a.text().Bold(made.Agent.Address), made.Agent.Folder)
	if sessions := a.sessions(); len(sessions) == 1 {
		a.say("this session (%s) is %s from now on", sessions[0].Client, made.Agent.Name)
	}
	a.as, a.self = "", nil
	if self, err := a.me(); err != nil || self.Name != made.Agent.Name {
		a.next("export DUO_AS=%s", made.Agent.Name)
		return
	}
	a.next("duo who")
}

func newWhoami(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "whoami", Short: "Tell who you are, and why",
		Long: `Tell which agent commands act as, and what says so: --as, DUO_AS, the session of your
client program, .duo.toml in this folder or above, or that there is only one agent.
It lists the sessions that are this agent now: each item in the inbox goes to one of them.`,
		Example: "  duo whoami", Args: noArgs, ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runWhoami(cmd.Context()) },
	}
}

// self is an agent and what says that this run is it, as --json tells it.
type self struct {
	api.Agent
	Source  string `json:"source"`
	Detail  string `json:"detail,omitempty"`
	Client  string `json:"client,omitempty"`
	Session string `json:"session,omitempty"`

	Sessions []liveSession `json:"sessions,omitempty"`
}

func (a *app) runWhoami(ctx context.Context) error {
	me, err := a.me()
	if err != nil {
		return err
	}
	agent, err := ask(ctx, a, func(c *client.Client) (api.Agent, error) { return c.Me(ctx) })
	if client.Unreachable(err) {
		files, offlineErr := a.offline(err)
		if offlineErr != nil {
			return offlineErr
		}
		agent, err = files.Agent(me.Name)
	}
	if err != nil {
		return err
	}
	answer := self{Agent: agent, Source: me.Source, Detail: me.Detail}
	if me.Session != nil {
		answer.Client, answer.Session = me.Session.Client, me.Session.ID
	}
	answer.Sessions = a.liveSessions(me.Name)
	return a.print(answer, func() {
		a.text().Whoami(agent, strings.TrimSpace(me.Source+" "+me.Detail), described(answer.Sessions)...)
	})
}

func newUnregister(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "unregister", Short: "Take no more mail",
		Long: `Take the agent off the list: nobody can write to it or invite it any more. What is said
in the conversations that it is in still reaches its inbox. Its folder, its messages and
its name stay; registering the name again brings it back.`,
		Example: "  duo unregister --as Atlas", Args: asSomebody, ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runUnregister(cmd.Context()) },
	}
}

func (a *app) runUnregister(ctx context.Context) error {
	me, err := a.me()
	if err != nil {
		return err
	}
	gone, err := ask(ctx, a, func(c *client.Client) (api.Agent, error) { return c.Unregister(ctx, me.Name) })
	if err != nil {
		return err
	}
	if err := a.unbind(a.opened, me.Name); err != nil {
		return err
	}
	return a.print(gone, func() {
		a.say("unregistered %s; its mail stays in %s", a.text().Bold(gone.Address), gone.Folder)
		if gone.Human {
			a.next("duo who")
		} else {
			a.next("duo register %s", gone.Name)
		}
	})
}
