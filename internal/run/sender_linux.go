package run

import (
	"errors"
	"fmt"
	"os"
	"strconv"
)

// owns tells a process of the command, one below its warden, from others. One that has ended
// counts while it is a zombie: after that, its number does not say whose it was, and the
// number alone, or the user, would let strangers in.
func (j *job) owns(pid int) sender {
	for range 3 {
		if who, sure := below(pid, j.warden); sure {
			return who
		}
	}
	return senderGone
}

// below walks up from a process. It is not sure where a process on the way ends meanwhile,
// as its children get another parent then.
func below(pid, root int) (who sender, sure bool) {
	for at := pid; at > 0; {
		st, err := readStat(at)
		switch {
		case err != nil && at == pid:
			return senderGone, true
		case err != nil:
			return senderGone, false
		case st.parent == root:
			return senderOurs, true
		}
		at = st.parent
	}
	return senderStranger, true
}

// canSeeProcesses returns an error where /proc shows the processes of another pid namespace
// than the one whose numbers this process knows.
func canSeeProcesses() error {
	self, err := os.Readlink("/proc/self")
	if err != nil {
		return fmt.Errorf("--notify needs /proc, to tell who sends: %w", err)
	}
	if self != strconv.Itoa(os.Getpid()) {
		return errors.New("--notify needs the /proc of this pid namespace, to tell who sends: mount it, as with unshare --mount-proc")
	}
	return nil
}
