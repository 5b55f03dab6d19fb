package run

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A warden is a small process between this one and the command: it starts the command, is
// its parent, and the kernel gives it each process below it that loses its parent. So no
// process of the command can leave it, not by a new session or group, and not by
// outliving its parent: when the warden has no child, no process of the command is left.
//
// It kills all of them when this process cannot: because it was killed, which closes the
// socket between them, or because it is stopped, and the deadline that it sent to the
// warden last passes. If the warden is killed, the kernel kills the command, and gives
// the rest to this process.

// wardenEnv makes a warden of this program: the number of its socket. It is no
// interface, and the command does not see it.
const wardenEnv = "_OWNER_WARDEN"

// wardenName is what a warden is called in a list of processes.
const wardenName = "owner-warden"

// An order is a message to the warden.
type order struct {
	LastMoment time.Duration // by when no process of the command may be left, if no other order comes
	Base       timebase      // of LastMoment
	Start      uint32        // not 0: start the command, which follows in this many bytes
	Probe      uint32        // not 0: what follows is a probe of this number; LastMoment is none
}

// A startOrder is the command, as it is to be started.
type startOrder struct {
	group   int              // its process group
	ignored []syscall.Signal // the signals that it is to ignore
	path    string
	args    []string
}

// bytes has a zero byte between the parts: they cannot have one themselves.
func (s startOrder) bytes() []byte {
	parts := append([]string{strconv.Itoa(s.group), strings.Trim(fmt.Sprint(s.numbers()), "[]"), s.path}, s.args...)
	return []byte(strings.Join(parts, "\x00"))
}

func (s startOrder) numbers() (n []int) {
	for _, sig := range s.ignored {
		n = append(n, int(sig))
	}
	return n
}

func parseStartOrder(text []byte) (s startOrder, err error) {
	parts := strings.Split(string(text), "\x00")
	if len(parts) < 4 {
		return s, errors.New("no command")
	}
	for _, number := range strings.Fields(parts[1]) {
		sig, err := strconv.Atoi(number)
		if err != nil {
			return s, err
		}
		s.ignored = append(s.ignored, syscall.Signal(sig))
	}
	s.group, err = strconv.Atoi(parts[0])
	s.path, s.args = parts[2], parts[3:]
	return s, err
}

// A report is a message from the warden.
type report struct {
	What  reportKind
	Size  uint32 // of what follows
	Value int64
}

type reportKind int32

const (
	reportStarted reportKind = iota + 1 // the command's pid
	reportFailed                        // the errno of its start
	reportEnded                         // its wait status; something of it is left
	reportAllGone                       // its wait status; no process is left
	reportEmpty                         // now no process is left
	reportProbe                         // the number of a probe, whose result follows
)

// RunHelperIfRequested makes this process a helper of another, if Run has started it as one,
// and then does not return. It must come first in main.
func RunHelperIfRequested() {
	fd, err := strconv.Atoi(os.Getenv(wardenEnv))
	if err != nil {
		beProberIfRequested()
		return
	}
	_ = os.Unsetenv(wardenEnv)
	unix.CloseOnExec(fd)
	w := &warden{socket: os.NewFile(uintptr(fd), "socket")}
	w.run()
	os.Exit(0)
}

// A warden is this process in that role.
type warden struct {
	socket  *os.File
	command int         // its pid
	over    atomic.Bool // the command has ended
}

func (w *warden) tell(what reportKind, value int64, text ...byte) {
	// If this process's parent is gone, it need not know. One write: a probe's result comes
	// from another goroutine.
	b, _ := binary.Append(nil, binary.NativeEndian, report{what, uint32(len(text)), value})
	_, _ = w.socket.Write(append(b, text...))
}

