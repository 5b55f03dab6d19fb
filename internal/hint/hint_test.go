package hint

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const childEnv = "HINT_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		fmt.Println("up")
		_, _ = os.Stdin.Read(make([]byte, 1)) // ends with the parent, if not before
		return
	}
	goleak.VerifyTestMain(m)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// noLeak is for the beginning of a test: it checks after all other cleanups.
func noLeak(t *testing.T) { t.Cleanup(func() { goleak.VerifyNone(t) }) }

// A listener collects hints without blocking.
type listener struct {
	hints chan struct{}
	stop  func()
}

func listen(t testing.TB, subscribe func(hint func()) (func(), error)) *listener {
	t.Helper()
	l := &listener{hints: make(chan struct{}, 100)}
	stop, err := subscribe(func() {
		select {
		case l.hints <- struct{}{}:
		default:
		}
	})
	must(t, err)
	l.stop = stop
	t.Cleanup(stop)
	return l
}

func listenFile(t testing.TB, path string) *listener {
	t.Helper()
	return listen(t, func(hint func()) (func(), error) { return File(path, hint) })
}

func listenProcess(t testing.TB, pid int) *listener {
	t.Helper()
	return listen(t, func(hint func()) (func(), error) { return Process(pid, hint) })
}

func (l *listener) wait(t testing.TB) {
	t.Helper()
	select {
	case <-l.hints:
	case <-time.After(20 * time.Second):
		t.Fatal("no hint")
	}
}

func (l *listener) drain() {
	for len(l.hints) > 0 {
		<-l.hints
	}
}

// fence returns a function that waits for all earlier events of the folder.
func fence(t testing.TB, dir string) func() {
	path := filepath.Join(dir, "fence")
	l := listenFile(t, path)
	return func() {
		t.Helper()
		write(t, path)
		l.wait(t)
		must(t, os.Remove(path))
		l.wait(t)
		l.drain()
	}
}

func write(t testing.TB, path string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte("x"), 0o600))
}

func folderOf(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	return dir
}

const id = ".01234567-89ab-cdef-0123-456789abcdef"

func TestFile(t *testing.T) {
	tests := []struct {
		name   string
		before func(t testing.TB, lease string)
		do     func(t testing.TB, lease string)
		want   bool
	}{
		{"created", nil, write, true},
		{"removed", write, func(t testing.TB, l string) { must(t, os.Remove(l)) }, true},
		{"renamed away", write, func(t testing.TB, l string) { must(t, os.Rename(l, l+".old")) }, true},
		{"replaced", func(t testing.TB, l string) { write(t, l); write(t, l+id+".tmp") },
			func(t testing.TB, l string) { must(t, os.Rename(l+id+".tmp", l)) }, true},
		{"written in place", write, func(t testing.TB, l string) {
			f, err := os.OpenFile(l, os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteAt([]byte("yy"), 0)
			must(t, err)
			must(t, f.Close())
		}, false},
		{"chmod", write, func(t testing.TB, l string) { must(t, os.Chmod(l, 0o644)) }, false},
		{"alive created", nil, func(t testing.TB, l string) {
			f, err := os.Create(l + id + ".alive")
			must(t, err)
			t.Cleanup(func() { must(t, f.Close()) })
		}, false},
		{"alive written", func(t testing.TB, l string) { write(t, l+id+".alive") },
			func(t testing.TB, l string) { write(t, l+id+".alive") }, true},
		{"alive removed", func(t testing.TB, l string) { write(t, l+id+".alive") },
			func(t testing.TB, l string) { must(t, os.Remove(l+id+".alive")) }, true},
		{"alive renamed", func(t testing.TB, l string) { write(t, l+id+".alive") },
			func(t testing.TB, l string) { must(t, os.Rename(l+id+".alive", l+".was")) }, true},
		{"second name made", func(t testing.TB, l string) { write(t, l+id+".alive") },
			func(t testing.TB, l string) { must(t, os.Link(l+id+".alive", l+".last")) }, false},
		{"second name removed", func(t testing.TB, l string) { write(t, l+".last") },
			func(t testing.TB, l string) { must(t, os.Remove(l+".last")) }, true},
		{"lock", nil, func(t testing.TB, l string) { write(t, l+".lock"); must(t, os.Remove(l+".lock")) }, false},
		{"tmp", nil, func(t testing.TB, l string) { write(t, l+id+".tmp"); must(t, os.Remove(l+id+".tmp")) }, false},
		{"another lease's alive", nil, func(t testing.TB, l string) {
			for _, other := range []string{l + "2" + id, l + "." + id, filepath.Join(filepath.Dir(l), id), l, l + id[:9]} {
				write(t, other+".alive")
				must(t, os.Remove(other+".alive"))
			}
		}, false},
		{"unrelated", nil, func(t testing.TB, l string) { write(t, l+"2"); must(t, os.Remove(l+"2")) }, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			noLeak(t)
			lease := filepath.Join(folderOf(t), "lease")
			if test.before != nil {
				test.before(t, lease)
			}
			l, passed := listenFile(t, lease), fence(t, filepath.Dir(lease))
			test.do(t, lease)
			if test.want {
				l.wait(t)
			}
			passed()
			if !test.want && len(l.hints) > 0 {
				t.Error("a hint")
			}
		})
	}
}

