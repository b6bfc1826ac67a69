package session

import (
	"fmt"

	"golang.org/x/sys/unix"
)

const zombie = 5 // SZOMB of sys/proc.h

func look(pid int) (seen, bool) {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil || int(info.Proc.P_pid) != pid || info.Proc.P_stat == zombie {
		return seen{}, false
	}
	start := info.Proc.P_starttime
	return seen{
		parent: int(info.Eproc.Ppid), name: unix.ByteSliceToString(info.Proc.P_comm[:]),
		start: fmt.Sprintf("%d.%06d", start.Sec, start.Usec),
	}, true
}
