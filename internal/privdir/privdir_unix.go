//go:build unix

package privdir

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/ownerlease/owner/internal/leasename"
)

// ForSocket returns a folder that only this user can enter, in which a name of this
// length fits into a socket's address. Where another has taken its name, it is a new one,
// for remove to remove.
func ForSocket(name int) (dir string, remove func(), err error) {
	bases := []string{os.Getenv("XDG_RUNTIME_DIR"), os.TempDir(), "/tmp"}
	var tried []error
	for _, base := range bases {
		dir := filepath.Join(base, "owner-"+strconv.Itoa(os.Geteuid()))
		if !filepath.IsAbs(base) || len(dir)+1+name > MaxSocketPath {
			continue
		}
		err := makePrivate(dir)
		if err == nil {
			return dir, func() {}, nil
		}
		tried = append(tried, err)
	}
	for _, base := range bases[1:] {
		dir, err := ownFolder(base, name)
		if err == nil {
			return dir, func() { _ = os.Remove(dir) }, nil
		}
		tried = append(tried, err)
	}
	return "", nil, errors.Join(tried...)
}

// ownFolder makes a folder with a name of its own.
func ownFolder(base string, name int) (dir string, err error) {
	if dir, err = os.MkdirTemp(base, "owner-"); err != nil {
		return "", err
	}
	if err = checkPrivate(dir); err == nil && len(dir)+1+name > MaxSocketPath {
		err = fmt.Errorf("a socket in %s would have a path of more than %d bytes", dir, MaxSocketPath)
	}
	if err != nil {
		_ = os.Remove(dir)
	}
	return dir, err
}

func makePrivate(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return checkPrivate(dir)
}

// checkPrivate looks at the folder itself: a link to one could be turned to another.
func checkPrivate(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return fmt.Errorf("%s is not a folder", dir)
	case ok && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to user %d", dir, st.Uid)
	case info.Mode().Perm() != 0o700:
		return fmt.Errorf("%s has mode %#o, not 0700", dir, info.Mode().Perm())
	}
	return nil
}

const (
	// newborn is how long a socket is left alone that refuses connections: between its
	// bind and its listen it does, too.
	newborn = time.Minute
	// mostDead bounds what a start spends on those who were killed before it.
	mostDead = 32
)

// RemoveDead removes sockets that are named by an instance id as own is, and whose process was
// killed.
func RemoveDead(dir, own string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	looked := 0
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || e.Type() != fs.ModeSocket || e.Name() == own || !leasename.IsInstanceID(e.Name()) || time.Since(info.ModTime()) < newborn {
			continue
		}
		if looked++; looked > mostDead {
			return
		}
		path := filepath.Join(dir, e.Name())
		c, err := net.Dial("unix", path)
		if err == nil {
			_ = c.Close()
		} else if errors.Is(err, syscall.ECONNREFUSED) {
			_ = os.Remove(path)
		}
	}
}
