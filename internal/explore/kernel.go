// Package explore runs processes on a simulated kernel, one system call at a time,
// and tries every order in which their calls can come.
//
// What is simulated is what the lease file relies on: names that lead to inodes,
// writes in place that can be seen half done, renames, locks of open files that go
// with their process, and a clock that all processes share.
package explore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Kernel is a machine with one folder.
type Kernel struct {
	telling sync.Mutex // of Trace
	now     time.Duration
	names   map[string]*inode
	procs   []*Process

	// WallGoes: the wall clock runs with the other. Else it is stopped.
	WallGoes bool

	// OnHeld is called when a process asks which process it holds, and OnKill before it
	// kills that.
	OnHeld, OnKill func(by, of *Process)

	// Record keeps the steps as human-readable text; Show says what a file's content
	// means.
	Record bool
	Show   func([]byte) string
	Trace  []string
}

// NewKernel returns a machine with an empty folder, whose clock shows 0.
func NewKernel() *Kernel { return &Kernel{names: map[string]*inode{}} }

// Now is what the clock shows; Advance moves it on.
func (k *Kernel) Now() time.Duration      { return k.now }
func (k *Kernel) Advance(d time.Duration) { k.now += d }

// Unlink removes a name, as a program does that is not one of the processes.
func (k *Kernel) Unlink(path string) { delete(k.names, path) }

// Copy puts a copy of the file in its place, Truncate truncates it to zero bytes.
func (k *Kernel) Copy(path string) {
	ino := *k.names[path]
	ino.number += 900 // no process makes this many
	ino.locks = nil
	k.names[path] = &ino
}

func (k *Kernel) Truncate(path string) { k.names[path].data = nil }

// Exists reports whether the name is there.
func (k *Kernel) Exists(path string) bool { return k.names[path] != nil }

// An inode is a file, whatever names and handles lead to it.
type inode struct {
	number uint64
	data   []byte
	whole  []byte    // data as the last write that has ended has left it
	locks  []*handle // one that is exclusive, or several that are not
}

// A handle is an open file of a process.
type handle struct {
	p         *Process
	ino       *inode
	path      string
	exclusive bool // of its lock, if it has one
}

func (h *handle) lock(exclusive bool) bool {
	for _, other := range h.ino.locks {
		if exclusive || other.exclusive {
			return false
		}
	}
	h.exclusive = exclusive
	h.ino.locks = append(h.ino.locks, h)
	return true
}

func (h *handle) close() {
	h.ino.locks = slices.DeleteFunc(h.ino.locks, func(l *handle) bool { return l == h })
	h.p.open = slices.DeleteFunc(h.p.open, func(o *handle) bool { return o == h })
}

// A Hash digests states.
type Hash struct{ maphash.Hash }

// seed is one for all: the keys of one run can be compared.
var seed = maphash.MakeSeed()

// NewHash returns an empty one.
func NewHash() *Hash {
	h := new(Hash)
	h.SetSeed(seed)
	return h
}

// Int adds a number, Bytes a text with its length.
func (h *Hash) Int(n uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	_, _ = h.Write(b[:])
}

func (h *Hash) Bytes(b []byte) {
	h.Int(uint64(len(b)))
	_, _ = h.Write(b)
}

// Sum adds the state of the kernel to a hash: all that any process can come to
// see. Files that no name and no handle leads to are gone.
func (k *Kernel) Sum(h *Hash) {
	h.Int(uint64(k.now))
	for _, name := range slices.Sorted(maps.Keys(k.names)) {
		h.Bytes([]byte(name))
		k.names[name].sum(h)
	}
	for _, p := range k.procs {
		h.Int(uint64(len(p.open)))
		for _, o := range p.open {
			o.ino.sum(h)
		}
		h.Int(p.seen)
		h.Int(bits(p.pending != nil, p.half, p.slept, p.Dead()))
	}
}

func bits(all ...bool) (n uint64) {
	for i, b := range all {
		if b {
			n |= 1 << i
		}
	}
	return n
}

func (ino *inode) sum(h *Hash) {
	h.Int(ino.number)
	h.Bytes(ino.data)
	if !bytes.Equal(ino.whole, ino.data) {
		h.Bytes(ino.whole)
	}
	// The number of its process identifies a lock's holder: a process never holds two of
	// one file and one kind.
	locks := uint64(0)
	for _, l := range ino.locks {
		bit := uint64(1) << (2 * l.p.number)
		if l.exclusive {
			bit <<= 1
		}
		locks += bit
	}
	h.Int(locks)
}

// tell records a step in the trace.
func (k *Kernel) tell(parts ...string) {
	if k.Record {
		k.Note("%s", strings.Join(parts, " "))
	}
}

// Note keeps a remark among the steps.
func (k *Kernel) Note(format string, args ...any) {
	if k.Record {
		k.telling.Lock()
		defer k.telling.Unlock()
		k.Trace = append(k.Trace, fmt.Sprintf(format, args...))
	}
}

// NoteAfter puts a remark on an action before the steps of a process that the action has
// started: a free process takes them without waiting for Step.
func (k *Kernel) NoteAfter(do func(), remark func() string) {
	if !k.Record {
		do()
		return
	}
	k.telling.Lock()
	defer k.telling.Unlock()
	do()
	k.Trace = append(k.Trace, remark())
}