func TestLeaseOfAlive(t *testing.T) {
	for name, want := range map[string]string{
		"a" + id + ".alive":             "a",
		"a.alive" + id + ".alive":       "a.alive",
		id + ".alive":                   "",
		"a" + id:                        "",
		".alive":                        "",
		"a.alive":                       "",
		"a" + id + "0.alive":            "",
		"a" + id[:len(id)-1] + ".alive": "",
		"":                              "",
	} {
		got, ok := leaseOfAlive([]byte(name))
		if string(got) != want || ok != (want != "" || name == id+".alive") {
			t.Errorf("%q: %q, %v, not %q", name, got, ok, want)
		}
	}
}

func TestTwoOfOnePath(t *testing.T) {
	noLeak(t)
	lease := filepath.Join(folderOf(t), "lease")
	a, b := listenFile(t, lease), listenFile(t, lease)
	passed := fence(t, filepath.Dir(lease))
	write(t, lease)
	a.wait(t)
	b.wait(t)
	passed()
	a.stop()
	a.stop() // must not stop b
	a.drain()
	must(t, os.Remove(lease))
	b.wait(t)
	passed()
	if len(a.hints) > 0 {
		t.Error("a hint after stop")
	}
}

func TestStoppedAndAgain(t *testing.T) {
	lease := filepath.Join(folderOf(t), "lease")
	for range 30 {
		l := listenFile(t, lease)
		write(t, lease)
		l.wait(t)
		done := watched.source.done
		l.stop()
		ended(t, done)
		goleak.VerifyNone(t)
		if watched.source != nil || len(watched.folders) > 0 {
			t.Fatal("something is left")
		}
		must(t, os.Remove(lease))
	}
}

// ended is for what goleak would wait for.
func ended(t *testing.T, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	default:
		t.Error("stop has not waited for the goroutine's end")
	}
}

func TestFolderThroughLink(t *testing.T) {
	noLeak(t)
	dir := folderOf(t)
	link := filepath.Join(folderOf(t), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Skip(err)
	}
	bothHear(t, dir, link)
	bothHear(t, link, dir)
}

// bothHear has a lease watched by two names of its folder, the first of which is
// given up first.
func bothHear(t *testing.T, first, second string) {
	t.Helper()
	lease := filepath.Join(first, "lease")
	a, b := listenFile(t, lease), listenFile(t, filepath.Join(second, "lease"))
	write(t, lease)
	a.wait(t)
	b.wait(t)
	a.stop()
	b.drain()
	must(t, os.Remove(lease))
	b.wait(t)
	b.stop()
}

// A folder within another that is watched, too: fsnotify then reports its end only
// through the outer one.
func TestFolderGone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a folder that is renamed, or removed while it is open, gives no event")
	}
	for _, outer := range []bool{false, true} {
		for name, do := range map[string]func(dir string) error{
			"removed": os.Remove,
			"renamed": func(dir string) error { return os.Rename(dir, dir+".old") },
		} {
			t.Run(fmt.Sprint(name, " outer watched ", outer), func(t *testing.T) {
				noLeak(t)
				dir := filepath.Join(folderOf(t), "dir")
				if outer {
					listenFile(t, dir+".lease")
				}
				must(t, os.Mkdir(dir, 0o700))
				old := listenFile(t, filepath.Join(dir, "lease"))
				other := listenFile(t, filepath.Join(dir, "other"))
				must(t, do(dir))
				old.wait(t)
				other.wait(t)
				if _, err := File(filepath.Join(dir, "lease"), func() {}); err == nil {
					t.Fatal("no error where no folder is")
				}

				must(t, os.Mkdir(dir, 0o700))
				l := listenFile(t, filepath.Join(dir, "lease"))
				old.drain()
				write(t, filepath.Join(dir, "lease"))
				l.wait(t)
				old.wait(t) // watched again, too
			})
		}
	}
}

