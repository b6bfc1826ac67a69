package main

import (
	"context"
	"fmt"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/spf13/cobra"
)

func newPeer(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "peer", Short: "Show, remove and measure linked hosts",
		Long:    "Show, remove and measure the hosts that this one is linked with. duo pair links another one.",
		Example: "  duo peer list", Args: noArgs, ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPeerList(a), newPeerShow(a), newPeerRemove(a), newPeerPing(a), newPeerRelay(a), newPeerCarry(a), newPeerRotate(a))
	return cmd
}

func newPeerList(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the linked hosts", Long: "List the hosts that this one is linked with, and how it stands with each.",
		Example: "  duo peer list", Args: noArgs, ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.listPeers(cmd.Context()) },
	}
}

func (a *app) listPeers(ctx context.Context) error {
	_, _ = a.makeHome() // which ask opens; its errors are told there
	list, err := ask(ctx, a, func(c *client.Client) (api.Peers, error) { return c.Peers(ctx) })
	if err != nil {
		return err
	}
	return a.print(list, func() {
		now := time.Now()
		for _, p := range list.Peers {
			a.say("%s", peerLine(p, now))
		}
		switch len(list.Peers) {
		case 0:
			a.say("no other host is linked with this one")
			a.next("duo pair")
		default:
			a.next("duo peer show %s", list.Peers[0].Name)
		}
	})
}

// peerLine describes a linked host.
func peerLine(p api.Peer, now time.Time) string {
	line := frame.Line(p.Name) + ", link " + frame.Line(p.State)
	if p.Since > 0 {
		line += " since " + text.Clock(p.Since, now)
	}
	if p.Delay > 0 {
		line += ", " + delay(p.Delay)
	}
	if p.Waiting > 0 {
		line += fmt.Sprintf(", %d waiting", p.Waiting)
	}
	if p.Via != "" {
		line += ", via " + frame.Line(p.Via)
	}
	if p.Relay {
		line += ", relay"
	}
	if p.Carry {
		line += ", carried"
	}
	return line
}

func delay(microseconds int64) string {
	return (time.Duration(microseconds) * time.Microsecond).Round(10 * time.Microsecond).String()
}

func newPeerShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show how it stands with a linked host",
		Long: `Show how it stands with a linked host: its address and key, the state of the link, how
long a frame takes there and back, how many envelopes wait for it, what went wrong last, and
which conversations the link carries no more.`,
		Example: "  duo peer show lon", Args: exactly(1), ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, args []string) error { return a.showPeer(cmd.Context(), args[0]) },
	}
}

func (a *app) showPeer(ctx context.Context, name string) error {
	p, err := ask(ctx, a, func(c *client.Client) (api.Peer, error) { return c.Peer(ctx, name) })
	if err != nil {
		return err
	}
	return a.print(p, func() { a.tellPeer(p, time.Now()) })
}

func (a *app) tellPeer(p api.Peer, now time.Time) {
	a.say("%s", peerLine(p, now))
	a.say("  id       %s", frame.Line(p.ID))
	a.say("  key      %s", frame.Line(p.Key))
	switch {
	case p.Address == "" && p.Via != "":
		a.say("  address  none known: it is reached by %s", frame.Line(p.Via))
	case p.Address == "":
		a.say("  address  not known: only it can dial")
	case p.State == "up" && !p.Dialled:
		a.say("  address  %s (it has dialled)", frame.Line(p.Address))
	default:
		a.say("  address  %s", frame.Line(p.Address))
	}
	if p.DialAt > now.UnixMilli() {
		a.say("  dials    in %s", time.UnixMilli(p.DialAt).Sub(now).Round(100*time.Millisecond))
	}
	if p.Problem != "" {
		a.say("  problem  %s (%s)", frame.Line(p.Problem), text.Clock(p.ProblemAt, now))
	}
	for _, r := range p.Resting {
		a.say("  rests    %s at line %d: %s", frame.Line(r.Conversation), r.Seq, frame.Line(r.Why))
	}
	a.next("duo peer ping %s", p.Name)
}

func newPeerRemove(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "End that a host is trusted",
		Long: `End that a host is trusted, at once, and tell it so. The conversations stay. What waits for
it stays too, for the case that the same host is paired again.`,
		Example: "  duo peer remove lon", Args: exactly(1), ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, args []string) error { return a.removePeer(cmd.Context(), args[0]) },
	}
}

