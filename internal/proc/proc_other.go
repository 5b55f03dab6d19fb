//go:build !(linux || windows)

package proc

// There is no way to signal another process but by its pid, which can have become
// another's since it was checked: kqueue reports an end, but does not keep the pid from
// being used again, and a process descriptor (FreeBSD) is only to be had by the parent.
func open(int) (Process, error) { return nil, ErrUnsupported }

func ownStart() (string, error) { return "", ErrUnsupported }
