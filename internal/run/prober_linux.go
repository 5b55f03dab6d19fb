package run

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// endProbe ends all that is below this process. What is left after a while cannot be ended
// now: it becomes the warden's, and so COMMAND's.
func endProbe(int) {
	for range 100 {
		left := false
		descendants(os.Getpid(), nil, func(p proc) {
			if !p.zombie {
				left = true
				_ = p.signal(syscall.SIGKILL)
			}
		})
		if !left {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// ownGroupFor does nothing: descendants need no group.
func ownGroupFor(*exec.Cmd) {}

// whenAlone does nothing: the kernel ends this process with its warden.
func whenAlone(context.CancelFunc) {}
