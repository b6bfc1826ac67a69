package identity_test

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/sync/identity"
)

// newHome makes the home of a new host with a name.
func newHome(t testing.TB, name string) *maildir.Home {
	t.Helper()
	home, err := maildir.Init(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	home.Host.Name = name
	return home
}

func open(t testing.TB, home *maildir.Home) *identity.Host {
	t.Helper()
	h, err := identity.Open(home)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func newHost(t testing.TB, name string) *identity.Host { return open(t, newHome(t, name)) }

func rotate(t testing.TB, h *identity.Host, home *maildir.Home) *identity.Host {
	t.Helper()
	next, err := h.Rotate(home)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// book is whom a host trusts, by id.
type book struct {
	mu     sync.Mutex
	pinned map[string]identity.Peer
	refuse error // of Pin
}

// knows returns a book with the keys of some hosts as they are now.
func knows(hosts ...*identity.Host) *book {
	b := &book{pinned: make(map[string]identity.Peer)}
	for _, h := range hosts {
		b.pinned[h.ID()] = identity.Peer{Name: h.Name(), Keys: h.Keys()}
	}
	return b
}

func (b *book) Check(shown identity.Keys) error {
	p, ok := b.peer(shown.ID())
	if !ok {
		return identity.ErrUnknownHost
	}
	return shown.Follow(p.Keys)
}

func (b *book) Pin(p identity.Peer) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refuse == nil {
		b.pinned[p.Keys.ID()] = p
	}
	return b.refuse
}

func (b *book) peer(id string) (identity.Peer, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, ok := b.pinned[id]
	return p, ok
}

// pipe is a connection on this machine; a net.Pipe would stand still where both sides
// write an alert.
func pipe(t testing.TB) (dialled, accepted net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if dialled, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if accepted, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialled.Close(); accepted.Close() })
	return dialled, accepted
}

// shake does the handshake of both sides and tells how it has ended for each. A
// dialler hears that it was refused when it reads.
func shake(t testing.TB, client, server *tls.Config) (clientErr, serverErr error) {
	t.Helper()
	dialled, accepted := pipe(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn := tls.Server(accepted, server)
		if serverErr = conn.Handshake(); serverErr == nil {
			_, serverErr = conn.Write([]byte("x"))
		}
		conn.Close()
	}()
	conn := tls.Client(dialled, client)
	if clientErr = conn.Handshake(); clientErr == nil {
		_, clientErr = conn.Read(make([]byte, 1))
	}
	conn.Close()
	<-done
	return clientErr, serverErr
}

// says reports whether err is nil for an empty text, and else whether it has it.
func says(err error, text string) bool {
	if err == nil || text == "" {
		return err == nil && text == ""
	}
	return strings.Contains(err.Error(), text)
}
