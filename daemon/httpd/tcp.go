package httpd

import (
	"context"
	"net"
	"time"

	"github.com/claude-duo/duo/daemon/work"
	"github.com/claude-duo/duo/maildir"
)

const lookForPort = 5 * time.Second

// serveTCP lets programs in that have a token. While somebody else has the port, a
// daemon of another home mostly, it tries again until ctx ends: the host does without so
// long.
func (s *Server) serveTCP(ctx context.Context, all func(func()), serve func(net.Listener)) {
	if s.Home.Config.HTTP.Listen == maildir.Off {
		return
	}
	open := func() error {
		l, err := s.listenTCP(ctx)
		s.shut.Store(&err)
		if err == nil {
			serve(l)
		}
		return err
	}
	if err := open(); err != nil {
		s.Logger.Warn("programs with a token are not let in, trying again", "path", s.Home.Config.HTTP.Listen, "err", err)
		all(func() { work.Every(ctx, lookForPort, func() (done bool) { return open() == nil }) })
	}
}

func (s *Server) listenTCP(ctx context.Context) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", s.Home.Config.HTTP.Listen)
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	s.address.Store(&address)
	s.Logger.Info("programs with a token are let in", "path", address)
	return newCapped(l, s.Home.Config.HTTP.Connections), nil
}

// Address is where programs with a token find the door, empty while it is shut.
func (s *Server) Address() string {
	if address := s.address.Load(); address != nil {
		return *address
	}
	return ""
}
