package disk

import "fmt"

// An UntrustedError says that a folder is on a file system whose locks cannot
// be trusted.
type UntrustedError struct {
	Dir string
	FS  string // what the file system is
}

func (e *UntrustedError) Error() string {
	return fmt.Sprintf("%s is on %s, where a lock may not exclude everybody: put the lease on a local disk", e.Dir, e.FS)
}

// CheckTrusted returns an *UntrustedError for a folder on a network file system,
// or on one that a program serves: its locks are as good as that program.
func CheckTrusted(dir string) error {
	name, err := untrusted(dir)
	if err != nil {
		return err
	}
	if name != "" {
		return &UntrustedError{Dir: dir, FS: name}
	}
	return nil
}
