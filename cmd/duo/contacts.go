package main

import (
	"context"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/spf13/cobra"
)

const (
	blockList = "block"
	allowList = "allow"
)

func newBlock(a *app) *cobra.Command {
	return a.newContact(blockList, &cobra.Command{
		Use: "block [AGENT]", Short: "Take no calls and no mail from an agent",
		Long: `Take no calls, no messages and no invitations from an agent. In a conversation with
several it is still heard. Without AGENT it lists whom you block and whom you allow.`,
		Example: `  duo block Echo
  duo block Echo --remove
  duo block`,
	})
}

func newAllow(a *app) *cobra.Command {
	return a.newContact(allowList, &cobra.Command{
		Use: "allow [AGENT]", Short: "Always take calls and mail from an agent",
		Long: `Let an agent call and write to you though your card accepts nobody, or only those that
you have written to (duo register NAME --accepts known). Without AGENT it lists whom you
block and whom you allow.`,
		Example: `  duo allow Echo
  duo allow Echo --remove`,
	})
}

// newContact completes a command that puts an agent on a list.
func (a *app) newContact(list string, cmd *cobra.Command) *cobra.Command {
	remove := false
	cmd.Args, cmd.ValidArgsFunction = atMost(1), a.completeAgents
	cmd.Flags().BoolVar(&remove, "remove", false, "take the agent off the list")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0 && remove:
			return usage(cmd.CommandPath()+" AGENT --remove", "--remove needs an agent")
		case len(args) == 0:
			return a.showContacts(cmd.Context())
		}
		return a.setContact(cmd.Context(), args[0], list, remove)
	}
	return cmd
}

func (a *app) showContacts(ctx context.Context) error {
	if _, err := a.me(); err != nil {
		return err
	}
	c, err := ask(ctx, a, func(c *client.Client) (api.Contacts, error) { return c.Contacts(ctx) })
	if err != nil {
		return err
	}
	return a.print(c, func() { a.text().Contacts(c) })
}

func (a *app) setContact(ctx context.Context, name, list string, remove bool) error {
	if _, err := a.me(); err != nil {
		return err
	}
	if remove {
		before, err := ask(ctx, a, func(c *client.Client) (api.Contacts, error) { return c.Contacts(ctx) })
		if err != nil {
			return err
		}
		address, ok := a.listed(before, list, name)
		if !ok {
			return api.Errorf(api.AgentNotFound, "%s is not on the list of those you %s", name, list).WithNext("duo %s", list)
		}
		name, list = address, ""
	}
	c, err := ask(ctx, a, func(c *client.Client) (api.Contacts, error) { return c.SetContact(ctx, name, list) })
	if err != nil {
		return err
	}
	return a.print(c, func() { a.text().Contacts(c) })
}

// listed returns the address of an agent that is on one of the lists: of the one of this
// host where a name alone can mean several.
func (a *app) listed(c api.Contacts, list, name string) (address string, ok bool) {
	var others []string
	for _, address := range map[string][]string{blockList: c.Block, allowList: c.Allow}[list] {
		if strings.EqualFold(a.text().Local(address), name) || strings.EqualFold(address, name) {
			return address, true
		}
		if bare, _, _ := strings.Cut(address, "@"); strings.EqualFold(bare, name) {
			others = append(others, address)
		}
	}
	if len(others) != 1 {
		return "", false
	}
	return others[0], true
}
