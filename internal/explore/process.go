package explore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ownerlease/owner/internal/disk"
)

// A Process runs code whose every system call waits until the exploration lets it happen.
// It has one thread. Its methods are the calls; Step lets one of them happen.
type Process struct {
	*Kernel
	Name string
	// Domain is the process's name for its clock: it cannot compare its clock with that
	// of another domain.
	Domain string

	number  int
	pid     int
	made    int // how many files it has made
	open    []*handle
	pending *call
	seen    uint64 // a digest of all that it has learned since Forget
	dead    atomic.Bool
	free    bool // its calls need not wait
	half    bool // it is in the middle of a write
	slept   bool // it has slept, and not called anything since

	calls chan *call
	turn  chan Outcome
}

// NewProcess starts a process that has called nothing yet.
func (k *Kernel) NewProcess(name string) *Process {
	p := &Process{Kernel: k, Name: name, number: len(k.procs), pid: len(k.procs) + 2, calls: make(chan *call), turn: make(chan Outcome)}
	k.procs = append(k.procs, p)
	return p
}

// A call waits until Step lets it happen.
type call struct {
	what, path string
	mayFail    bool
}

// Outcome is how a call ends.
type Outcome int

const (
	Done      Outcome = iota // as it should
	Fails                    // an error, and the call has had no effect
	FailsDone                // an error, and the call has had its effect
	killed                   // the process has ended before it
)

// ErrIO is what a failing call returns.
var ErrIO = errors.New("input/output error")

var errDead = errors.New("the process has ended")

// Calls yields each call that begins to wait. After Step, the caller waits for the next
// call, or for another sign that the process makes none.
func (p *Process) Calls() <-chan *call { return p.calls }

// Waits takes up a call that has come over Calls.
func (p *Process) Waits(c *call) { p.pending = c }

// Pending reports whether a call waits, and whether it may fail.
func (p *Process) Pending() (waits, mayFail bool) {
	return p.pending != nil, p.pending != nil && p.pending.mayFail
}

// ReadsClock reports whether the call that waits reads the clock.
func (p *Process) ReadsClock() bool { return p.pending != nil && p.pending.what == readsClock }

// InWrite reports whether the process is in the middle of a write. The kernel copies
// a record of less than a page in one go: the process can end there, as in a power loss,
// but not be stopped there while the clock runs.
func (p *Process) InWrite() bool { return p.half && !p.dead.Load() }

// Blocked reports whether the process has slept and another is still in the middle of
// a write that it was in before.
func (p *Process) Blocked() bool {
	return p.slept && slices.ContainsFunc(p.procs, (*Process).InWrite)
}

// Step lets the call that waits happen.
func (p *Process) Step(o Outcome) {
	p.pending = nil
	p.turn <- o
}

// Free lets the calls of the process happen without waiting.
func (p *Process) Free(free bool) { p.free = free }

// Forget starts a new digest of what the process learns: what it has learned before no
// longer matters for what it does, or is in its caller's key.
func (p *Process) Forget() { p.seen = 0 }

// Seen is that digest.
func (p *Process) Seen() uint64 { return p.seen }

// Kill ends the process. The kernel closes its files and frees their locks.
func (p *Process) Kill() {
	p.dead.Store(true)
	for len(p.open) > 0 {
		p.open[0].close()
	}
	if p.pending != nil {
		p.Step(killed)
	}
	p.seen = 0
	p.half = false
}

// step is one system call. do returns what the process learns by it.
func (p *Process) step(what, path string, mayFail bool, do func() (learned any, err error)) error {
	if p.dead.Load() {
		return errDead // what is deferred still runs
	}
	o := Done
	if !p.free {
		p.calls <- &call{what, path, mayFail}
		o = <-p.turn
	}
	if o == killed {
		runtime.Goexit()
	}
	p.slept = false
	var learned any
	var err error
	if o != Fails {
		learned, err = do()
	}
	if o == Fails || o == FailsDone {
		err = &fs.PathError{Op: what, Path: path, Err: ErrIO}
	}
	p.learn(learned, err)
	if p.Record {
		p.tell(p.Name, p.text(what, path, learned, err, o))
	}
	return err
}

func (p *Process) text(what, path string, learned any, err error, o Outcome) string {
	s := what
	if path != "" {
		s += " " + path
	}
	switch {
	case o == FailsDone:
		return s + ": done, and an error is returned"
	case errors.Is(err, fs.ErrNotExist):
		return s + ": not there"
	case err != nil:
		return s + ": " + err.Error()
	}
	if b, ok := learned.([]byte); ok && p.Show != nil {
		return s + ": " + p.Show(b)
	}
	if learned != nil {
		s += fmt.Sprint(": ", learned)
	}
	return s
}

