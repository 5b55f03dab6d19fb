//go:build unix

package start

import (
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// mostDescriptors bounds the search where the system does not list the open ones.
const mostDescriptors = 1024

// keepDescriptors keeps a process that is about to be started from inheriting what this
// one has inherited: a descriptor of a shell, whose lock or pipe it would hold for as long
// as it runs. Those that Go has opened are not inherited anyway. restore undoes it.
func keepDescriptors() (restore func()) {
	type open struct {
		fd       int
		dev, ino uint64
	}
	var kept []open
	for _, fd := range descriptors() {
		var st unix.Stat_t
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 || unix.Fstat(fd, &st) != nil {
			continue
		}
		syscall.CloseOnExec(fd)
		kept = append(kept, open{fd, uint64(st.Dev), uint64(st.Ino)})
	}
	return func() {
		for _, o := range kept {
			var st unix.Stat_t
			// It may have been closed, and be another file's by now.
			if unix.Fstat(o.fd, &st) == nil && uint64(st.Dev) == o.dev && uint64(st.Ino) == o.ino {
				_, _ = unix.FcntlInt(uintptr(o.fd), unix.F_SETFD, 0)
			}
		}
	}
}

// descriptors are those that may be open, but for the standard ones.
func descriptors() []int {
	var fds []int
	f, err := os.Open("/dev/fd")
	if err == nil {
		names, _ := f.Readdirnames(-1)
		_ = f.Close()
		for _, name := range names {
			if fd, err := strconv.Atoi(name); err == nil && fd > 2 {
				fds = append(fds, fd)
			}
		}
	}
	if len(fds) > 0 { // FreeBSD lists the standard ones only, without fdescfs
		return fds
	}
	for fd := 3; fd < mostDescriptors; fd++ {
		fds = append(fds, fd)
	}
	return fds
}