// run returns when there is nothing to start. After that, reap ends this process.
func (w *warden) run() {
	// The kernel ties Pdeathsig to the thread that forks: the main thread stays.
	runtime.LockOSThread()
	// A signal for all programs of this name, or of this service, means this process's
	// parent, which ends the command in order. Caught, not ignored: the command would
	// ignore them, too.
	signal.Notify(make(chan os.Signal, 1), endingSignals()...)
	adoptOrphans()
	first, text, err := w.next()
	if err != nil {
		return // the lease was lost before the command began, or the parent is gone
	}
	s, err := parseStartOrder(text)
	if err != nil {
		w.tell(reportFailed, int64(syscall.EINVAL))
		return
	}
	inherited := inheritedFiles()
	if w.command, err = s.start(); err != nil {
		var errno syscall.Errno
		errors.As(err, &errno)
		w.tell(reportFailed, int64(errno))
		return
	}
	w.tell(reportStarted, int64(w.command))
	w.withdraw(inherited)
	go w.reap()
	w.watch(first)
}

// next is the next order, and what follows it.
func (w *warden) next() (o order, text []byte, err error) {
	if err = binary.Read(w.socket, binary.NativeEndian, &o); err == nil {
		text = make([]byte, o.Start)
		_, err = io.ReadFull(w.socket, text)
	}
	return o, text, err
}

// start starts the command in the group, and so before the terminal, of the
// process that the user has started.
func (s startOrder) start() (pid int, err error) {
	ignore(s.ignored)
	attr := &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Setpgid: true, Pgid: s.group, Pdeathsig: syscall.SIGKILL},
	}
	return execvp(s.path, s.args, func(path string, args []string) (int, error) {
		return syscall.ForkExec(path, args, attr)
	})
}

// withdraw leaves the command's session, so that signals to its group or terminal do not
// reach this process, and frees everything that the command uses: the reader of the
// command's output waits for all that have it open, and a folder may have to be
// unmounted.
func (w *warden) withdraw(inherited []int) {
	_, _ = unix.Setsid()
	_ = os.Chdir("/")
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	for _, fd := range inherited {
		if fd > 2 || err != nil {
			_ = unix.Close(fd)
		} else {
			_ = unix.Dup3(null, fd, 0)
		}
	}
}

// inheritedFiles are the numbers of the files that the command inherits from the process
// that has started the run.
func inheritedFiles() []int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return []int{0, 1, 2}
	}
	var fds []int
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			fds = append(fds, fd)
		}
	}
	return fds
}

// reap waits for every child, reports how the command has ended, and ends this process
// when none is left.
func (w *warden) reap() {
	told := false
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case err == syscall.ECHILD:
			if told {
				w.tell(reportEmpty, 0)
			}
			os.Exit(0)
		case err == nil && pid == w.command && !told:
			told = true
			w.over.Store(true)
			w.tellEnd(int64(ws))
		}
	}
}

func (w *warden) tellEnd(status int64) {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		switch {
		case err == syscall.ECHILD:
			w.tell(reportAllGone, status)
			os.Exit(0)
		case err == nil && pid == 0:
			w.tell(reportEnded, status)
			return
		}
	}
}

// watch kills all of the command when the moment has come or the parent is gone.
// It does not return: reap ends this process.
func (w *warden) watch(last order) {
	for {
		// Orders that wait count even when the deadline has passed: this process itself
		// can have been stopped.
		if !ready(w.socket, last.LastMoment, last.Base.longestWait(), last.Base.now) {
			break
		}
		o, text, err := w.next()
		if err != nil {
			break
		}
		if o.Probe != 0 {
			w.probe(o.Probe, text)
		} else {
			last = o
		}
	}
	// Again and again: one that is just being forked escapes, and there can be some
	// that this process may not kill.
	for pause := time.Millisecond; ; pause = min(2*pause, time.Second) {
		descendants(os.Getpid(), nil, func(p proc) { _ = p.signal(syscall.SIGKILL) })
		time.Sleep(pause)
	}
}

// adoptOrphans makes this process the parent of all below it that lose theirs.
func adoptOrphans() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }
