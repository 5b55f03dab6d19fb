//go:build unix

package run

import "golang.org/x/sys/unix"

// onTerminal reports whether this process's session has a terminal, whose end sends HUP.
func onTerminal() bool {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err == nil
}
