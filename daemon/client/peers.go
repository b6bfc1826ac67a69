package client

import (
	"context"
	"time"

	"github.com/claude-duo/duo/daemon/api"
)

// Peers lists the hosts that this one is linked with.
func (c *Client) Peers(ctx context.Context) (api.Peers, error) {
	return call[api.Peers](ctx, c, request{route: api.RoutePeers})
}

// Peer tells how it stands with a host.
func (c *Client) Peer(ctx context.Context, name string) (api.Peer, error) {
	return call[api.Peer](ctx, c, request{route: api.RoutePeer, arg: name})
}

const pairTime = 30 * time.Second

// NewCode makes a pairing code for one other host.
func (c *Client) NewCode(ctx context.Context, address string) (api.PairingCode, error) {
	return call[api.PairingCode](ctx, c, request{route: api.RouteNewCode, body: api.NewCode{Address: address}})
}

// Join pairs this host with the one that has printed a code.
func (c *Client) Join(ctx context.Context, join api.Join) (api.Peer, error) {
	return call[api.Peer](ctx, c, request{route: api.RouteJoinPeer, body: join, wait: pairTime})
}

// ChangePeer says what a host may do.
func (c *Client) ChangePeer(ctx context.Context, name string, change api.ChangePeer) (api.Peer, error) {
	return call[api.Peer](ctx, c, request{route: api.RouteChangePeer, arg: name, body: change})
}

// RemovePeer ends that a host is trusted.
func (c *Client) RemovePeer(ctx context.Context, name string) (api.Peer, error) {
	return call[api.Peer](ctx, c, request{route: api.RouteRemovePeer, arg: name})
}

// PingPeer measures how long a frame takes to a host and back.
func (c *Client) PingPeer(ctx context.Context, name string) (api.Ping, error) {
	return call[api.Ping](ctx, c, request{route: api.RoutePingPeer, arg: name, wait: pairTime})
}

// RotateKey gives this host a new key.
func (c *Client) RotateKey(ctx context.Context) (api.HostKey, error) {
	return call[api.HostKey](ctx, c, request{route: api.RouteRotateKey})
}
