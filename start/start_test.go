package start_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/ownertest"
	"github.com/ownerlease/owner/start"
)

// The tests start this test's binary: as an owner, and as a process that calls Ensure.
const (
	doEnv    = "START_TEST_DO"
	leaseEnv = "START_TEST_LEASE"
)

func TestMain(m *testing.M) {
	if do := os.Getenv(doEnv); do != "" {
		time.AfterFunc(time.Minute, func() { os.Exit(99) }) // no child outlives the tests for long
		os.Exit(child(do, os.Getenv(leaseEnv)))
	}
	goleak.VerifyTestMain(m)
}

// child does what the test has asked for, and notes that it was started.
func child(do, lease string) int {
	what, arg, _ := strings.Cut(do, " ")
	if what == "ensure" {
		return ensureChild(lease, arg)
	}
	note(lease, os.Getpid())
	switch what {
	case "serve":
		delay, _ := time.ParseDuration(arg)
		return serve(lease, delay)
	case "late":
		delay, _ := time.ParseDuration(arg)
		time.Sleep(delay)
		return serve(lease, 0)
	case "tell":
		dir, _ := os.Getwd()
		fmt.Printf("%q %q\n", os.Args[1:], dir)
		return 1
	case "flood":
		for range 100 {
			fmt.Println(strings.Repeat("x", 20<<10))
		}
		fmt.Println("the end")
		return 1
	case "flood-and-hang":
		for range 40 {
			fmt.Println(strings.Repeat("x", 1<<20))
		}
		select {}
	case "exit":
		code, _ := strconv.Atoi(arg)
		fmt.Println("first words")
		fmt.Fprintln(os.Stderr, "the reason")
		return code
	case "hang":
		select {}
	case "daemon": // ends, and leaves a process that serves
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), doEnv+"=serve 100ms")
		if err := cmd.Start(); err != nil {
			return 1
		}
		return 0
	case "loser": // meets another owner, and ends in disorder
		for {
			if st, err := owner.Probe(lease); err == nil && st.Owned() {
				return 7
			}
			time.Sleep(time.Millisecond)
		}
	}
	return 98
}

// note adds a line to what the children of a lease have written.
func note(lease string, what any) {
	f, err := os.OpenFile(lease+".journal", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	fmt.Fprintln(f, what)
}

// serve owns the lease until TERM, and advertises an endpoint after the delay.
func serve(lease string, delay time.Duration) int {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	o, err := owner.Join(context.Background(), owner.Config{LeasePath: lease, TTL: time.Minute})
	if err != nil {
		fmt.Println(err)
		return 6
	}
	defer o.Release()
	if !o.IsOwner() {
		fmt.Println("another owns")
		return 7
	}
	select {
	case <-time.After(delay):
	case <-end:
		return 5
	}
	if err := o.Advertise(context.Background(), "test:"+strconv.Itoa(os.Getpid()), nil); err != nil {
		return 4
	}
	<-end
	return 0
}

// ensureChild prints the owner's pid.
func ensureChild(lease, do string) int {
	s, err := owner.FileStore(lease)
	if err != nil {
		return 2
	}
	rec, err := start.Ensure(context.Background(), s, command(lease, do))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(rec.PID)
	return 0
}

// command starts this binary to do something with the lease.
func command(lease, do string) start.Command {
	return start.Command{
		Path: os.Args[0], Env: environment(lease, do), Log: lease + ".log", Timeout: 20 * time.Second,
	}
}

func environment(lease, do string) []string {
	return append(os.Environ(), doEnv+"="+do, leaseEnv+"="+lease, "GORACE=atexit_sleep_ms=0")
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// A lease is one of a test, whose children end with it.
type lease struct {
	t     *testing.T
	path  string
	store owner.Store
}

func newLease(t *testing.T) *lease {
	t.Helper()
	l := &lease{t: t, path: filepath.Join(t.TempDir(), "x.lease")}
	var err error
	l.store, err = owner.FileStore(l.path)
	must(t, err)
	t.Cleanup(l.end)
	return l
}

// started are the pids of the children that have been started.
func (l *lease) started() []int {
	l.t.Helper()
	b, err := os.ReadFile(l.path + ".journal")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.t.Fatal(err)
	}
	var pids []int
	for _, line := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(line)
		must(l.t, err)
		pids = append(pids, pid)
	}
	return pids
}

