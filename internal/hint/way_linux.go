package hint

import (
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// A lease's path can come to lead to another folder without an event in the folder
// itself: a folder above it is renamed, a link on the way is replaced, a file system is
// mounted over any of them, or unmounted. Its subscribers get hints of these, too: an
// owner then renews, and finds that the record at its path is not its own.

// turned are the events that inotify is asked for on a step of the way: not those in it,
// as such a folder is often a busy one. A link is replaced by another that is renamed
// over it, which removes one name of the old one (IN_ATTRIB).
const turned = unix.IN_MOVE_SELF | unix.IN_DELETE_SELF | unix.IN_ATTRIB

// maxSteps bounds a way of links that lead in a circle.
const maxSteps = 100

// stepsTo returns the folders and links on the way to a folder, without the root.
func stepsTo(dir string) (steps []string) {
	for ways := []string{filepath.Clean(dir)}; len(ways) > 0 && len(steps) < maxSteps; ways = ways[1:] {
		for step := ways[0]; step != filepath.Dir(step) && !slices.Contains(steps, step); step = filepath.Dir(step) {
			steps = append(steps, step)
			target, err := os.Readlink(step)
			if err != nil {
				continue
			}
			if !filepath.IsAbs(target) {
				target = filepath.Join(filepath.Dir(step), target)
			}
			ways = append(ways, target)
		}
	}
	return steps
}

// follow watches the way to a folder. What cannot be watched, as a folder that this
// user may not read, is left out. w.using is held.
func (s *source) follow(f *folder, way string) {
	if slices.Contains(f.mark.ways, way) {
		return
	}
	steps := stepsTo(way)
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	f.mark.ways = append(f.mark.ways, way)
	for _, step := range steps {
		wd, err := s.control("inotify_add_watch", func(fd int) (int, error) {
			return unix.InotifyAddWatch(fd, step, turned|unix.IN_MASK_ADD|unix.IN_DONT_FOLLOW)
		})
		if err != nil || slices.Contains(f.mark.steps, int32(wd)) {
			continue
		}
		f.mark.steps = append(f.mark.steps, int32(wd))
		if s.below[int32(wd)] == nil {
			s.below[int32(wd)] = map[*folder]struct{}{}
		}
		s.below[int32(wd)][f] = struct{}{}
	}
}

// forsake ends the watches of the way to a folder that no other folder needs. w.mu is
// held.
func (s *source) forsake(f *folder) {
	for _, wd := range f.mark.steps {
		delete(s.below[wd], f)
		if len(s.below[wd]) == 0 {
			delete(s.below, wd)
			s.unwatch(wd)
		}
	}
	f.mark.ways, f.mark.steps = nil, nil
}

// stepTurned gives a hint to all whose way led over a step. w.mu is held.
func (s *source) stepTurned(wd int32) {
	for f := range s.below[wd] {
		f.tell()
	}
}

// A mountTable is the kernel's, with the goroutine that waits for its changes.
type mountTable struct {
	file *os.File
	sum  uint64 // of what it said last
	done chan struct{}
}

// mountInfo is a variable for the tests: other tests mount disks meanwhile.
var mountInfo = "/proc/self/mountinfo"

// watchMounts gives all a hint at each change of the mounts: Go's poller then reports the
// file. Where there is no /proc, they get none.
func (s *source) watchMounts() *mountTable {
	fd, err := unix.Open(mountInfo, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	m := &mountTable{file: os.NewFile(uintptr(fd), "mountinfo"), done: make(chan struct{})}
	m.differs(uintptr(fd))
	conn, err := m.file.SyscallConn()
	if err != nil {
		_ = m.file.Close()
		return nil
	}
	go func() {
		defer close(m.done)
		for conn.Read(m.differs) == nil { // until it is closed
			s.tellAll()
		}
	}()
	return m
}

// differs reports whether the table has changed since the last time. The poller reports
// the file also without a change; and it may have reported a change before it is asked to
// wait for one.
func (m *mountTable) differs(fd uintptr) bool {
	h := fnv.New64a()
	var buf [4096]byte
	for at := int64(0); ; {
		n, err := unix.Pread(int(fd), buf[:], at)
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			break
		}
		_, _ = h.Write(buf[:n])
		at += int64(n)
	}
	before := m.sum
	m.sum = h.Sum64()
	return m.sum != before
}

func (m *mountTable) close() {
	if m != nil && m.file.Close() == nil {
		<-m.done
	}
}

func (s *source) tellAll() {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.w.source != s {
		return
	}
	for _, f := range s.w.folders {
		f.tell()
	}
}
