//go:build !linux

package link

import "net"

// Tune does nothing here: it makes a TCP connection keep little unsent where the
// system can.
func Tune(net.Conn) error { return nil }
