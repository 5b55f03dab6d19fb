package hint

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// hold blocks the delivery of hints until it is released.
func hold(t *testing.T, dir string) (letGo func()) {
	t.Helper()
	held, free := make(chan struct{}), make(chan struct{})
	first := true
	path := filepath.Join(dir, "held")
	stop, err := File(path, func() {
		if first {
			first = false
			close(held)
			<-free
		}
	})
	must(t, err)
	write(t, path)
	<-held
	return func() {
		close(free)
		stop()
	}
}

func TestOverflow(t *testing.T) {
	noLeak(t)
	b, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	must(t, err)
	size, err := strconv.Atoi(strings.TrimSpace(string(b)))
	must(t, err)
	if size > 50_000 {
		t.Skip("a long queue")
	}
	busy := folderOf(t)
	l := listenFile(t, filepath.Join(folderOf(t), "lease")) // where nothing happens
	letGo := hold(t, busy)
	for range size/2 + 1000 { // some have been read
		write(t, filepath.Join(busy, "a"))
		must(t, os.Remove(filepath.Join(busy, "a")))
	}
	letGo()
	l.wait(t)
}

// While a folder is renamed and removed, and hints are slow, others subscribe.
func TestSubscribeWhileFolderGoes(t *testing.T) {
	noLeak(t)
	for range 20 {
		subscribeWhileFolderGoes(t)
	}
}

func subscribeWhileFolderGoes(t *testing.T) {
	busy, dir := folderOf(t), filepath.Join(folderOf(t), "dir")
	must(t, os.Mkdir(dir, 0o700))
	l := listenFile(t, filepath.Join(dir, "lease"))
	letGo := hold(t, busy)
	write(t, filepath.Join(busy, "b"))
	must(t, os.Rename(dir, dir+".old"))
	must(t, os.Remove(dir+".old"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			stop, err := File(filepath.Join(busy, "lease"), func() {})
			if err != nil {
				t.Error(err)
			}
			defer stop()
		}
	}()
	letGo()
	l.wait(t)
	<-done
}

func TestBindMount(t *testing.T) {
	noLeak(t)
	dir, mount := folderOf(t), folderOf(t)
	if err := unix.Mount(dir, mount, "", unix.MS_BIND, ""); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(mount, unix.MNT_DETACH) })
	bothHear(t, dir, mount)
}

// The watch of a folder that is no longer at its path would never end.
func TestNoWatchLeft(t *testing.T) {
	noLeak(t)
	top := filepath.Join(folderOf(t), "top")
	lease := filepath.Join(top, "dir", "lease")
	first := 0
	for i := range 5 {
		must(t, os.MkdirAll(filepath.Dir(lease), 0o700))
		listenFile(t, lease)
		if i == 0 {
			first = watches(t)
		}
		must(t, os.Rename(top, top+strconv.Itoa(i)))
	}
	if n := watches(t); n != first {
		t.Errorf("%d watches, %d at first", n, first)
	}
}

func watches(t *testing.T) (n int) {
	t.Helper()
	all, err := filepath.Glob("/proc/self/fdinfo/*")
	must(t, err)
	for _, name := range all {
		b, err := os.ReadFile(name)
		if err == nil {
			n += strings.Count(string(b), "inotify wd:")
		}
	}
	return n
}

func TestUnmounted(t *testing.T) {
	noLeak(t)
	dir := folderOf(t)
	lease := filepath.Join(dir, "lease")
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	old := listenFile(t, lease)
	must(t, unix.Unmount(dir, 0))
	old.wait(t)
	l := listenFile(t, lease)
	write(t, lease)
	l.wait(t)
	old.wait(t)
}

func TestNoDescriptorsLeft(t *testing.T) {
	dir, c := folderOf(t), child(t)
	use := func() {
		f, p := listenFile(t, filepath.Join(dir, "lease")), listenProcess(t, c.Process.Pid)
		f.stop()
		p.stop()
	}
	use() // opens Go's poller
	before := descriptors(t)
	for range 10 {
		use()
	}
	l := listenProcess(t, c.Process.Pid)
	must(t, c.Process.Kill())
	l.wait(t)
	l.stop()
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors, before %d", after, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(all)
}

func TestNoDescriptorsToBeHad(t *testing.T) {
	noLeak(t)
	dir, c := folderOf(t), child(t)
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}))
	stopF, errF := File(filepath.Join(dir, "lease"), func() {})
	stopP, errP := Process(c.Process.Pid, func() {})
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	stopF()
	stopP()
	if !errors.Is(errF, unix.EMFILE) || !strings.Contains(errF.Error(), "fs.inotify.max_user_instances") {
		t.Error(errF)
	}
	if !errors.Is(errP, unix.EMFILE) || !strings.Contains(errP.Error(), "ulimit -n") {
		t.Error(errP)
	}
	l := listenFile(t, filepath.Join(dir, "lease"))
	write(t, filepath.Join(dir, "lease"))
	l.wait(t)
}

func TestAdvise(t *testing.T) {
	err := advise(&os.SyscallError{Syscall: "inotify_add_watch", Err: unix.ENOSPC})
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "fs.inotify.max_user_watches") {
		t.Error(err)
	}
	err = adviseProcess(&os.SyscallError{Syscall: "pidfd_open", Err: unix.EPERM})
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "seccomp") || !strings.Contains(err.Error(), "Linux 5.3") {
		t.Error(err)
	}
	if advise(os.ErrPermission) != os.ErrPermission || adviseProcess(os.ErrClosed) != os.ErrClosed {
		t.Error("advice on what needs none")
	}
}

// A record may name what here is a thread.
func TestProcessIsThread(t *testing.T) {
	tasks, err := os.ReadDir("/proc/self/task")
	must(t, err)
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		must(t, err)
		if tid != os.Getpid() {
			listenProcess(t, tid).stop()
		}
	}
}