func (p *Process) learn(learned any, err error) {
	h := NewHash()
	h.Int(p.seen)
	switch l := learned.(type) {
	case []byte:
		h.Bytes(l)
	case bool:
		h.Int(map[bool]uint64{true: 2, false: 1}[l])
	case uint64:
		h.Int(l)
	case time.Duration:
		h.Int(uint64(l))
	case []string:
		for _, s := range l {
			h.Bytes([]byte(s))
		}
	}
	if err != nil {
		h.Bytes([]byte(err.Error()))
	}
	p.seen = h.Sum64()
}

const readsClock = "reads the clock"

// The clocks. A reading of the clock is a step: time can pass before it and after it.

func (p *Process) Now() (now time.Duration) {
	_ = p.step(readsClock, "", false, func() (any, error) { now = p.now; return now, nil })
	return now
}

// Clock is one domain for all processes without their own.
func (p *Process) Clock() string { return cmp.Or(p.Domain, "simulated") }

// Wall is a clock that only the epoch may depend on, once all files are gone.
func (p *Process) Wall() time.Time {
	if p.WallGoes {
		return time.Unix(0, 0).Add(p.now)
	}
	return time.Unix(0, 0)
}

// Sleep is no step: whatever can come in the meantime can come at the next one, but
// for a write that is half done: none takes so long (see Blocked). A sleep that can be
// given up comes before another try: what has been learned so far no longer matters,
// which keeps the tries from being as many states.
func (p *Process) Sleep(ctx context.Context, _ time.Duration) error {
	if p.dead.Load() {
		return errDead
	}
	p.slept = true
	if ctx.Done() != nil {
		p.seen = 1
	}
	return context.Cause(ctx)
}

// CheckTrusted trusts.
func (p *Process) CheckTrusted(string) error { return nil }

// The files. Identities of open files do not change: no step is needed to ask for
// them, nor to close a file that is not locked.

func (p *Process) Open(path string, flag int) (disk.File, error) {
	h, err := p.openFile(path, flag)
	if err != nil {
		return nil, err
	}
	return (*file)(h), nil
}

func (p *Process) openFile(path string, flag int) (h *handle, err error) {
	err = p.step("opens", path, true, func() (any, error) {
		ino := p.names[path]
		switch {
		case ino == nil && flag&os.O_CREATE == 0:
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		case ino != nil && flag&os.O_EXCL != 0:
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrExist}
		case ino == nil:
			// Numbers are given in the order of the process that makes the file, so that
			// the order of the processes makes no difference in itself.
			p.made++
			ino = &inode{number: uint64(p.number+1)*1000 + uint64(p.made)}
			p.names[path] = ino
		}
		h = &handle{p: p, ino: ino, path: path}
		p.open = append(p.open, h)
		return ino.number, nil
	})
	if err != nil && h != nil && !p.dead.Load() { // done, but the process does not know it
		h.close()
	}
	return h, err
}

func (p *Process) Lock(path string, flag int) (disk.Lock, error) { return p.lock(path, flag, true) }

func (p *Process) RLock(path string) (disk.Lock, error) { return p.lock(path, os.O_RDONLY, false) }

// lock takes two steps: the name can come to lead elsewhere in between.
func (p *Process) lock(path string, flag int, exclusive bool) (disk.Lock, error) {
	h, err := p.openFile(path, flag)
	if err != nil {
		return nil, err
	}
	locked := false
	err = p.step("locks", path, true, func() (any, error) {
		locked = h.lock(exclusive)
		return locked, nil
	})
	if p.dead.Load() {
		return nil, errDead
	}
	if err != nil || !locked {
		h.close()
		return nil, err
	}
	return (*held)(h), nil
}

func (p *Process) Replace(from, to string) error {
	return p.step("renames "+from+" to", to, true, func() (any, error) {
		ino := p.names[from]
		if ino == nil {
			return nil, &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
		}
		delete(p.names, from)
		p.names[to] = ino
		return nil, nil
	})
}

func (p *Process) Remove(path string) error {
	return p.step("removes", path, true, func() (any, error) {
		if !p.Exists(path) {
			return nil, &fs.PathError{Op: "remove", Path: path, Err: fs.ErrNotExist}
		}
		p.Unlink(path)
		return nil, nil
	})
}

