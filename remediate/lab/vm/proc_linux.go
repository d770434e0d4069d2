package vm

import (
	"os/exec"
	"syscall"
)

// dieWithUs has the kernel kill the process when we die, however we die, and keeps Ctrl-C at
// the terminal from it: it is ours to stop.
func dieWithUs(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
