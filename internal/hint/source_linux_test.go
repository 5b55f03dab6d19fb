package hint

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inotify refuses to add, here because it was closed.
func TestFailedAdd(t *testing.T) {
	noLeak(t)
	lease := filepath.Join(folderOf(t), "lease")
	must(t, watched.open())
	must(t, watched.source.file.Close())
	stop, err := File(lease, func() {})
	if err == nil {
		t.Error("no error")
	}
	stop()
	l := listenFile(t, lease)
	write(t, lease)
	l.wait(t)
}

// The end of an owner is reported by its alive file, even if the file's name is gone.
// Processes that check it open it for reading: that gives no hint.
func TestAliveClosed(t *testing.T) {
	for name, test := range map[string]struct {
		flag   int
		before func(t *testing.T, alive string)
		want   bool
	}{
		"open for writing": {os.O_RDWR, func(*testing.T, string) {}, true},
		"open for reading": {os.O_RDONLY, func(*testing.T, string) {}, false},
		"removed":          {os.O_RDWR, func(t *testing.T, alive string) { must(t, os.Remove(alive)) }, true},
		"has a second name": {os.O_RDWR, func(t *testing.T, alive string) {
			must(t, os.Link(alive, alive[:len(alive)-len(id+".alive")]+".last"))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			lease := filepath.Join(folderOf(t), "lease")
			temp, alive := lease+id+".tmp", lease+id+".alive"
			write(t, temp)
			f, err := os.OpenFile(temp, test.flag, 0)
			must(t, err)
			defer f.Close()
			must(t, os.Rename(temp, alive)) // as an owner does that puts it back
			test.before(t, alive)
			l, passed := listenFile(t, lease), fence(t, filepath.Dir(lease))
			_, _ = f.WriteAt([]byte("y"), 0)
			passed()
			if len(l.hints) > 0 {
				t.Error("a hint before the end")
			}
			must(t, f.Close())
			if test.want {
				l.wait(t)
			}
			passed()
			if len(l.hints) > 0 {
				t.Error("a hint too many")
			}
		})
	}
}

// A killed process closes its files: no pid is needed to get a hint of its end.
func TestKilledProcessClosesAliveFile(t *testing.T) {
	noLeak(t)
	lease := filepath.Join(folderOf(t), "lease")
	alive, err := os.Create(lease + id + ".alive")
	must(t, err)
	c := child(t, alive)
	must(t, alive.Close())
	l, passed := listenFile(t, lease), fence(t, filepath.Dir(lease))
	passed()
	if len(l.hints) > 0 {
		t.Fatal("a hint while the child has it open")
	}
	must(t, c.Process.Kill())
	l.wait(t)
}

// What is written in place must not even be read: heartbeats, a log beside the lease.
func TestWritesAreNotRead(t *testing.T) {
	noLeak(t)
	dir := folderOf(t)
	lease := filepath.Join(dir, "lease")
	listenFile(t, lease)
	var files []*os.File
	for _, name := range []string{lease, lease + id + ".alive", lease + ".lock", filepath.Join(dir, "log")} {
		f, err := os.Create(name)
		must(t, err)
		defer f.Close()
		files = append(files, f)
	}
	letGo := hold(t, dir) // no event is read meanwhile
	defer letGo()
	before := unread(t)
	for range 1000 {
		for _, f := range files {
			_, err := f.WriteAt([]byte("x"), 0)
			must(t, err)
		}
	}
	if n := unread(t) - before; n != 0 {
		t.Errorf("%d bytes of events are to be read", n)
	}
	must(t, os.Remove(lease))
	if unread(t) == before {
		t.Error("nothing is to be read of a removal either: this test shows nothing")
	}
}

// unread returns how many bytes of events wait to be read (FIONREAD, as ioctl(2) says).
func unread(t *testing.T) (n int) {
	t.Helper()
	watched.using.Lock()
	defer watched.using.Unlock()
	n, err := watched.source.control("ioctl", func(fd int) (int, error) { return unix.IoctlGetInt(fd, unix.TIOCINQ) })
	must(t, err)
	return n
}

