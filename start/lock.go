package start

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/disk"
	"github.com/ownerlease/owner/internal/hint"
	"github.com/ownerlease/owner/internal/leasename"
	"github.com/ownerlease/owner/internal/proc"
)

// A lockFile makes starters take turns. It begins with a mark, as the lease's other files
// do, and then has a note of the start that is under way. Its first byte cannot be read
// on Windows while it is locked.
type lockFile struct {
	path  string
	lease string // the lease that it is beside of, "" for none
}

const (
	lockMark = "#owner-lease/1 start\n"
	lockSize = 512
)

// A turn is the lock, while it is held. It is this process's only: no child inherits its
// descriptor, and it is free when this process has ended.
type turn struct {
	path string
	lock disk.Lock
}

// take returns nil if another has the turn.
func (l lockFile) take() (*turn, error) {
	for range 10 {
		t, again, err := l.try()
		if err != nil {
			return nil, l.explain(err)
		}
		if !again {
			return t, nil
		}
	}
	return nil, fmt.Errorf("start: the lock %s keeps being replaced", l.path)
}

func (l lockFile) explain(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("start: the lock that makes starters take turns: %w (a user who may start an owner must be able to read and write it)", err)
	}
	return fmt.Errorf("start: the lock that makes starters take turns: %w", err)
}

// try looks at the file before it locks it: another program's is not to be locked. The
// file may have been removed or replaced in between.
func (l lockFile) try() (t *turn, again bool, err error) {
	switch err := l.check(); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, true, l.make()
	case err != nil:
		return nil, false, err
	}
	lock, err := disk.OS.Lock(l.path, os.O_RDWR)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, true, nil
	case err != nil || lock == nil:
		return nil, false, err
	}
	if same, err := lock.At(l.path); err != nil || !same {
		_ = lock.Unlock()
		return nil, err == nil, err
	}
	l.share()
	return &turn{l.path, lock}, false, nil
}

// check returns an error if there is no file, or one that is not a lock of starters. An
// blank one, which a power loss can leave, is if the lease's guard is beside it or if it
// was named explicitly.
func (l lockFile) check() error {
	first, rest, err := read(l.path)
	switch {
	case err != nil:
		return err
	case isMark(rest, lockMark):
		return nil
	case isBlank(rest) && len(rest) < lockSize && (first == 0 || first == lockMark[0]):
		if l.lease == "" || l.path != leasename.Start(l.lease) {
			return nil
		}
		if _, guard, err := read(leasename.Guard(l.lease)); err == nil && (isBlank(guard) || isMark(guard, leasename.GuardMark)) {
			return nil
		}
	}
	return fmt.Errorf("%w: %s is not a lock of this package, and is left as it is: remove it if it may go, or give another Lock", owner.ErrInvalidConfig, l.path)
}

// read returns the beginning of a file, one byte more of it than a lock has, and its first
// byte, 0 where that cannot be read.
func read(path string) (first byte, rest []byte, err error) {
	f, err := disk.OS.Open(path, os.O_RDONLY)
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	rest = make([]byte, lockSize)
	n, err := f.ReadAt(rest, 1)
	if err != nil && err != io.EOF {
		return 0, nil, err
	}
	var b [1]byte
	_, _ = f.ReadAt(b[:], 0)
	return b[0], rest[:n], nil
}

func isMark(rest []byte, mark string) bool { return strings.HasPrefix(string(rest), mark[1:]) }
func isBlank(rest []byte) bool             { return len(bytes.Trim(rest, "\x00")) == 0 }

// make makes the file with its mark in one step, a link: a process that is killed half
// way leaves no file that the next one would refuse.
func (l lockFile) make() error {
	temp := leasename.Temp(l.path, uuid.NewString())
	f, err := disk.OS.Open(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(encodeNote(note{}), 0)
	if err = errors.Join(err, f.Close()); err == nil {
		err = disk.OS.Link(temp, l.path)
	}
	switch {
	case err == nil, errors.Is(err, fs.ErrExist): // another was quicker
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, fs.ErrPermission): // a file system without links
		return disk.OS.Replace(temp, l.path)
	}
	_ = disk.OS.Remove(temp)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// share gives the file the access of the lease's guard: who may take part in the lease may
// start its owner. Only its own user and root can do that.
func (l lockFile) share() {
	if l.lease == "" {
		return
	}
	guard, err := disk.OS.Access(leasename.Guard(l.lease))
	if err != nil {
		return
	}
	is, err := disk.OS.Access(l.path)
	if err != nil || is == guard {
		return
	}
	if f, err := disk.OS.Open(l.path, os.O_RDONLY); err == nil {
		_ = f.Allow(guard, 1)
		_ = f.Close()
	}
}

func (t *turn) free() { _ = t.lock.Unlock() }

// A note says which start is under way, for the starter whose turn it is if the one
// before was killed.
type note struct {
	PID       int           `json:"pid"`
	Started   string        `json:"started,omitempty"` // see started
	Namespace string        `json:"pid_namespace,omitempty"`
	At        time.Time     `json:"at"`
	Timeout   time.Duration `json:"timeout_ns"`
}

func namespace() string { return hint.PIDNamespace() }

// underWay reports whether the process may still become an owner: it is given the time that
// its starter gave it.
func (n *note) underWay() bool {
	if n == nil || n.PID <= 0 || n.Namespace != namespace() || hint.PIDNamespaces && n.Namespace == "" {
		return false
	}
	age := time.Since(n.At)
	return 0 <= age && age < n.Timeout && n.runs()
}

// runs reports whether the process has not ended. A zombie has: one stays where process 1
// waits for no children, as in many containers. And its pid may be another's by now.
func (n *note) runs() bool {
	now, err := started(n.PID)
	switch {
	case errors.Is(err, os.ErrProcessDone):
		return false
	case err != nil: // the pid is all there is
		return exists(n.PID)
	}
	return n.Started == "" || n.Started == now
}

// started says when a process was started, to be compared with the same of later.
func started(pid int) (string, error) {
	p, err := proc.Open(pid)
	if err != nil {
		return "", err
	}
	defer p.Close()
	return p.Started()
}

// encodeNote returns the file's content, which always has the same size.
func encodeNote(n note) []byte {
	b, err := json.Marshal(n)
	if err != nil || n.PID == 0 || len(lockMark)+len(b) >= lockSize {
		b = nil
	}
	return fmt.Appendf(nil, "%s%-*s\n", lockMark, lockSize-len(lockMark)-1, b)
}

// write replaces the note, from the second byte on. If it fails, as on a full disk, a
// starter may start a process while another is on its way, which does no harm.
func (t *turn) write(n note) {
	f, err := disk.OS.Open(t.path, os.O_RDWR)
	if err != nil {
		return
	}
	defer f.Close()
	if t.lock.Is(f) {
		_, _ = f.WriteAt(encodeNote(n)[1:], 1)
	}
}

// read returns nil where no start is noted.
func (t *turn) read() *note {
	f, err := disk.OS.Open(t.path, os.O_RDONLY)
	if err != nil {
		return nil
	}
	defer f.Close()
	b := make([]byte, lockSize)
	k, _ := f.ReadAt(b, 1)
	text, marked := strings.CutPrefix(string(b[:k]), lockMark[1:])
	n := new(note)
	if !t.lock.Is(f) || !marked || json.Unmarshal([]byte(text), n) != nil || n.PID <= 0 {
		return nil
	}
	return n
}