// end ends the children, and waits until they have gone.
func (l *lease) end() {
	for _, pid := range l.started() {
		p, err := os.FindProcess(pid)
		if err != nil {
			continue
		}
		_ = p.Kill()
		_ = p.Release()
		start.Reap()
		for until := time.Now().Add(10 * time.Second); start.Exists(pid); start.Reap() {
			if time.Now().After(until) {
				l.t.Errorf("process %d does not end", pid)
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
}

func (l *lease) ensure(c start.Command) (owner.Record, error) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return start.Ensure(ctx, l.store, c)
}

// one requires that one child has been started, and returns its pid.
func (l *lease) one() int {
	l.t.Helper()
	pids := l.started()
	if len(pids) != 1 {
		l.t.Fatalf("started %d processes: %v", len(pids), pids)
	}
	return pids[0]
}

// The first call starts an owner, and waits until it is ready; the second finds it.
func TestEnsure(t *testing.T) {
	l := newLease(t)
	began := time.Now()
	rec, err := l.ensure(command(l.path, "serve 200ms"))
	must(t, err)
	if pid := l.one(); rec.PID != pid || rec.Meta[owner.EndpointMetaKey] != fmt.Sprint("test:", pid) || time.Since(began) < 200*time.Millisecond {
		t.Errorf("%+v after %v", rec, time.Since(began))
	}
	again, err := l.ensure(start.Command{Path: "/there/is/none"})
	must(t, err)
	if again.InstanceID != rec.InstanceID {
		t.Errorf("%+v", again)
	}
}

// An owner that no call has started is waited for until it is ready.
func TestOwnerThatIsNotReadyYet(t *testing.T) {
	l := newLease(t)
	o, err := owner.Join(t.Context(), owner.Config{LeasePath: l.path, TTL: time.Minute})
	must(t, err)
	defer o.Release()
	c := command(l.path, "serve")
	c.Timeout = 50 * time.Millisecond
	if _, err := l.ensure(c); !errors.Is(err, start.ErrNotReady) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Error(err)
	}
	c.NoEndpoint = true
	rec, err := l.ensure(c)
	must(t, err)
	if rec.InstanceID != o.InstanceID() {
		t.Errorf("%+v", rec)
	}
	c.NoEndpoint, c.Timeout = false, 20*time.Second
	found := make(chan error, 1)
	go func() {
		rec, err := l.ensure(c)
		if err == nil && rec.InstanceID != o.InstanceID() {
			err = fmt.Errorf("%+v", rec)
		}
		found <- err
	}()
	must(t, o.Advertise(t.Context(), "unix:/x", nil), <-found)
	if n := l.started(); len(n) > 0 {
		t.Errorf("started %v", n)
	}
}

// An owner that goes before it is ready is followed by one that is started.
func TestOwnerThatGoesBeforeItIsReady(t *testing.T) {
	t.Parallel()
	l := newLease(t)
	o, err := owner.Join(t.Context(), owner.Config{LeasePath: l.path, TTL: time.Minute})
	must(t, err)
	found := make(chan error, 1)
	go func() {
		_, err := l.ensure(command(l.path, "serve"))
		found <- err
	}()
	time.Sleep(20 * time.Millisecond)
	must(t, o.Release(), <-found)
	l.one()
}

func TestManyInOneProcess(t *testing.T) {
	l := newLease(t)
	var wg sync.WaitGroup
	for range 100 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, err := l.ensure(command(l.path, "serve 20ms")); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	l.one()
}

// A failed start says why, at once; it is not remembered.
func TestProcessThatEnds(t *testing.T) {
	l := newLease(t)
	began := time.Now()
	_, err := l.ensure(command(l.path, "exit 3"))
	var failed *start.StartError
	if !errors.As(err, &failed) || failed.ExitCode != 3 || failed.Log != "first words\nthe reason\n" || time.Since(began) > 10*time.Second {
		t.Fatalf("%#v, %v", failed, err)
	}
	for _, want := range []string{"exit status 3", "first words; the reason", l.path} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	if _, err := l.ensure(command(l.path, "exit 4")); !errors.As(err, &failed) || failed.ExitCode != 4 || failed.Log != "first words\nthe reason\n" {
		t.Errorf("the second: %v", err)
	}
	_, err = l.ensure(command(l.path, "serve"))
	must(t, err)
}

// isMissing reports whether a program was not found, as each system says it.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound)
}

