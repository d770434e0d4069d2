//go:build !linux

package vm

import "os/exec"

// dieWithUs does nothing: hosts in QEMU need Linux.
func dieWithUs(*exec.Cmd) {}
