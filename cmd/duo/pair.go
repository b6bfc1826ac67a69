package main

import (
	"context"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/spf13/cobra"
)

func newPair(a *app) *cobra.Command {
	var address string
	relay := false
	cmd := &cobra.Command{
		Use: "pair [CODE]", Short: "Link this host with another one",
		Long: `Link this host with another one, so that their agents find, call and write to each other.

Without a code it prints one, for one other host and 15 minutes: whoever has it can pair,
so show it to nobody else. On the other host, run duo pair with that code. From then on
each host knows the other by its key; duo peer lists them and ends it.

The host that prints a code has to be reached by the other one, at the address in it:
this machine's, or --address HOST:PORT. Port 7601 is opened when the first code is made
(link.listen in duo config). With --relay the other host may introduce the hosts that it
knows to this one, and carries for them.`,
		Example: `  duo pair
  duo pair --address nyc.example.net:7601
  duo pair duo1-0c3f-...`,
		Args: atMost(1), ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 && relay:
				return usage("duo peer relay NAME on", "--relay goes with a code; for a host that is paired already use duo peer relay")
			case len(args) == 0:
				return a.offerPairing(cmd.Context(), address)
			case address != "":
				return usage("duo pair "+args[0], "--address goes without a code: it stands in the code")
			}
			return a.joinPeer(cmd.Context(), api.Join{Code: args[0], Relay: relay})
		},
	}
	cmd.Flags().StringVar(&address, "address", "", "host:port where the other host finds this one")
	cmd.Flags().BoolVar(&relay, "relay", false, "the other host may introduce others and carries for this one")
	return cmd
}

func (a *app) offerPairing(ctx context.Context, address string) error {
	if _, err := a.makeHome(); err != nil {
		return err
	}
	code, err := ask(ctx, a, func(c *client.Client) (api.PairingCode, error) { return c.NewCode(ctx, address) })
	if err != nil {
		return err
	}
	return a.print(code, func() {
		a.say("pairing code for one other host, until %s; it is a secret:", text.Clock(code.Ends, time.Now()))
		a.say("%s", code.Code)
		a.say("the other host has to reach this one at %s; there, run: duo pair CODE", frame.Line(code.Address))
		a.next("duo peer list")
	})
}

func (a *app) joinPeer(ctx context.Context, join api.Join) error {
	if _, err := a.makeHome(); err != nil {
		return err
	}
	p, err := ask(ctx, a, func(c *client.Client) (api.Peer, error) { return c.Join(ctx, join) })
	if err != nil {
		return err
	}
	return a.print(p, func() {
		a.say("paired with %s", peerLine(p, time.Now()))
		a.next("duo who")
	})
}
