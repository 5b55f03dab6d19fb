package disk

import "io/fs"

// An Access is a file's or folder's owner and permissions.
type Access struct {
	// Perm has the permission bits, and the sticky bit of a folder.
	Perm fs.FileMode
	// UID and GID are the user and the group, -1 where the system knows none. To
	// Allow, -1 leaves them as they are.
	UID, GID int
}

// Plain is the access of a file as Open and Lock make it.
var Plain = Access{Perm: perm, UID: -1, GID: -1}
