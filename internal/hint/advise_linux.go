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