func TestProcessThatCannotBeStarted(t *testing.T) {
	l := newLease(t)
	text := filepath.Join(t.TempDir(), "text")
	must(t, os.WriteFile(text, []byte("not a program"), 0o600))
	for path, missing := range map[string]bool{
		"/there/is/none":                 true,
		"owner-there-is-no-such-program": true,
		text:                             false,
	} {
		_, err := l.ensure(start.Command{Path: path})
		var failed *start.StartError
		if !errors.As(err, &failed) || failed.ExitCode != -1 || failed.Started || missing && !isMissing(err) || !strings.HasSuffix(err.Error(), ")") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if left, err := os.ReadDir(filepath.Dir(l.path)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	_, err := l.ensure(start.Command{Path: os.Args[0], Dir: "/there/is/none"})
	if err == nil || !strings.Contains(err.Error(), "working directory") {
		t.Error(err)
	}
}

// A process that does not own in time is of no use, and is ended.
func TestProcessThatHangs(t *testing.T) {
	t.Parallel()
	l := newLease(t)
	c := command(l.path, "hang")
	c.Timeout = 2 * time.Second
	_, err := l.ensure(c)
	if !errors.Is(err, start.ErrNotReady) || !strings.Contains(err.Error(), "was ended") {
		t.Error(err)
	}
	if pid := l.one(); start.Exists(pid) {
		t.Errorf("process %d was not ended", pid)
	}
	_, err = l.ensure(command(l.path, "serve"))
	must(t, err)
}

// A process that owns and is not ready is left: it may be loading.
func TestProcessThatIsNotReady(t *testing.T) {
	t.Parallel()
	l := newLease(t)
	c := command(l.path, "serve 4s")
	c.Timeout = 2 * time.Second
	_, err := l.ensure(c)
	if !errors.Is(err, start.ErrNotReady) || !strings.Contains(err.Error(), "left running") {
		t.Error(err)
	}
	c.Timeout = 20 * time.Second
	rec, err := l.ensure(c)
	must(t, err)
	if rec.PID != l.one() {
		t.Errorf("%+v", rec)
	}
}

// A process that ends with status 0 may have left one behind; without one, Timeout ends
// the wait.
func TestProcessThatLeavesAnother(t *testing.T) {
	t.Parallel()
	l := newLease(t)
	rec, err := l.ensure(command(l.path, "daemon"))
	must(t, err)
	if pids := l.started(); len(pids) != 2 || rec.PID != pids[1] {
		t.Errorf("%+v, started %v", rec, pids)
	}
	l = newLease(t)
	c := command(l.path, "exit 0")
	c.Timeout = 2 * time.Second
	_, err = l.ensure(c)
	var failed *start.StartError
	if !errors.As(err, &failed) || failed.ExitCode != 0 || !errors.Is(err, start.ErrNotReady) || failed.Log == "" {
		t.Error(err)
	}
}

// A process that finds another owner and ends is a success, with whatever status.
func TestProcessThatFindsAnotherOwner(t *testing.T) {
	t.Parallel()
	l := newLease(t)
	found := make(chan error, 1)
	var rec owner.Record
	go func() {
		var err error
		rec, err = l.ensure(command(l.path, "loser"))
		found <- err
	}()
	for len(l.started()) == 0 {
		time.Sleep(time.Millisecond)
	}
	o, err := owner.Join(t.Context(), owner.Config{LeasePath: l.path, TTL: time.Minute})
	must(t, err)
	defer o.Release()
	time.Sleep(100 * time.Millisecond) // the child has ended by now, most likely
	must(t, o.Advertise(t.Context(), "unix:/x", nil), <-found)
	if rec.InstanceID != o.InstanceID() {
		t.Errorf("%+v", rec)
	}
	l.one()
}

// If that owner ends in the same moment, the process is started once more.
func TestOtherOwnerThatEnds(t *testing.T) {
	t.Parallel()
	l := newLease(t)
	found := make(chan error, 1)
	go func() {
		_, err := l.ensure(command(l.path, "loser"))
		found <- err
	}()
	for n := 1; n <= 2; n++ {
		for len(l.started()) < n {
			time.Sleep(time.Millisecond)
		}
		o, err := owner.Join(t.Context(), owner.Config{LeasePath: l.path, TTL: time.Minute})
		must(t, err)
		time.Sleep(100 * time.Millisecond)
		must(t, o.Release())
	}
	var failed *start.StartError
	if err := <-found; !errors.As(err, &failed) || failed.ExitCode != 7 {
		t.Error(err)
	}
	if pids := l.started(); len(pids) != 2 {
		t.Errorf("started %v", pids)
	}
}

// The end of the context leaves the process, and the next call waits for it.
func TestCanceled(t *testing.T) {
	t.Parallel()
	l := newLease(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	over := make(chan error, 1)
	go func() {
		_, err := start.Ensure(ctx, l.store, command(l.path, "late 500ms"))
		over <- err
	}()
	for len(l.started()) == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel(io.ErrUnexpectedEOF)
	if err := <-over; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	rec, err := l.ensure(command(l.path, "serve"))
	must(t, err)
	if rec.PID != l.one() {
		t.Errorf("%+v", rec)
	}
}

func TestRefused(t *testing.T) {
	l := newLease(t)
	memory := ownertest.NewMemory()
	for what, x := range map[string]struct {
		s owner.Store
		c start.Command
	}{
		"no Path":          {l.store, start.Command{}},
		"negative Timeout": {l.store, start.Command{Path: "x", Timeout: -1}},
		"no Store":         {nil, start.Command{Path: "x"}},
		"no Lock":          {memory, start.Command{Path: "x"}},
		"a folder as log":  {l.store, start.Command{Path: os.Args[0], Log: t.TempDir()}},
		"a folder as lock": {l.store, start.Command{Path: "x", Lock: t.TempDir()}},
	} {
		_, err := start.Ensure(t.Context(), x.s, x.c)
		if err == nil || what != "a folder as lock" && !errors.Is(err, owner.ErrInvalidConfig) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := start.Ensure(t.Context(), memory, start.Command{Path: "/there/is/none", Lock: filepath.Join(t.TempDir(), "lock")}); !isMissing(err) {
		t.Error("a store in memory, with a lock:", err)
	}
	none, err := owner.FileStore(filepath.Join(t.TempDir(), "none", "x"))
	must(t, err)
	if _, err := start.Ensure(t.Context(), none, start.Command{Path: "x"}); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a folder that is missing:", err)
	}
	// Followers of a lease that cannot be read start none.
	must(t, os.WriteFile(l.path, []byte("data of another program"), 0o600))
	if _, err := l.ensure(command(l.path, "serve")); !errors.Is(err, owner.ErrCorruptRecord) && !errors.Is(err, owner.ErrInvalidConfig) {
		t.Error("another program's file:", err)
	}
	if pids := l.started(); len(pids) > 0 {
		t.Errorf("started %v", pids)
	}
}

// The command has the arguments, the environment and the folder that were given.
func TestArguments(t *testing.T) {
	l := newLease(t)
	c := command(l.path, "tell")
	c.Args, c.Dir = []string{"-a", "", "b c"}, filepath.Dir(l.path)
	_, err := l.ensure(c)
	var failed *start.StartError
	if !errors.As(err, &failed) || !strings.HasPrefix(failed.Log, `["-a" "" "b c"] "`) || !strings.Contains(failed.Log, filepath.Base(filepath.Dir(l.path))) {
		t.Error(err)
	}
	c.Env, c.Args = nil, nil // that of this process
	t.Setenv(doEnv, "exit 5")
	t.Setenv(leaseEnv, l.path)
	if _, err := l.ensure(c); !errors.As(err, &failed) || failed.ExitCode != 5 {
		t.Error(err)
	}
}

// The log is appended to, and put aside when it is large; a process that writes a lot
// leaves only the end of it in the error.
func TestLog(t *testing.T) {
	l := newLease(t)
	c := command(l.path, "flood")
	var failed *start.StartError
	_, err := l.ensure(c)
	if !errors.As(err, &failed) || len(failed.Log) != 4<<10 || !strings.HasSuffix(failed.Log, "the end\n") || len(err.Error()) > 2<<10 {
		t.Errorf("%d bytes of log, %v", len(failed.Log), err)
	}
	first, err := os.Stat(c.Log)
	must(t, err)
	_, err = l.ensure(command(l.path, "exit 1"))
	if !errors.As(err, &failed) || failed.Log != "first words\nthe reason\n" {
		t.Error(err)
	}
	old, err := os.Stat(c.Log + ".1")
	must(t, err)
	now, err := os.Stat(c.Log)
	must(t, err)
	if old.Size() != first.Size() || now.Size() != int64(len(failed.Log)) {
		t.Errorf("%d bytes", now.Size())
	}
	_, _ = l.ensure(command(l.path, "exit 1"))
	if again, err := os.Stat(c.Log); err != nil || again.Size() != 2*now.Size() {
		t.Errorf("a small log is not appended to: %v, %v", again, err)
	}
	c = command(l.path, "exit 1")
	c.Log = ""
	if _, err := l.ensure(c); !errors.As(err, &failed) || failed.Log != "" || !strings.Contains(err.Error(), "log file") {
		t.Error(err)
	}
}