func (a *app) removePeer(ctx context.Context, name string) error {
	p, err := ask(ctx, a, func(c *client.Client) (api.Peer, error) { return c.RemovePeer(ctx, name) })
	if err != nil {
		return err
	}
	return a.print(p, func() {
		a.say("removed %s", frame.Line(p.Name))
		if p.Waiting > 0 {
			a.say("%d envelopes wait for it in the home, in peers/%s/spool/new", p.Waiting, p.Name)
		}
		a.next("duo peer list")
	})
}

func newPeerPing(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "ping NAME", Short: "Measure how long a frame takes to a host and back",
		Long: `Measure how long a frame takes to a linked host and back. Where there is no link the host
is dialled at once, also one that is held.`,
		Example: "  duo peer ping lon", Args: exactly(1), ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, args []string) error { return a.pingPeer(cmd.Context(), args[0]) },
	}
}

func (a *app) pingPeer(ctx context.Context, name string) error {
	ping, err := ask(ctx, a, func(c *client.Client) (api.Ping, error) { return c.PingPeer(ctx, name) })
	if err != nil {
		return err
	}
	return a.print(ping, func() {
		a.say("%s answers in %s", frame.Line(ping.Peer), delay(ping.Delay))
		a.next("duo peer show %s", ping.Peer)
	})
}

func newPeerRelay(a *app) *cobra.Command {
	return newPeerSwitch(a, &cobra.Command{
		Use: "relay NAME on|off", Short: "Let a host introduce others and carry for this one",
		Long: `Say whether a linked host may introduce others to this one and carries for it. There, duo
peer carry says for whom it does so: the hosts that have it as their relay come to know each
other, and reach each other by it.`,
		Example: "  duo peer relay hub on",
	}, func(on *bool) api.ChangePeer { return api.ChangePeer{Relay: on} })
}

func newPeerCarry(a *app) *cobra.Command {
	return newPeerSwitch(a, &cobra.Command{
		Use: "carry NAME on|off", Short: "Carry for a host, and introduce it to others",
		Long: `Say whether this host carries for a linked one, which has it as its relay: it is introduced to
the others for which that is so, what they say to each other passes through this host, which
can neither read nor change it, and what is for one that is away is kept here for a week.`,
		Example: "  duo peer carry lon on",
	}, func(on *bool) api.ChangePeer { return api.ChangePeer{Carry: on} })
}

// newPeerSwitch makes a command of something that is on or off for a linked host.
func newPeerSwitch(a *app, cmd *cobra.Command, change func(on *bool) api.ChangePeer) *cobra.Command {
	words := []string{"on", "off"}
	cmd.Args, cmd.ValidArgs = exactly(2), words
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := (choice{new(string), words}).Set(args[1]); err != nil {
			return usage("duo peer "+cmd.Name()+" "+args[0]+" on", "%s: %w", cmd.Name(), err)
		}
		on := args[1] == "on"
		return a.changePeer(cmd.Context(), args[0], change(&on))
	}
	return cmd
}

func (a *app) changePeer(ctx context.Context, name string, change api.ChangePeer) error {
	p, err := ask(ctx, a, func(c *client.Client) (api.Peer, error) { return c.ChangePeer(ctx, name, change) })
	if err != nil {
		return err
	}
	return a.print(p, func() {
		a.say("%s", peerLine(p, time.Now()))
		a.next("duo peer list")
	})
}

func newPeerRotate(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "rotate-key", Short: "Give this host a new key",
		Long: `Give this host a new key, signed by the one it has. The linked hosts follow by themselves
when the next link begins; nobody has to pair again.`,
		Example: "  duo peer rotate-key", Args: noArgs, ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.rotateKey(cmd.Context()) },
	}
}

func (a *app) rotateKey(ctx context.Context) error {
	key, err := ask(ctx, a, func(c *client.Client) (api.HostKey, error) { return c.RotateKey(ctx) })
	if err != nil {
		return err
	}
	return a.print(key, func() {
		a.say("key %d of this host is %s", key.Number, frame.Line(key.Key))
		a.next("duo peer list")
	})
}
