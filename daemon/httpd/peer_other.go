//go:build !linux

package httpd

import "net"

// isOwnUser trusts the modes of the socket and of the home, which others cannot enter.
func isOwnUser(*net.UnixConn) bool { return true }
