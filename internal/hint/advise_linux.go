package hint

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// advise adds what to do where the kernel's words mislead.
func advise(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%w: the user has no inotify watches left; raise the sysctl fs.inotify.max_user_watches", err)
	case errors.Is(err, unix.EMFILE):
		return fmt.Errorf("%w: raise the sysctl fs.inotify.max_user_instances, or the limit of open files (ulimit -n)", err)
	}
	return err
}

// adviseProcess does the same for the watch of a process.
func adviseProcess(err error) error {
	switch {
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: it needs Linux 5.3, and a seccomp profile that allows it", err)
	case errors.Is(err, unix.EMFILE):
		return fmt.Errorf("%w: raise the limit of open files (ulimit -n)", err)
	}
	return err
}
