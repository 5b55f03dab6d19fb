//go:build unix

package hint

import (
	"os"
	"syscall"
)

// An identity is the same for what os.SameFile takes for the same.
type identity struct{ dev, ino uint64 }

func identify(info os.FileInfo) identity {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return identity{uint64(st.Dev), uint64(st.Ino)}
	}
	return identity{}
}
