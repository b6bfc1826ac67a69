package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/claude-duo/duo/maildir"
)

// DefaultPort is where hosts take links.
const DefaultPort = 7601

const autoPorts = 20

// ErrOff means that this host takes no connections of others.
var ErrOff = errors.New(`link.listen is "off"`)

// Door is where a host takes connections of others.
type Door struct {
	Listen    string // as link.listen in config.toml
	Advertise string // host:port, or a host; empty is found out

	open func(ctx context.Context, network, address string) (net.Listener, error)
}

// Open begins to take links and pairings in, unless that is so already, until Run ends.
func (m *Manager) Open(ctx context.Context, d Door) error {
	m.opening.Lock()
	defer m.opening.Unlock()
	if m.opened {
		return nil
	}
	if d.open == nil {
		d.open = new(net.ListenConfig).Listen
	}
	l, err := d.listen(ctx)
	if err != nil {
		return err
	}
	if !m.start(func() { m.serve(l) }) {
		return errors.Join(errors.New("the host is stopping"), l.Close())
	}
	m.opened = true
	address := d.advertised(l.Addr())
	m.SetAddress(address)
	m.logger.Info("links of other hosts are taken", "path", l.Addr().String(), "advertised", address)
	return nil
}

func (m *Manager) serve(l net.Listener) {
	if err := m.Serve(m.running, l); !errors.Is(err, net.ErrClosed) && m.running.Err() == nil {
		m.logger.Error("links are taken no more", "err", err)
	}
}

func (d Door) listen(ctx context.Context) (net.Listener, error) {
	switch d.Listen {
	case maildir.Off:
		return nil, ErrOff
	case maildir.Auto, "":
	default:
		return d.open(ctx, "tcp", d.Listen)
	}
	var first error
	for port := DefaultPort; port < DefaultPort+autoPorts; port++ {
		l, err := d.open(ctx, "tcp", net.JoinHostPort("", strconv.Itoa(port)))
		if err == nil {
			return l, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, fmt.Errorf("no port of %d to %d is free: %w", DefaultPort, DefaultPort+autoPorts-1, first)
}

// advertised is where others find a listener.
func (d Door) advertised(at net.Addr) string {
	host, port := d.Advertise, ""
	if h, p, err := net.SplitHostPort(d.Advertise); err == nil {
		host, port = h, p
	}
	listens, listenPort, err := net.SplitHostPort(at.String())
	if err != nil {
		return d.Advertise
	}
	if port == "" {
		port = listenPort
	}
	if host == "" {
		host = listens
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = outward()
	}
	return net.JoinHostPort(host, port)
}

// outward is the address of this machine with which it reaches others. Nothing is sent.
func outward() string {
	for _, far := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} { // of documentation: nobody's
		conn, err := net.Dial("udp", far)
		if err != nil {
			continue
		}
		host, _, err := net.SplitHostPort(conn.LocalAddr().String())
		_ = conn.Close() // nothing was sent
		if err == nil {
			return host
		}
	}
	return "127.0.0.1"
}

// Needed reports whether connections are taken from the start, with so many peers.
func (d Door) Needed(peers int) bool {
	switch d.Listen {
	case maildir.Off:
		return false
	case maildir.Auto, "":
		return peers > 0
	}
	return true
}
