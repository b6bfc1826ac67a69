package link

import (
	"net"
	"syscall"
)

// tcpNotsentLowat is TCP_NOTSENT_LOWAT, which package syscall does not name.
const tcpNotsentLowat = 25

const unsent = 16 << 10 // bytes that the kernel may keep unsent

// Tune makes a TCP connection keep little of what is written to it unsent, so that a
// call has little before it that cannot be overtaken.
func Tune(conn net.Conn) error {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	if err := raw.Control(func(fd uintptr) {
		set = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotsentLowat, unsent)
	}); err != nil {
		return err
	}
	return set
}