// The new folder exists before any subscriber has noticed the old one's end.
func TestFolderReplacedAtOnce(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a folder that is open keeps its name")
	}
	noLeak(t)
	dir := filepath.Join(folderOf(t), "dir")
	lease := filepath.Join(dir, "lease")
	must(t, os.Mkdir(dir, 0o700))
	old := listenFile(t, lease)
	for range 200 {
		must(t, os.RemoveAll(dir))
		must(t, os.Mkdir(dir, 0o700))
		l := listenFile(t, lease)
		l.drain()
		write(t, lease)
		l.wait(t)
		l.stop()
	}
	old.wait(t)
}

// What is above the folder has been moved: no event says so.
func TestFolderIsAnother(t *testing.T) {
	noLeak(t)
	top := filepath.Join(folderOf(t), "top")
	lease := filepath.Join(top, "dir", "lease")
	must(t, os.MkdirAll(filepath.Dir(lease), 0o700))
	old := listenFile(t, lease)
	must(t, os.Rename(top, top+".old"))
	must(t, os.MkdirAll(filepath.Dir(lease), 0o700))
	l := listenFile(t, lease)
	old.wait(t)
	passed := fence(t, filepath.Dir(lease))
	passed()
	l.drain()
	old.drain()
	write(t, lease)
	l.wait(t)
	old.wait(t)
	l.drain()
	write(t, filepath.Join(top+".old", "dir", "lease"))
	passed()
	if len(l.hints) > 0 && runtime.GOOS != "windows" { // see remove
		t.Error("a hint from the folder that was moved away")
	}
}

func TestNoFolder(t *testing.T) {
	noLeak(t)
	stop, err := File(filepath.Join(t.TempDir(), "none", "lease"), func() {})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "watching the folder") {
		t.Error(err)
	}
	stop()
}

func TestOnlyItsSubscriber(t *testing.T) {
	noLeak(t)
	dir := folderOf(t)
	var calls atomic.Int32
	for i := range 1000 {
		stop, err := File(filepath.Join(dir, fmt.Sprint("lease", i)), func() { calls.Add(1) })
		must(t, err)
		t.Cleanup(stop)
	}
	l := listenFile(t, filepath.Join(dir, "lease500"))
	passed := fence(t, dir)
	write(t, filepath.Join(dir, "lease500"))
	l.wait(t)
	passed()
	if n := calls.Load(); n != 1 {
		t.Errorf("%d of 1000 were called", n)
	}
}

// Everything at once: no call may wait for another for ever, and no hint may come after
// its stop.
func TestStorm(t *testing.T) {
	noLeak(t)
	top := folderOf(t)
	dir := filepath.Join(top, "dir")
	must(t, os.Mkdir(dir, 0o700))
	end := make(chan struct{})
	var storm, users sync.WaitGroup
	storm.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			default:
			}
			_ = os.WriteFile(filepath.Join(dir, "lease"), []byte("x"), 0o600)
			_ = os.WriteFile(filepath.Join(dir, "lease"+id+".alive"), []byte("x"), 0o600)
			_ = os.RemoveAll(filepath.Join(dir, "lease"))
			if i%10 == 0 {
				_ = os.Rename(dir, dir+".old")
				_ = os.RemoveAll(dir + ".old")
				_ = os.Mkdir(dir, 0o700)
			}
		}
	})
	var hinted atomic.Int32
	for i := range 4 {
		users.Go(func() {
			for n := 0; n < 300 || hinted.Load() < 10; n++ {
				var stopped atomic.Bool
				stop, err := File(filepath.Join(dir, "lease"), func() {
					hinted.Add(1)
					if stopped.Load() {
						t.Error("a hint after stop")
					}
				})
				if i == 0 { // the others decide whether any is the last
					for range 100 {
						runtime.Gosched()
					}
				}
				if err == nil {
					go stop()
				}
				stop()
				stopped.Store(true)
			}
		})
	}
	users.Wait()
	close(end)
	storm.Wait()
}

