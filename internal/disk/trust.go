package disk

import "fmt"

// An UntrustedError reports a folder on a file system whose locks cannot be trusted.
type UntrustedError struct {
	Dir string
	FS  string // what the file system is
}

func (e *UntrustedError) Error() string {
	return fmt.Sprintf("%s is on %s, where a lock may not exclude other processes: put the lease on a local disk", e.Dir, e.FS)
}
