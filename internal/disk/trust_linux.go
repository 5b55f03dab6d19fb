package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

// untrustedTypes are the magic numbers of statfs(2). FUSE covers all of its servers: this
// number does not distinguish Docker Desktop's shared folders, which at times have let
// two holders in.
var untrustedTypes = map[uint32]string{
	unix.NFS_SUPER_MAGIC:   "NFS",
	unix.SMB_SUPER_MAGIC:   "SMB",
	unix.SMB2_SUPER_MAGIC:  "SMB",
	unix.CIFS_SUPER_MAGIC:  "CIFS",
	unix.V9FS_MAGIC:        "9p (a folder shared by the host)",
	unix.FUSE_SUPER_MAGIC:  "FUSE (a network file system, or a folder shared by the host)",
	unix.AFS_SUPER_MAGIC:   "AFS",
	unix.AFS_FS_MAGIC:      "AFS",
	unix.CODA_SUPER_MAGIC:  "Coda",
	unix.CEPH_SUPER_MAGIC:  "Ceph",
	unix.OCFS2_SUPER_MAGIC: "OCFS2",
	0x564c:                 "NCP",
	0x0bd00bd0:             "Lustre",
	0x01161970:             "GFS2",
	0x47504653:             "GPFS",
	0x19830326:             "BeeGFS",
	0x786f4256:             "a VirtualBox shared folder",
	0xbacbacbc:             "a VMware shared folder",
}

func untrusted(dir string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return untrustedTypes[uint32(st.Type)], nil
}
