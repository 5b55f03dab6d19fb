package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

// keepInPlace makes the file system overwrite a new file in place. btrfs otherwise writes
// a copy, for which a full disk has no room: a renewal would fail. A file system without
// this option, such as ZFS, leaves the file as it is.
func keepInPlace(f *os.File) {
	var st unix.Statfs_t
	fd := int(f.Fd())
	if unix.Fstatfs(fd, &st) != nil || uint32(st.Type) != unix.BTRFS_SUPER_MAGIC {
		return
	}
	const noCopyOnWrite = 0x00800000 // FS_NOCOW_FL
	if flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS); err == nil {
		_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags|noCopyOnWrite))
	}
}
