//go:build unix

package run

import (
	"os"
	"os/signal"
	"slices"
	"syscall"
)

func endingOf(ws syscall.WaitStatus) ending {
	if ws.Signaled() {
		return ending{code: 128 + int(ws.Signal()), signal: ws.Signal()}
	}
	return ending{code: ws.ExitStatus()}
}

// The signals that end the wait for the lease. What is ignored, as HUP is under
// nohup, stays ignored, for the command as well.
func endingSignals() []os.Signal {
	return heeded(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM)
}

// forwardedSignals are all that can be caught but SIGCHLD and SIGURG, which the
// Go runtime sends to itself, and those that stop this process.
func forwardedSignals() []os.Signal {
	var sigs []os.Signal
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		switch sig {
		case syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGCHLD, syscall.SIGURG:
		default:
			if !slices.Contains(stoppingSignals, sig) {
				sigs = append(sigs, sig)
			}
		}
	}
	return heeded(sigs...)
}

func heeded(all ...os.Signal) []os.Signal {
	var sigs []os.Signal
	for _, sig := range all {
		if !signal.Ignored(sig) {
			sigs = append(sigs, sig)
		}
	}
	return sigs
}

// keepIgnored ignores again what was ignored when this process began. Run calls it
// before it takes any signal.
func keepIgnored() { ignore(inheritedIgnored()) }

// ignore ignores signals, also in the processes that this one starts, but for
// SIGCHLD: without it, there would be no exit codes.
func ignore(sigs []syscall.Signal) {
	for _, sig := range sigs {
		if sig != syscall.SIGCHLD {
			signal.Ignore(sig)
		}
	}
}
