package reach

import "golang.org/x/sys/unix"

// peerUser is the user of the process at the other end of a Unix socket, as the kernel
// has noted it when that connected or began to listen.
func peerUser(fd int) (uid int, known bool, err error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, false, err
	}
	return int(cred.Uid), true, nil
}
