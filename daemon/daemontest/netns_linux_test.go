package daemontest_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/daemontest"
)

// network is hosts in network namespaces of their own, each with a cable to a middle.
//
//	nyc ── 10.93.N.1 ─┐
//	lon ── 10.93.N.2 ─┼─ bridge in the namespace of the middle
//	tok ── 10.93.N.3 ─┘
type network struct {
	t      *testing.T
	middle string
	spaces map[string]string // by name of the host
	octet  int
}

// newNetwork makes the namespaces, which end with the test. Where that cannot be done the
// test is skipped, or with DUO_NETNS=must fails.
func newNetwork(t *testing.T, hosts ...string) *network {
	t.Helper()
	var missing []string
	for _, tool := range []string{"ip", "nft", "tc"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, tool)
		}
	}
	if os.Geteuid() != 0 || len(missing) > 0 {
		why := fmt.Sprintf("network namespaces need root, ip, nft and tc; this is user %d without %q", os.Geteuid(), missing)
		if os.Getenv("DUO_NETNS") == "must" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	n := &network{t: t, spaces: make(map[string]string), octet: os.Getpid()%250 + 1, middle: fmt.Sprintf("duo%d-middle", os.Getpid())}
	n.space(n.middle)
	n.in(n.middle, "ip link add middle type bridge")
	n.in(n.middle, "ip link set middle up")
	for i, host := range hosts {
		space := fmt.Sprintf("duo%d-%s", os.Getpid(), host)
		n.spaces[host] = space
		n.space(space)
		n.in(n.middle, "ip link add to-%s type veth peer name cable netns %s", host, space)
		n.in(n.middle, "ip link set to-%s master middle up", host)
		n.in(space, "ip addr add 10.93.%d.%d/24 dev cable", n.octet, i+1)
		n.in(space, "ip link set cable up")
		n.in(space, "ip link set lo up")
	}
	return n
}

func (n *network) space(name string) {
	n.run("ip netns add %s", name)
	n.t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
}

func (n *network) run(format string, args ...any) {
	n.t.Helper()
	words := strings.Fields(fmt.Sprintf(format, args...))
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		n.t.Fatalf("%q: %v: %s", words, err, out)
	}
}

// in runs a command in a namespace.
func (n *network) in(space, format string, args ...any) {
	n.t.Helper()
	n.run("ip netns exec %s "+format, append([]any{space}, args...)...)
}

func (n *network) address(host int) string { return fmt.Sprintf("10.93.%d.%d", n.octet, host+1) }

// rule adds a rule for what comes to a host, and returns what takes it away.
func (n *network) rule(host, rule string) (undo func()) {
	space := n.spaces[host]
	n.in(space, "nft add table ip duo")
	n.in(space, "nft add chain ip duo in { type filter hook input priority 0 ; }")
	n.in(space, "nft add rule ip duo in %s", rule)
	return func() { n.in(space, "nft delete table ip duo") }
}

// TestHostsInNamespaces is TestHostsOverABadCable with the faults of a real network.
func TestHostsInNamespaces(t *testing.T) {
	long(t)
	n := newNetwork(t, "nyc", "lon", "tok")
	config := func(i int) string {
		return fmt.Sprintf("link.listen = '%s:7601'\n", n.address(i))
	}
	f := newFleet(t, []string{"Atlas", "Bob", "Cleo"}, newRemote(t, "nyc", n.spaces["nyc"], config(0)),
		newRemote(t, "lon", n.spaces["lon"], config(1)), newRemote(t, "tok", n.spaces["tok"], config(2)))
	f.write(5 * time.Millisecond)
	for _, fault := range []struct {
		name string
		do   func() (undo func())
		last time.Duration
	}{
		{"parted", func() func() { return n.rule("nyc", "ip saddr "+n.address(1)+" drop") }, 3 * time.Second},
		{"deaf one way", func() func() { return n.rule("lon", "tcp sport 7601 drop") }, 3 * time.Second},
		{"losing every twentieth packet", func() func() { return n.rule("nyc", "numgen random mod 100 < 5 drop") }, 4 * time.Second},
		{"resetting connections", func() func() {
			return n.rule("nyc", "tcp dport 7601 numgen random mod 1000 < 20 reject with tcp reset")
		}, 2 * time.Second},
		{"one megabit a second wide", func() func() {
			n.in(n.middle, "tc qdisc add dev to-nyc root tbf rate 1mbit burst 16kbit latency 400ms")
			return func() { n.in(n.middle, "tc qdisc del dev to-nyc root") }
		}, 3 * time.Second},
		{"pulled", func() func() {
			n.in(n.middle, "ip link set to-nyc down")
			return func() { n.in(n.middle, "ip link set to-nyc up") }
		}, 2 * time.Second},
	} {
		t.Logf("the network is %s", fault.name)
		undo := fault.do()
		pass(fault.last)
		undo()
		f.redial()
	}
	f.quiet()
	f.check()
}

// TestDeafLink: a link on which one way is dead ends, and the next one carries what has
// waited, without anybody asking for it.
func TestDeafLink(t *testing.T) {
	long(t)
	t.Parallel()
	cable := daemontest.NewCable(t)
	f := newFleet(t, []string{"Atlas", "Bob"}, newRemote(t, "nyc", "", listening(t, cable)), newRemote(t, "lon", "", hidden))
	f.write(50 * time.Millisecond)
	cable.Deafen(daemontest.Back, true)
	pass(5 * time.Second)
	cable.Deafen(daemontest.Back, false) // what was lost stays lost: the stream has a hole, and TLS ends it
	f.quiet()
	f.check()
}
