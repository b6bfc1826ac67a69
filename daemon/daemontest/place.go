package daemontest

import "testing"

// NewAt is New for a home in a folder of the test's choice, such as one on a small
// disk.
func NewAt(t testing.TB, dir string, agents ...string) *Host {
	t.Helper()
	h := &Host{Dir: dir, t: t}
	h.Start()
	for _, name := range agents {
		h.Register(name)
	}
	return h
}