// Events that concern none of the subscribers cost no memory, and next to no time.
func TestEventsOfOthers(t *testing.T) {
	noLeak(t)
	dir := folderOf(t)
	l := listenFile(t, filepath.Join(dir, "lease"))
	s, f := watched.source, watched.folders[dir]
	var events []byte
	for _, name := range []string{"log", "other", "other.lock", "other" + id + ".alive", "other.last", "lease.lock", "lease" + id + ".tmp"} {
		for _, mask := range []uint32{unix.IN_CREATE, unix.IN_DELETE, unix.IN_MOVED_FROM, unix.IN_MOVED_TO, unix.IN_CLOSE_WRITE, unix.IN_ATTRIB} {
			events = append(events, event(f.mark.wd, mask, name)...)
		}
	}
	start := time.Now()
	const runs = 1000
	if n := testing.AllocsPerRun(runs, func() { s.deliver(events) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	t.Logf("%v for each event", time.Since(start)/runs/42)
	if len(l.hints) > 0 {
		t.Error("a hint")
	}
	s.deliver(append(events, event(f.mark.wd, unix.IN_CLOSE_WRITE, "lease"+id+".alive")...))
	if len(l.hints) != 1 {
		t.Errorf("%d hints of an alive file behind the others, not one", len(l.hints))
	}
}

// event is laid out as in inotify(7).
func event(wd int32, mask uint32, name string) []byte {
	b := make([]byte, unix.SizeofInotifyEvent+(len(name)/16+1)*16)
	binary.NativeEndian.PutUint32(b, uint32(wd))
	binary.NativeEndian.PutUint32(b[4:], mask)
	binary.NativeEndian.PutUint32(b[12:], uint32(len(b)-unix.SizeofInotifyEvent))
	copy(b[unix.SizeofInotifyEvent:], name)
	return b
}

// A folder that was moved is the same for inotify under its new path. Subscribers of
// either path get hints, and the end of the one's watch is not the other's.
func TestSameFolderUnderAnotherPath(t *testing.T) {
	noLeak(t)
	top := filepath.Join(folderOf(t), "top")
	lease, moved := filepath.Join(top, "dir", "lease"), filepath.Join(top+".moved", "dir", "lease")
	must(t, os.MkdirAll(filepath.Dir(lease), 0o700))
	old := listenFile(t, lease)
	must(t, os.Rename(top, top+".moved"))
	l := listenFile(t, moved)
	write(t, moved)
	l.wait(t)
	passed := fence(t, filepath.Dir(moved))
	must(t, os.MkdirAll(filepath.Dir(lease), 0o700))
	again := listenFile(t, lease)
	old.drain()
	write(t, lease)
	again.wait(t)
	old.wait(t)
	passed()
	l.drain()
	must(t, os.Remove(moved))
	l.wait(t)
	watched.mu.Lock()
	defer watched.mu.Unlock()
	if n := len(watched.source.folders); n != 2 {
		t.Errorf("%d folders are watched", n)
	}
}

// A folder that was moved away and back has never ceased to be watched.
func TestFolderMovedAndBack(t *testing.T) {
	noLeak(t)
	dir := filepath.Join(folderOf(t), "dir")
	must(t, os.Mkdir(dir, 0o700))
	l := listenFile(t, filepath.Join(dir, "lease"))
	must(t, os.Rename(dir, dir+".old"))
	l.wait(t)
	must(t, os.Rename(dir+".old", dir))
	fence(t, dir)()
	l.drain()
	write(t, filepath.Join(dir, "lease"))
	l.wait(t)
}

// The new folder has the old one's inode number, as on ext4, or another.
func TestOldSubscribersHearOfNewFolder(t *testing.T) {
	noLeak(t)
	dir := filepath.Join(folderOf(t), "dir")
	must(t, os.Mkdir(dir, 0o700))
	old := listenFile(t, filepath.Join(dir, "lease"))
	for range 200 {
		old.drain()
		must(t, os.Remove(dir))
		must(t, os.Mkdir(dir, 0o700))
		listenFile(t, filepath.Join(dir, "lease")).stop()
		old.wait(t)
	}
}

// A path that has become a file since it was checked is not watched.
func TestFolderIsAFile(t *testing.T) {
	noLeak(t)
	file := filepath.Join(folderOf(t), "file")
	write(t, file)
	listenFile(t, file)
	if err := watched.source.add(&folder{dir: file}); !errors.Is(err, unix.ENOTDIR) {
		t.Error(err)
	}
}
