package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/leasename"
)

// A fault is something that happens to a lease, its files, or its processes.
type fault struct {
	name  string
	often int // in each round of all faults
	kind  kind
	do    func(*leaseRun, *rand.Rand) error
}

type kind int

const (
	ofProcess kind = iota
	ofStop         // the lease may stay free meanwhile; others can come beside it
	ofFile         // one after another: see lane.settled
	ofDisk         // of the lease's own disk; the lease may stay free meanwhile
)

var faults []fault

// A function, as faults do faults.
func init() {
	faults = []fault{
		{"kill", 3, ofProcess, (*leaseRun).kill},
		{"stop", 4, ofStop, (*leaseRun).stop},
		{"fork", 1, ofProcess, (*leaseRun).fork},
		{"revoke", 1, ofProcess, (*leaseRun).revoke},
		{"remove-record", 1, ofFile, (*leaseRun).removeRecord},
		{"remove-guard", 1, ofFile, (*leaseRun).removeGuard},
		{"remove-alive", 1, ofFile, (*leaseRun).removeAlive},
		{"remove-last", 1, ofFile, (*leaseRun).removeLast},
		{"remove-two", 1, ofFile, (*leaseRun).removeTwo},
		{"cut", 1, ofFile, (*leaseRun).cut},
		{"damage", 1, ofFile, (*leaseRun).damage},
		{"copy", 1, ofFile, (*leaseRun).putCopy},
		{"exchange", 1, ofFile, (*leaseRun).putOld},
		{"freeze", 1, ofDisk, (*leaseRun).freeze},
		{"full", 1, ofDisk, (*leaseRun).full},
		{"readonly", 1, ofDisk, (*leaseRun).readOnly},
	}
}

func names() []string {
	var all []string
	for _, f := range faults {
		all = append(all, f.name)
	}
	return all
}

// choose returns the faults that are wanted. What this machine does not allow is left
// out and said, unless it was asked for by name: then it is an error.
func (o *options) choose(out io.Writer) ([]fault, error) {
	asked := strings.FieldsFunc(o.faults, func(r rune) bool { return r == ',' })
	for _, name := range asked {
		if !slices.Contains(names(), name) {
			return nil, fmt.Errorf("there is no fault %q; there are %s", name, strings.Join(names(), ", "))
		}
	}
	can := map[kind]error{ofStop: canStop(), ofDisk: canDisk()}
	var chosen []fault
	for _, f := range faults {
		named := slices.Contains(asked, f.name)
		switch why := can[f.kind]; {
		case len(asked) > 0 && !named:
		case why != nil && named:
			return nil, fmt.Errorf("%s: %w", f.name, why)
		case why != nil:
			fmt.Fprintf(out, "without %s: %v\n", f.name, why)
		default:
			chosen = append(chosen, f)
		}
	}
	return chosen, nil
}

// errNotNow: what the fault is to be done to is not there at this moment.
var errNotNow = errors.New("not at this moment")

func notNow(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errNotNow
	}
	return err
}

// kill kills the owner, or any worker, and starts another.
func (l *leaseRun) kill(rng *rand.Rand) error {
	i := l.target(rng)
	if err := l.workers[i].kill(); err != nil {
		return err
	}
	return l.hire(i)
}

