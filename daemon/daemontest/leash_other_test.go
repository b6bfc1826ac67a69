//go:build !linux

package daemontest_test

import "os/exec"

func leash(*exec.Cmd) {} // the cleanups of the tests have to do
