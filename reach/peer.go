package reach

import (
	"errors"
	"fmt"
	"net"
	"os"
)

var errForeign = errors.New("reach: another user's process is at the other end of the socket")

// checkPeer returns an error if the other end of a Unix socket belongs to another user.
// Other connections pass.
func checkPeer(c net.Conn) error {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return err
	}
	uid, known, failed := 0, false, error(nil)
	if err := raw.Control(func(fd uintptr) { uid, known, failed = peerUser(int(fd)) }); err != nil {
		return err
	}
	switch {
	case failed != nil:
		return fmt.Errorf("reach: the user at the other end of the socket cannot be told: %w", failed)
	case known && uid != os.Geteuid():
		return fmt.Errorf("%w: user %d, and this is %d", errForeign, uid, os.Geteuid())
	}
	return nil
}
