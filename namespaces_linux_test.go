package owner

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ownerlease/owner/internal/clock"
	"github.com/ownerlease/owner/internal/hint"
)

// Takeovers where something is missing that others have: a pid that means something to
// both, /proc, pidfd_open, inotify. With a TTL of half a minute, and a poll every
// second, what takes a few milliseconds was found by a hint.

const containerTTL = 30 * time.Second

// setupEnv says what a child has to set up first.
const setupEnv = "OWNER_TEST_SETUP"

func init() {
	for _, name := range strings.Fields(os.Getenv(setupEnv)) {
		if err := setups[name](); err != nil {
			fmt.Printf("error setting up %s: %v\n", name, err)
			os.Exit(1)
		}
	}
}

var setups = map[string]func() error{
	"proc":      func() error { return unix.Mount("proc", "/proc", "proc", 0, "") },
	"noproc":    func() error { return unix.Mount("none", "/proc", "tmpfs", 0, "") },
	"nopidfd":   refusePidfdOpen,
	"noinotify": func() error { return os.WriteFile("/proc/sys/user/max_inotify_instances", []byte("0"), 0) },
	"log":       logWarnings,
}

func logWarnings() error {
	childLog = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return nil
}

// refusePidfdOpen does what the seccomp profiles of older container runtimes do.
func refusePidfdOpen() error {
	const loadNumber, jumpIfEqual, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	filter := []unix.SockFilter{
		{Code: loadNumber},
		{Code: jumpIfEqual, K: unix.SYS_PIDFD_OPEN, Jf: 1},
		{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: ret, K: unix.SECCOMP_RET_ALLOW},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return errno
	}
	if _, err := unix.PidfdOpen(os.Getppid(), 0); err != unix.EPERM {
		return fmt.Errorf("pidfd_open is not refused: %w", err)
	}
	return nil
}

// A surrounding is what a child is started in.
type surrounding struct {
	flags uintptr // CLONE_NEW…
	setup string
}

var (
	outside   = surrounding{}
	container = surrounding{unix.CLONE_NEWPID | unix.CLONE_NEWNS, "proc"}
)

func (s surrounding) with(setup string) surrounding {
	s.setup = strings.TrimSpace(s.setup + " " + setup)
	if strings.Contains(setup, "noproc") {
		s.flags |= unix.CLONE_NEWNS
	}
	if strings.Contains(setup, "noinotify") {
		s.flags |= unix.CLONE_NEWUSER
	}
	return s
}

// enter has a command begin in the surrounding.
func (s surrounding) enter(cmd *exec.Cmd) {
	cmd.Env = append(cmd.Env, setupEnv+"="+s.setup)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: s.flags &^ unix.CLONE_NEWNS}
	if s.flags&unix.CLONE_NEWNS != 0 {
		cmd.SysProcAttr.Unshareflags = unix.CLONE_NEWNS // which makes all mounts private
	}
	if s.flags&unix.CLONE_NEWUSER != 0 {
		root := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = root, root
	}
}

func needsNamespaces(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("makes namespaces: run it as root, with go test -exec sudo -run TestNamespaces .")
	}
	err := exec.Command("unshare", "--pid", "--fork", "--mount", "--user", "--map-root-user", "true").Run()
	if err != nil {
		t.Skipf("needs pid, mount and user namespaces, and unshare (Debian: apt-get install util-linux): %v", err)
	}
}

// A pair is an owner in one process, and a follower in another.
type pair struct {
	owner, follower *child
	log             *bytes.Buffer // the follower's
}

func startPair(t testing.TB, owner, follower surrounding) pair {
	t.Helper()
	p, log := leasePath(t), new(bytes.Buffer)
	a := startChild(t, p, owner.enter)
	b := startChild(t, p, follower.with("log").enter, func(c *exec.Cmd) { c.Stderr = log })
	a.mustSay("join "+containerTTL.String(), "owner")
	b.mustSay("stand "+containerTTL.String(), "follower")
	b.say("elected")
	return pair{a, b, log}
}

// kill kills the owner, and returns how long the follower took to own.
func (p pair) kill(t testing.TB) (took time.Duration) {
	t.Helper()
	killed := clock.Now()
	must(t, p.owner.cmd.Process.Kill())
	var elected time.Duration
	var epoch uint64
	if _, err := fmt.Sscanf(p.follower.hear(), "elected %d %d", &elected, &epoch); err != nil {
		t.Fatal(err)
	}
	return elected - killed
}

