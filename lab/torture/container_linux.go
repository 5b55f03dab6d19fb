package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// contain starts a process in a new pid namespace, as in a container: it is pid 1 there,
// and sees no other process. From outside it can be killed, stopped and resumed by the
// pid that it has here.
func contain(cmd *exec.Cmd) { cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWPID }

// canContain tries it, as being root is not all that it may take.
func canContain() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), partEnv+"=nobody")
	isolate(cmd)
	contain(cmd)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("no pid namespace can be made here (run it as root): %w", err)
	}
	return nil
}
