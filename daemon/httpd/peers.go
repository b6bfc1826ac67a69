package httpd

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/near"
	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/danielgtaylor/huma/v2"
)

const (
	codeLife = 15 * time.Minute
	pingTime = 10 * time.Second
)

func (s *Server) peerRoutes(door huma.API) {
	const group = "hosts"
	serve(s, door, route{api.RoutePeers, reading, group, "listPeers", "List the hosts that this one is linked with", nil}, s.peers)
	serve(s, door, route{api.RoutePeer, reading, group, "getPeer", "Show how it stands with a host", nil}, s.peer)
	serve(s, door, route{api.RouteJoinPeer, ruling, group, "joinPeer", "Pair with the host that has printed a code", api.Join{}}, s.joinPeer)
	serve(s, door, route{api.RouteNewCode, ruling, group, "newCode", "Make a pairing code for one other host", api.NewCode{}}, s.newCode)
	serve(s, door, route{api.RouteChangePeer, ruling, group, "changePeer", "Say what a host may do", api.ChangePeer{}}, s.changePeer)
	serve(s, door, route{api.RouteRemovePeer, ruling, group, "removePeer", "End that a host is trusted", nil}, s.removePeer)
	serve(s, door, route{api.RoutePingPeer, ruling, group, "pingPeer", "Measure how long a frame takes to a host and back", nil}, s.pingPeer)
	serve(s, door, route{api.RouteRotateKey, ruling, group, "rotateKey", "Give this host a new key, signed by the one it has", nil}, s.rotateKey)
}

type ofPeer struct {
	Name string `path:"name" doc:"name of the host"`
}

func (s *Server) peers(context.Context, caller, none) (api.Peers, error) {
	list := api.Peers{Peers: []api.Peer{}}
	for _, status := range s.Peers.List() {
		list.Peers = append(list.Peers, s.shownPeer(status))
	}
	return list, nil
}

func (s *Server) peer(_ context.Context, _ caller, in ofPeer) (api.Peer, error) {
	return s.showPeer(in.Name)
}

func (s *Server) showPeer(name string) (api.Peer, error) {
	status, err := s.Peers.Get(name)
	return s.shownPeer(status), s.peerProblem(name, err)
}

