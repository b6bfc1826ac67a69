package daemontest

import (
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
)

// NewNamed is New for a host with a name that other hosts find at the end of the cable.
func NewNamed(t testing.TB, cable *Cable, name string, agents ...string) *Host {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	cable.Connect(address)
	return NewWith(t, fmt.Sprintf("host.name = %q\nhttp.listen = 'off'\nlink.listen = %q\nlink.advertise = %q\n", name, address, cable.Address()), agents...)
}

// NewBehind is New for a host with a name that no other one can dial.
func NewBehind(t testing.TB, name string, agents ...string) *Host {
	t.Helper()
	return NewWith(t, fmt.Sprintf("host.name = %q\nhttp.listen = 'off'\nlink.listen = 'off'\n", name), agents...)
}

// Pair links two hosts: b dials a.
func Pair(t testing.TB, a, b *Host) {
	t.Helper()
	code, err := a.As("").NewCode(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.As("").Join(context.Background(), api.Join{Code: code.Code}); err != nil {
		t.Fatal(err)
	}
	Linked(t, a, b)
}

// Linked waits until the link of two hosts is up on both sides.
func Linked(t testing.TB, a, b *Host) {
	t.Helper()
	Eventually(t, func() (bool, string) {
		x, errA := a.As("").Peer(context.Background(), b.Home().Host.Name)
		y, errB := b.As("").Peer(context.Background(), a.Home().Host.Name)
		return errA == nil && errB == nil && x.State == "up" && y.State == "up", fmt.Sprintf("%s %v, %s %v", JSON(x), errA, JSON(y), errB)
	})
}

// Redial makes a host dial another one at once.
func (h *Host) Redial(name string) {
	h.t.Helper()
	_, _ = h.As("").PingPeer(context.Background(), name) // it may not be reached
}