func child(t testing.TB, inherits ...*os.File) *exec.Cmd {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.ExtraFiles = inherits
	c.Env = append(os.Environ(), childEnv+"=1")
	_, err := c.StdinPipe()
	must(t, err)
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	t.Cleanup(func() { _, _ = c.Process.Kill(), c.Wait() })
	_, err = bufio.NewReader(out).ReadString('\n')
	must(t, err)
	return c
}

func TestProcess(t *testing.T) {
	noLeak(t)
	c := child(t)
	a, b := listenProcess(t, c.Process.Pid), listenProcess(t, c.Process.Pid)
	stopped := listenProcess(t, c.Process.Pid)
	stopped.stop()
	stopped.stop()
	must(t, c.Process.Kill())
	a.wait(t)
	b.wait(t)
	if len(running.byPID) > 0 {
		t.Error("still watched")
	}
	goleak.VerifyNone(t) // before any stop
	a.stop()
	a.stop()
	b.stop()
	if len(a.hints)+len(b.hints)+len(stopped.hints) > 0 {
		t.Error("too many hints")
	}

	zombie := listenProcess(t, c.Process.Pid) // on some systems it counts as gone
	zombie.stop()
	_ = c.Wait()
	gone := listenProcess(t, c.Process.Pid)
	goleak.VerifyNone(t)
	gone.stop()
	if len(gone.hints) > 0 && runtime.GOOS != "windows" { // it may be there for a while
		t.Error("a hint for a process that there is not")
	}
}

func TestProcessStoppedBefore(t *testing.T) {
	noLeak(t)
	c := child(t)
	for range 3 {
		a, b := listenProcess(t, c.Process.Pid), listenProcess(t, c.Process.Pid)
		done := running.byPID[c.Process.Pid].done
		a.stop()
		a.stop()
		b.stop()
		b.stop()
		ended(t, done)
		goleak.VerifyNone(t)
	}
	if len(running.byPID) > 0 {
		t.Error("something is left")
	}
	l := listenProcess(t, c.Process.Pid)
	must(t, c.Process.Kill())
	l.wait(t)
}

func TestProcessNotWatched(t *testing.T) {
	for _, pid := range []int{os.Getpid(), 0, -1} {
		l := listenProcess(t, pid)
		if len(running.byPID) > 0 {
			t.Errorf("%d is watched", pid)
		}
		l.stop()
	}
}

func TestProcessEndsWhileStopped(t *testing.T) {
	noLeak(t)
	for range 20 {
		c := child(t)
		var all sync.WaitGroup
		all.Go(func() { _ = c.Process.Kill() })
		for range 4 {
			all.Go(func() {
				var calls atomic.Int32
				var stopped atomic.Bool
				stop, err := Process(c.Process.Pid, func() {
					if calls.Add(1) > 1 || stopped.Load() {
						t.Error("a hint too many")
					}
				})
				if err != nil {
					t.Error(err)
				}
				stop()
				stopped.Store(true)
			})
		}
		all.Wait()
		_ = c.Wait()
	}
}

func BenchmarkReplaced(b *testing.B) {
	dir := folderOf(b)
	lease, next := filepath.Join(dir, "lease"), filepath.Join(dir, "lease.next")
	l := listenFile(b, lease)
	for b.Loop() {
		b.StopTimer()
		write(b, next)
		b.StartTimer()
		must(b, os.Rename(next, lease))
		l.wait(b)
	}
}

func BenchmarkKilled(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		c := child(b)
		l := listenProcess(b, c.Process.Pid)
		b.StartTimer()
		must(b, c.Process.Kill())
		l.wait(b)
		b.StopTimer()
		_ = c.Wait()
		b.StartTimer()
	}
}

func BenchmarkFile(b *testing.B) {
	dir := folderOf(b)
	listenFile(b, filepath.Join(dir, "other"))
	for b.Loop() {
		stop, err := File(filepath.Join(dir, "lease"), func() {})
		must(b, err)
		stop()
	}
}
