package daemontest_test

import (
	"os/exec"
	"syscall"
)

// leash makes a program end with the test, however that ends.
func leash(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