func (s *Server) shownPeer(p peer.Status) api.Peer {
	shown := api.Peer{
		Name: p.Name, ID: p.ID, Key: maildir.PublicText(p.Keys.Newest()), Address: p.Address, Via: p.Via, Relay: p.Relay, Carry: p.Carry,
		State: string(p.State), Since: millis(p.Since), Problem: p.Problem, ProblemAt: millis(p.At), DialAt: millis(p.DialAt),
		Dialled: p.Dialled, Delay: p.Delay.Microseconds(), Waiting: p.Waiting,
	}
	for _, r := range s.Copies.Problems(p.ID) {
		shown.Resting = append(shown.Resting, api.Resting{Conversation: r.Conversation, Seq: r.Seq, Fork: r.Fork, Why: r.Text})
	}
	return shown
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// peerProblem says of an error what comes next.
func (s *Server) peerProblem(name string, err error) error {
	var refused *identity.Refused
	switch {
	case err == nil:
		return nil
	case errors.Is(err, peer.ErrNotFound):
		var names []string
		for _, p := range s.Peers.List() {
			names = append(names, p.Name)
		}
		return api.Errorf(api.HostNotFound, "no host named %q is linked with this one", name).WithNear(near.Names(name, names)).WithNext("duo peer list")
	case errors.Is(err, peer.ErrDown):
		return api.Errorf(api.HostUnreachable, "there is no link with %s now", name).WithNext("duo peer show %s", name)
	case errors.Is(err, identity.ErrBadCode), errors.Is(err, identity.ErrCode):
		return api.Errorf(api.BadCode, "%w", err).WithNext("duo pair")
	case errors.As(err, &refused):
		return api.Errorf(api.PairingRefused, "%s", refused.Why).WithNext("duo peer list")
	case errors.Is(err, peer.ErrOff):
		return api.Errorf(api.PairingRefused, "%w: this host takes no connections of others", err).WithNext("duo config set link.listen auto")
	}
	return err
}

func (s *Server) newCode(ctx context.Context, _ caller, in withBody) (api.PairingCode, error) {
	ask, err := decode[api.NewCode](in.RawBody)
	if err != nil {
		return api.PairingCode{}, err
	}
	if ask.Address != "" {
		if err := peer.CheckAddress(ask.Address); err != nil {
			return api.PairingCode{}, api.Errorf(api.BadRequest, "%w", err).WithNext("duo pair --help")
		}
	}
	if err := s.Peers.Open(ctx, s.Door); err != nil {
		if errors.Is(err, peer.ErrOff) {
			return api.PairingCode{}, s.peerProblem("", err)
		}
		return api.PairingCode{}, api.Errorf(api.HostUnreachable, "other hosts cannot find this one: %w", err).WithNext("duo config set link.listen auto")
	}
	code, err := s.Peers.Offer(cmp.Or(ask.Address, s.Peers.Address()), codeLife)
	if err != nil {
		return api.PairingCode{}, api.Errorf(api.Busy, "%w", err).WithNext("duo peer list")
	}
	return api.PairingCode{Code: code.String(), Address: code.Address, Ends: code.Ends.UnixMilli()}, nil
}

func (s *Server) joinPeer(ctx context.Context, _ caller, in withBody) (api.Peer, error) {
	ask, err := decode[api.Join](in.RawBody)
	if err != nil {
		return api.Peer{}, err
	}
	code, err := identity.ParseCode(ask.Code)
	if err != nil {
		return api.Peer{}, s.peerProblem("", err)
	}
	joined, err := s.Peers.Join(ctx, code, ask.Relay)
	if err != nil {
		known := s.peerProblem("", err)
		if known == err { //nolint:errorlint // not translated
			known = api.Errorf(api.HostUnreachable, "pair with the host at %s: %w", code.Address, err).WithNext("duo peer list")
		}
		return api.Peer{}, known
	}
	if err := s.Peers.Open(ctx, s.Door); err != nil && !errors.Is(err, peer.ErrOff) { // it dials; to be dialled is more
		s.Logger.Warn("other hosts cannot find this one", "err", err)
	}
	s.Peers.Await(ctx, joined.ID)
	return s.showPeer(joined.Name)
}

type peerChange struct {
	withBody
	Name string `path:"name" doc:"name of the host"`
}

func (s *Server) changePeer(_ context.Context, _ caller, in peerChange) (api.Peer, error) {
	ask, err := decode[api.ChangePeer](in.RawBody)
	if err != nil {
		return api.Peer{}, err
	}
	if ask.Relay != nil {
		if err := s.Peers.SetRelay(in.Name, *ask.Relay); err != nil {
			return api.Peer{}, s.peerProblem(in.Name, err)
		}
	}
	if ask.Carry != nil {
		if err := s.Peers.SetCarry(in.Name, *ask.Carry); err != nil {
			return api.Peer{}, s.peerProblem(in.Name, err)
		}
	}
	return s.showPeer(in.Name)
}

func (s *Server) removePeer(_ context.Context, _ caller, in ofPeer) (api.Peer, error) {
	before, err := s.showPeer(in.Name)
	if err != nil {
		return before, err
	}
	_, err = s.Peers.Remove(in.Name)
	before.State = string(peer.Down)
	return before, s.peerProblem(in.Name, err)
}

func (s *Server) pingPeer(ctx context.Context, _ caller, in ofPeer) (api.Ping, error) {
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	took, err := s.Peers.Ping(ctx, in.Name)
	if errors.Is(err, context.DeadlineExceeded) {
		err = peer.ErrDown
	}
	if err != nil {
		problem := s.peerProblem(in.Name, err)
		if status, statusErr := s.Peers.Get(in.Name); statusErr == nil && status.Problem != "" && errors.Is(err, peer.ErrDown) {
			problem = api.Errorf(api.HostUnreachable, "there is no link with %s: %s", in.Name, status.Problem).WithNext("duo peer show %s", in.Name)
		}
		return api.Ping{}, problem
	}
	return api.Ping{Peer: in.Name, Delay: took.Microseconds()}, nil
}

func (s *Server) rotateKey(context.Context, caller, none) (api.HostKey, error) {
	host, err := s.Peers.Rotate()
	if err != nil {
		return api.HostKey{}, err
	}
	return api.HostKey{ID: host.ID(), Key: maildir.PublicText(host.Keys().Newest()), Number: host.Keys().Len()}, nil
}
