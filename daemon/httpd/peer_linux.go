package httpd

import (
	"net"
	"os"
	"syscall"
)

// isOwnUser reports whether the process at the other end of a local socket belongs to
// the user of this one, or to root, as the kernel knows it (SO_PEERCRED, unix(7)).
func isOwnUser(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	var peer *syscall.Ucred
	controlErr := raw.Control(func(fd uintptr) {
		peer, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	return controlErr == nil && err == nil && (peer.Uid == 0 || int(peer.Uid) == os.Geteuid())
}
