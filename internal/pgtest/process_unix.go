//go:build unix

package pgtest

import "syscall"

func stop(pid int) error      { return syscall.Kill(pid, syscall.SIGSTOP) }
func cont(pid int) error      { return syscall.Kill(pid, syscall.SIGCONT) }
func kill(pid int) error      { return syscall.Kill(pid, syscall.SIGKILL) }
func interrupt(pid int) error { return syscall.Kill(pid, syscall.SIGINT) }