// stop stops the owner, any worker, or all, for anything from a moment to several TTLs.
func (l *leaseRun) stop(rng *rand.Rand) error {
	victims := []*process{l.workers[l.target(rng)]}
	if rng.IntN(6) == 0 {
		victims, l.whom = slices.Clone(l.workers), nil
		for _, p := range victims {
			l.whom = append(l.whom, p.name)
		}
	}
	for _, p := range victims {
		defer p.resume() // which may be dead by then
		if err := p.stop(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	long := exponential(rng, time.Microsecond, 3*longestTTL)
	if long > 10*time.Millisecond && rng.IntN(2) == 0 {
		l.rest(long / 2)
		if err := l.beside(rng); err != nil {
			return err
		}
		long /= 2
	}
	l.rest(long)
	return nil
}

// fork makes the owner start processes, and often kills it meanwhile: what they have
// inherited for a moment must not keep its lock.
func (l *leaseRun) fork(rng *rand.Rand) error {
	i := l.target(rng)
	if err := l.workers[i].tell(fmt.Sprint("fork ", 1+rng.IntN(8))); err != nil {
		return errNotNow // it is dying
	}
	if rng.IntN(2) == 0 {
		return nil
	}
	l.rest(exponential(rng, 10*time.Microsecond, 10*time.Millisecond))
	if err := l.workers[i].kill(); err != nil {
		return err
	}
	return l.hire(i)
}

// revoke revokes the lease.
func (l *leaseRun) revoke(rng *rand.Rand) error {
	if l.workers[rng.IntN(len(l.workers))].tell("revoke") != nil {
		return errNotNow
	}
	return nil
}

func (l *leaseRun) removeRecord(*rand.Rand) error { return notNow(os.Remove(l.path)) }
func (l *leaseRun) removeGuard(*rand.Rand) error  { return notNow(os.Remove(leasename.Guard(l.path))) }

func (l *leaseRun) removeAlive(*rand.Rand) error {
	rec, err := owner.Inspect(l.path)
	if err != nil {
		return errNotNow
	}
	return notNow(os.Remove(leasename.Alive(l.path, rec.InstanceID)))
}

func (l *leaseRun) removeLast(*rand.Rand) error { return notNow(os.Remove(leasename.Last(l.path))) }

// removeTwo removes any two of a live owner's files, at once.
func (l *leaseRun) removeTwo(rng *rand.Rand) error {
	rec, err := owner.Inspect(l.path)
	if err != nil {
		return errNotNow
	}
	files := []string{l.path, leasename.Guard(l.path), leasename.Alive(l.path, rec.InstanceID), leasename.Last(l.path)}
	rng.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	one, other := os.Remove(files[0]), os.Remove(files[1])
	if one != nil && other != nil {
		return notNow(one)
	}
	return nil
}

// cut cuts the record short, to any length.
func (l *leaseRun) cut(rng *rand.Rand) error {
	info, err := os.Stat(l.path)
	if err != nil {
		return notNow(err)
	}
	return notNow(os.Truncate(l.path, rng.Int64N(max(1, info.Size()))))
}

// damage changes one byte of the record. Not in the first line, without which the library
// would not know it as a record, and leave it alone.
func (l *leaseRun) damage(rng *rand.Rand) error {
	f, err := os.OpenFile(l.path, os.O_RDWR, 0)
	if err != nil {
		return notNow(err)
	}
	defer f.Close()
	var b [4096]byte
	n, _ := f.ReadAt(b[:], 0)
	if n < 100 {
		return errNotNow
	}
	at := 50 + rng.IntN(n-50)
	_, err = f.WriteAt([]byte{b[at] ^ byte(1+rng.IntN(255))}, int64(at))
	return err
}

// putCopy puts a copy of the record of a former owner in the place of the present
// one's; putOld that record itself.
func (l *leaseRun) putCopy(*rand.Rand) error {
	old, err := os.ReadFile(l.path)
	if err != nil {
		return notNow(err)
	}
	if err := l.awaitAnother(); err != nil {
		return err
	}
	if err := os.WriteFile(l.backupPath, old, 0o600); err != nil {
		return err
	}
	return os.Rename(l.backupPath, l.path)
}

func (l *leaseRun) putOld(*rand.Rand) error {
	_ = os.Remove(l.backupPath) // from an attempt before
	if err := os.Link(l.path, l.backupPath); err != nil {
		return notNow(err)
	}
	if err := l.awaitAnother(); err != nil {
		return err
	}
	return os.Rename(l.backupPath, l.path)
}

// The disk's faults. A frozen one lets every write hang, and a process that hangs in one
// does not die before it is thawed. A renewal that has hung and still came in time counts
// from its beginning: an owner that is stopped soon after depends on that.
func (l *leaseRun) freeze(rng *rand.Rand) error {
	if err := l.disk.ask("freeze"); err != nil {
		return err
	}
	long := exponential(rng, time.Millisecond, 2*longestTTL)
	l.rest(long / 2)
	var killing error
	if rng.IntN(3) == 0 {
		killing = l.kill(rng)
	}
	l.rest(long / 2)
	if err := errors.Join(killing, l.disk.ask("thaw")); err != nil || !l.d.chose("stop") || rng.IntN(2) == 0 {
		return err
	}
	l.rest(exponential(rng, 100*time.Microsecond, 10*time.Millisecond))
	return l.stop(rng)
}

func (l *leaseRun) full(rng *rand.Rand) error {
	err := l.disk.ask("fill")
	l.rest(exponential(rng, time.Millisecond, 2*longestTTL))
	return errors.Join(err, l.disk.ask("drain"))
}

// readOnly makes the kernel find an error on the disk and make it read-only, for good.
// Only a repair makes it writable again, during which no process may use it.
func (l *leaseRun) readOnly(rng *rand.Rand) error {
	if err := l.disk.ask("fail"); err != nil {
		return err
	}
	l.rest(exponential(rng, time.Millisecond, 2*longestTTL))
	for _, p := range l.workers {
		if err := p.kill(); err != nil {
			return err
		}
	}
	for _, p := range l.workers {
		<-p.done
	}
	if err := l.disk.ask("repair"); err != nil {
		return err
	}
	for i := range l.workers {
		if err := l.hire(i); err != nil {
			return err
		}
	}
	return nil
}