// takeovers returns how long this many took, sorted, and what the followers have logged.
func takeovers(t testing.TB, n int, owner, follower surrounding) (took []time.Duration, log string) {
	t.Helper()
	pairs := make([]pair, n)
	for i := range pairs {
		pairs[i] = startPair(t, owner, follower)
	}
	// A follower polls less and less often, and after this time every second. Were it
	// less, this would show nothing, but fail no more often.
	time.Sleep(1200 * time.Millisecond)
	for _, p := range slices.Backward(pairs) { // the other way round, the next one's poll would always be due soon
		took = append(took, p.kill(t))
	}
	for _, p := range pairs {
		p.owner.end()
		p.follower.end() // its output has been read then
		log += p.log.String()
	}
	slices.Sort(took)
	return took, log
}

func TestNamespaces(t *testing.T) {
	needsNamespaces(t)
	for _, test := range []struct {
		name            string
		owner, follower surrounding
	}{
		{"one pid namespace", outside, outside},
		{"two containers", container, container},
		{"owner in a container", container, outside},
		{"follower in a container", outside, container},
		{"owner without /proc", container.with("noproc"), outside},
		{"follower without /proc", outside, outside.with("noproc")},
		{"neither has /proc", container.with("noproc"), container.with("noproc")},
		{"pidfd_open refused", outside, outside.with("nopidfd")},
	} {
		t.Run(test.name, func(t *testing.T) {
			took, log := takeovers(t, 10, test.owner, test.follower)
			if median := took[len(took)/2]; median > 100*time.Millisecond {
				t.Errorf("%v, as if there were no hints", took)
			}
			t.Log(took)
			if log != "" {
				t.Errorf("logged though nothing is missing:\n%s", log)
			}
		})
	}
}

// Without inotify the log says what it costs, and what to do.
func TestNamespacesInotifyExhausted(t *testing.T) {
	needsNamespaces(t)
	for _, test := range []struct {
		name            string
		owner, follower surrounding
		polls           bool
		says            []string
	}{
		{"one pid namespace", outside, outside.with("noinotify"), false, []string{"up to a second", "fs.inotify.max_user_instances"}},
		{"two containers", container, container.with("noinotify"), true, []string{"up to a second", "fs.inotify.max_user_instances"}},
		{"pidfd_open refused", outside, outside.with("noinotify nopidfd"), true,
			[]string{"up to a second", "fs.inotify.max_user_instances", "pidfd_open: operation not permitted", "seccomp", "Linux 5.3"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			took, log := takeovers(t, 5, test.owner, test.follower)
			if median := took[len(took)/2]; !test.polls && median > 100*time.Millisecond {
				t.Errorf("%v, though the process's end is reported", took)
			}
			t.Log(took)
			for _, what := range test.says {
				if strings.Count(log, what) != 5 {
					t.Errorf("not said once by each of 5: %q\n%s", what, log)
				}
			}
		})
	}
}

// A holder's pid is used only where it means the same process to both.
func TestPIDOfAnotherNamespace(t *testing.T) {
	p := leasePath(t)
	s := storeAt(p)
	const pid = 4711
	ours := hint.PIDNamespace()
	if ours == "" {
		t.Skip("needs /proc")
	}
	for _, test := range []struct {
		namespace string
		want      bool
	}{
		{ours, true},
		{"pid:[1]", false},
		{"", false}, // an earlier version's record
	} {
		h := plant(t, p, func(h *diskHead, _ *diskTail) { h.PID, h.PIDNamespace = pid, test.namespace })
		if rec, err := Inspect(p); err != nil || rec.InstanceID != h.InstanceID {
			t.Errorf("a record with the pid namespace %q cannot be read: %v", test.namespace, err)
		}
		if got := s.pidIsKnown(Record{InstanceID: h.InstanceID, PID: pid}); got != test.want {
			t.Errorf("in %q the pid is known: %v", test.namespace, got)
		}
		if s.pidIsKnown(Record{InstanceID: "another", PID: pid}) {
			t.Error("the pid of one holder is taken for another's")
		}
	}
	must(t, os.Remove(p))
	if s.pidIsKnown(Record{InstanceID: "another", PID: pid}) {
		t.Error("a pid is known without a record")
	}
}

func TestRecordNamesPIDNamespace(t *testing.T) {
	p := leasePath(t)
	o := joinFile(t, p)
	rec, err := readFile(p)
	must(t, err)
	if rec.PIDNamespace != hint.PIDNamespace() || rec.PIDNamespace == "" {
		t.Errorf("%q", rec.PIDNamespace)
	}
	must(t, o.Release())
}

func TestHintsMissing(t *testing.T) {
	if err := missing(nil, nil); err != nil {
		t.Error(err)
	}
	one, other := errors.New("one"), errors.New("other")
	if err := missing(one, other); !errors.Is(err, one) || !errors.Is(err, other) || !strings.Contains(err.Error(), "up to a second") {
		t.Error(err)
	}
}
