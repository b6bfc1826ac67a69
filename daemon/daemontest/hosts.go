package daemontest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
)

// NewNamed is New for a host with a name that other hosts find at the end of the cable.
func NewNamed(t testing.TB, cable *Cable, name string, agents ...string) *Host {
	t.Helper()
	address := FreeAddress(t)
	cable.Connect(address)
	return NewWith(t, fmt.Sprintf("host.name = %q\nhttp.listen = 'off'\nlink.listen = %q\nlink.advertise = %q\n", name, address, cable.Address()), agents...)
}

// FreeAddress is an address at which nobody listens. Its port is none of those that the
// system gives to who dials, so that nobody has taken it when a host starts again.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		free, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		if err := free.Close(); err != nil {
			t.Fatal(err)
		}
		return address
	}
	t.Fatal("no port is free")
	return ""
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
