package mcpserver

import (
	"context"
	"slices"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/offline"
	"github.com/claude-duo/duo/daemon/reach"
)

// self is an agent and what says that the speaker is it.
type self struct {
	api.Agent
	Source string `json:"source"`
}

func (c *call) whoami(ctx context.Context) error {
	if c.args.has("name") {
		return c.register(ctx)
	}
	for _, name := range []string{"capabilities", "description"} {
		if c.args.has(name) {
			return api.Errorf(api.BadRequest, "argument %s goes with name", name).WithNext("duo register NAME")
		}
	}
	switch {
	case c.as.Observes:
		c.Say("an observer of %s: you see what there is to see, and speak for nobody", c.as.Home.Host.Name)
		c.Next("duo who")
		return nil
	case c.as.Nobody != nil:
		return c.as.Nobody
	}
	agent, away, err := reach.AskOrRead(ctx, c.as.Host,
		func(d *client.Client) (api.Agent, error) { return d.Me(ctx) },
		func(f *offline.Files) (api.Agent, error) { return f.Agent(c.as.Agent) })
	if err != nil {
		return err
	}
	c.away(away)
	c.Whoami(agent, c.as.Source)
	c.value = self{agent, c.as.Source}
	return nil
}

// register makes the speaker the agent that it names.
func (c *call) register(ctx context.Context) error {
	name := c.args.text("name")
	if c.server.Register == nil {
		if strings.EqualFold(name, c.as.Agent) {
			return api.Errorf(api.NotAllowed, "you are %s already, by your token; its card is changed on its machine", c.as.Agent).WithNext("duo whoami")
		}
		return api.Errorf(api.NotAllowed, "the token says who you are; another agent has another token").WithNext("duo whoami")
	}
	ask := api.Register{Name: name}
	if words := c.args.words("capabilities"); words != nil {
		ask.Capabilities = &words
	}
	if text := c.args.text("description"); text != "" {
		ask.Description = &text
	}
	made, err := c.server.Register(ctx, ask)
	if err != nil {
		return err
	}
	verb := "registered"
	if !made.Created {
		verb = "registered before, with its mail:"
	}
	c.Say("%s %s, folder %s", verb, made.Agent.Address, made.Agent.Folder)
	c.Say("you are %s from now on", made.Agent.Name)
	c.Next("duo who")
	c.value = made
	return nil
}

func (c *call) who(ctx context.Context) error {
	q := api.AgentQuery{Status: c.args.text("status"), Host: c.args.text("host"), Limit: c.args.whole("limit", 0)}
	return c.agents(ctx, q, q.Status != "" || q.Host != "")
}

func (c *call) find(ctx context.Context) error {
	if !slices.ContainsFunc([]string{"text", "capabilities", "status"}, c.args.has) {
		return api.Errorf(api.BadRequest, "find needs text, capabilities or status: who lists all").WithNext("duo who")
	}
	return c.agents(ctx, api.AgentQuery{
		Text: c.args.text("text"), Capabilities: c.args.words("capabilities"), Status: c.args.text("status"), Limit: c.args.whole("limit", 0),
	}, true)
}

func (c *call) agents(ctx context.Context, q api.AgentQuery, found bool) error {
	list, away, err := reach.AskOrRead(ctx, c.as.Host,
		func(d *client.Client) (api.Agents, error) { return d.Agents(ctx, q) },
		func(f *offline.Files) (api.Agents, error) { return f.Agents(q) })
	if err != nil {
		return err
	}
	c.away(away)
	c.Agents(list, found)
	c.value = list
	return nil
}
