//go:build darwin || freebsd

package reach

import "golang.org/x/sys/unix"

// solLocal is the level of a Unix socket's options; not all of x/sys names it.
const solLocal = 0

// peerUser is the user of the process at the other end of a Unix socket, as the kernel
// has noted it when that connected or began to listen.
func peerUser(fd int) (uid int, known bool, err error) {
	cred, err := unix.GetsockoptXucred(fd, solLocal, unix.LOCAL_PEERCRED)
	if err != nil {
		return 0, false, err
	}
	return int(cred.Uid), true, nil
}