func (p *Process) Link(path, second string) error {
	return p.step("links "+path+" as", second, true, func() (any, error) {
		switch {
		case !p.Exists(path):
			return nil, &os.LinkError{Op: "link", Old: path, New: second, Err: fs.ErrNotExist}
		case p.Exists(second):
			return nil, &os.LinkError{Op: "link", Old: path, New: second, Err: fs.ErrExist}
		}
		p.names[second] = p.names[path]
		return nil, nil
	})
}

// Access knows no users, and Allow gives nothing: neither is a step.
func (p *Process) Access(string) (disk.Access, error) { return disk.Plain, nil }

func (f *file) Allow(disk.Access, int) error { return nil }

// Touch has no simulated effect.
func (p *Process) Touch(string, time.Time) error { return nil }

func (p *Process) Names(dir string, _ int) (names []string, err error) {
	err = p.step("lists", filepath.ToSlash(dir), true, func() (any, error) {
		for name := range p.names {
			names = append(names, name[len(dir)+1:])
		}
		slices.Sort(names)
		return names, nil
	})
	return names, err
}

// at reports whether a name leads to the file of a handle.
func (h *handle) at(path string) (same bool, size int64, err error) {
	err = h.p.step("checks", path, true, func() (any, error) {
		ino := h.p.names[path]
		if ino == nil {
			return nil, &fs.PathError{Op: "lstat", Path: path, Err: fs.ErrNotExist}
		}
		same, size = ino == h.ino, int64(len(ino.data))
		return same, nil
	})
	return same, size, err
}

// A file is an open file that is not locked.
type file handle

func (f *file) Number() uint64 { return f.ino.number }

func (f *file) At(path string) (bool, int64, error) { return (*handle)(f).at(path) }

func (f *file) Size() (int64, error) {
	if f.p.dead.Load() {
		return 0, errDead
	}
	return int64(len(f.ino.data)), nil
}

func (f *file) Truncate(size int64) error {
	return f.p.step("cuts", f.path, true, func() (any, error) {
		f.ino.data = slices.Clone(f.ino.data)[:min(size, int64(len(f.ino.data)))]
		return nil, nil
	})
}

func (f *file) ReadAt(b []byte, off int64) (n int, err error) {
	err = f.p.step("reads", f.path, true, func() (any, error) {
		n = copy(b, f.ino.data[min(off, int64(len(f.ino.data))):])
		return b[:n], nil
	})
	if err == nil && n < len(b) {
		err = io.EOF
	}
	return n, err
}

// WriteAt takes two steps where something is overwritten: a reader that comes in between
// sees it half done, as do all if the process dies there. No other process knows a file
// that has not been written before.
func (f *file) WriteAt(b []byte, off int64) (int, error) {
	half := 0
	if old := f.ino.data; len(f.ino.whole) > 0 && !f.p.dead.Load() {
		half = middle(old[min(off, int64(len(old))):], b)
	}
	if half > 0 {
		if err := f.p.step("writes, half way,", f.path, true, func() (any, error) {
			f.put(b[:half], off)
			f.p.half = true
			return nil, nil
		}); err != nil {
			f.p.half = false
			return 0, err
		}
	}
	err := f.p.step("writes", f.path, true, func() (any, error) {
		f.put(b[half:], off+int64(half))
		f.p.half = false
		f.ino.whole = f.ino.data
		return b, nil
	})
	return len(b), err
}

// middle returns an index that lies between the bytes in which the two differ.
func middle(old, b []byte) int {
	first, last := -1, 0
	for i := range min(len(old), len(b)) {
		if old[i] != b[i] {
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	if first < 0 {
		return 0
	}
	return (first + last + 1) / 2
}

func (f *file) put(b []byte, off int64) {
	data := make([]byte, max(len(f.ino.data), int(off)+len(b)))
	copy(data, f.ino.data)
	copy(data[off:], b)
	f.ino.data = data
}

func (f *file) Close() error {
	if !f.p.dead.Load() { // else the kernel has closed it
		(*handle)(f).close()
	}
	return nil
}

// Held reports whether a lock is held still.
func Held(l disk.Lock) bool { return slices.Contains(l.(*held).ino.locks, (*handle)(l.(*held))) }

// Whole returns what the file holds, as the last write that has ended has left it.
func Whole(f disk.File) []byte { return f.(*file).ino.whole }

// held is a locked file.
type held handle

func (l *held) Number() uint64 { return l.ino.number }

func (l *held) Is(f disk.File) bool { return f.(*file).ino == l.ino }

func (l *held) At(path string) (bool, error) {
	same, _, err := (*handle)(l).at(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return same, err
}

func (l *held) Unlock() error {
	return l.p.step("unlocks", l.path, false, func() (any, error) {
		(*handle)(l).close()
		return nil, nil
	})
}
