package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

// keepInPlace has a file that has just been made rewritten where it is. btrfs writes a
// copy otherwise, for which a full disk has no room: a renewal would fail. On a file
// system that cannot be asked for it, as ZFS, the file is as good as any other.
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
