package hint

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// interest is the mask for a folder: the events that inotify reports.
//
// IN_CLOSE_WRITE of an alive file reports its owner's end: the kernel closes a dead
// process's descriptors, whatever pid namespace it was in. The event comes a moment
// before the lock on the file is freed, so a subscriber has to read more than once (as
// those of the root package do, after 1 ms, 2 ms, and so on: see pacing there).
//
// IN_MODIFY is left out. Heartbeats, and other writes in the folder, then cost a
// subscriber nothing: the kernel makes no event for them. IN_EXCL_UNLINK is left out too,
// so that the end of an owner is reported whose alive file was removed before.
//
// That the folder is removed, or its file system unmounted, need not be asked for: the
// watch ends then, and the kernel always reports that (IN_IGNORED).
const interest = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
	unix.IN_CLOSE_WRITE | unix.IN_ATTRIB | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// A source is one inotify instance with the goroutine that reads from it, which waits
// in Go's poller.
type source struct {
	w      *watch
	file   *os.File
	conn   syscall.RawConn
	mounts *mountTable   // nil where the kernel does not report mounts
	done   chan struct{} // closed when the reader has ended

	// By inotify's number of the watch; w.mu guards them.
	folders map[int32][]*folder
	below   map[int32]map[*folder]struct{} // those whose way leads over a step
}

// A mark is what the source keeps for a folder; w.mu guards it. inotify does not use a
// number twice.
type mark struct {
	wd    int32    // of the folder's last watch, 0 if there was none
	asked want     // the events that inotify is asked for
	ways  []string // the paths by which its subscribers know it
	steps []int32  // the watches on these
}

func openSource(w *watch) (*source, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	file := os.NewFile(uintptr(fd), "inotify")
	conn, err := file.SyscallConn()
	if err == nil {
		err = file.SetReadDeadline(time.Time{}) // an error if Go's poller has not taken it
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("waiting for inotify: %w", err)
	}
	s := &source{w: w, file: file, conn: conn, folders: map[int32][]*folder{}, below: map[int32]map[*folder]struct{}{}, done: make(chan struct{})}
	s.mounts = s.watchMounts()
	go s.read()
	return s, nil
}

// add asks inotify each time: a new folder can have the inode number of the one that
// was removed a moment ago. A folder that is watched keeps its number.
//
// w.mu is held meanwhile, so that no event is delivered before its folder is known.
func (s *source) add(f *folder) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	wd, err := s.control("inotify_add_watch", func(fd int) (int, error) {
		return unix.InotifyAddWatch(fd, f.dir, interest)
	})
	if err != nil {
		return err
	}
	f.mark.asked = everything
	if int32(wd) == f.mark.wd {
		return nil
	}
	if f.mark.wd != 0 {
		s.drop(f)
		f.tell() // of what has come in its place
	}
	f.mark.wd = int32(wd)
	s.folders[f.mark.wd] = append(s.folders[f.mark.wd], f)
	return nil
}

// asked is the interest in a folder by what its subscribers want.
var asked = [...]uint32{
	nothingMore: turned | unix.IN_ONLYDIR,
	newRecords:  turned | unix.IN_ONLYDIR | unix.IN_MOVED_TO,
	everything:  interest,
}

// adjust asks for fewer events of a folder whose subscribers want fewer: each event would
// wake the process anyway. The next subscriber's add asks for all again, and that one
// reads after it has subscribed. w.mu is held.
func (s *source) adjust(f *folder) {
	want := f.wants()
	if want >= f.mark.asked || len(s.folders[f.mark.wd]) != 1 {
		return
	}
	wd, err := s.control("inotify_add_watch", func(fd int) (int, error) {
		return unix.InotifyAddWatch(fd, f.dir, asked[want])
	})
	switch {
	case err != nil:
	case int32(wd) == f.mark.wd:
		f.mark.asked = want
	default: // of another folder, which has come to be there
		s.unwatch(int32(wd))
	}
}

// remove ends the watch of a folder.
func (s *source) remove(f *folder) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if f.mark.wd != 0 {
		s.drop(f)
	}
	s.forsake(f)
}

// drop ends the watch, unless another folder has the same: the same inode, known under
// another path since it was moved there. w.mu is held.
func (s *source) drop(f *folder) {
	wd := f.mark.wd
	f.mark.wd = 0
	s.folders[wd] = slices.DeleteFunc(s.folders[wd], func(g *folder) bool { return g == f })
	if len(s.folders[wd]) > 0 {
		return
	}
	delete(s.folders, wd)
	s.unwatch(wd)
}

// unwatch ends a watch that is of no more use, neither as a folder's nor as a step's.
func (s *source) unwatch(wd int32) {
	if len(s.folders[wd]) > 0 || len(s.below[wd]) > 0 {
		return
	}
	_, _ = s.control("inotify_rm_watch", func(fd int) (int, error) { // an error: the watch has ended already
		return unix.InotifyRmWatch(fd, uint32(wd))
	})
}

// control makes a system call on a descriptor that cannot be closed meanwhile.
func (s *source) control(name string, call func(fd int) (int, error)) (n int, err error) {
	if cerr := s.conn.Control(func(fd uintptr) { n, err = call(int(fd)) }); cerr != nil {
		return 0, cerr
	}
	return n, os.NewSyscallError(name, err)
}

// close returns when the source has ended.
func (s *source) close() {
	if s.file.Close() == nil {
		<-s.done
	}
}

// read ends when the file is closed. It has room for hundreds of events: many come at
// once where many leases change.
func (s *source) read() {
	defer close(s.done)
	defer s.mounts.close()
	buf := make([]byte, 16<<10)
	for {
		n, err := s.file.Read(buf)
		if err != nil {
			return
		}
		s.deliver(buf[:n])
	}
}

// deliver takes the events of one read. A file's name follows the event's head, and is
// padded with zeros.
func (s *source) deliver(events []byte) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.w.source != s { // its last subscriber has just gone
		return
	}
	for len(events) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(events))
		mask := binary.NativeEndian.Uint32(events[4:])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(events[12:]))
		name, _, _ := bytes.Cut(events[unix.SizeofInotifyEvent:end], []byte{0})
		s.happened(wd, mask, name)
		events = events[end:]
	}
}

// happened ignores a number that it does not know: of a watch that was dropped a
// moment ago.
func (s *source) happened(wd int32, mask uint32, name []byte) {
	if mask&unix.IN_Q_OVERFLOW != 0 { // events were lost, of any folder
		for _, f := range s.w.folders {
			f.tell()
		}
		return
	}
	for _, f := range s.folders[wd] {
		if mask&(unix.IN_MOVE_SELF|unix.IN_IGNORED) != 0 { // moved away; or the watch has ended
			f.tell()
		} else if len(name) > 0 {
			f.happened(name, changeOf(mask))
		}
		s.adjust(f)
	}
	if len(name) == 0 && mask&(turned|unix.IN_IGNORED) != 0 {
		s.stepTurned(wd)
	}
}

func changeOf(mask uint32) (c change) {
	if mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0 {
		c |= appeared
	}
	if mask&(unix.IN_DELETE|unix.IN_MOVED_FROM) != 0 {
		c |= vanished
	}
	if mask&unix.IN_CLOSE_WRITE != 0 {
		c |= written
	}
	if mask&unix.IN_ATTRIB != 0 {
		c |= touched
	}
	return c
}
