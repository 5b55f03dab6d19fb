package owner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/uuid"

	"github.com/ownerlease/owner/internal/clock"
	"github.com/ownerlease/owner/internal/disk"
	"github.com/ownerlease/owner/internal/leasename"
)

// These tests run the file store on the real file system. Those that need time to
// pass run in a bubble: its clock jumps, the files are real.

func leasePath(t testing.TB) string { return filepath.Join(t.TempDir(), "x.lease") }

func joinFile(t testing.TB, path string, change ...func(*Config)) *Owner {
	t.Helper()
	o, err := tryJoin(t, path, change...)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// tryJoin joins with a TTL that no test outlasts, and cleans up.
func tryJoin(t testing.TB, path string, change ...func(*Config)) (*Owner, error) {
	cfg := Config{LeasePath: path, TTL: time.Minute, Endpoint: "unix:/run/x.sock"}
	for _, f := range change {
		f(&cfg)
	}
	if cfg.Store == nil {
		s, err := newFileStore(path)
		must(t, err)
		cfg.Store = unwatchedStore{s}
	}
	o, err := Join(context.Background(), cfg)
	if err == nil {
		t.Cleanup(func() { release(o) })
	}
	return o, err
}

// release frees all that an Owner holds, also after a loss: where files are open,
// Windows does not let a test's folder be removed.
func release(o *Owner) {
	_ = o.Release()
	if o.a.lease != nil {
		done := make(chan struct{})
		o.a.work.put(func() {
			_ = o.a.lease.Release(context.Background())
			close(done)
		})
		<-done
	}
}

// plant puts a record in a lease's place, as an instance would have written it.
func plant(t testing.TB, path string, change func(*diskHead, *diskTail)) diskHead {
	t.Helper()
	f, err := disk.OS.Open(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	must(t, err)
	defer f.Close()
	h := diskHead{
		InstanceID: uuid.NewString(), PID: 4711, Host: "elsewhere", Epoch: 7, AcquiredAt: time.Now(),
		TTL: "1m0s", Clock: clock.Domain(), File: f.Number(),
	}
	tail := diskTail{RenewedAt: time.Now(), Heartbeat: clock.Now()}
	if change != nil {
		change(&h, &tail)
	}
	enc, err := newEncoder(h)
	must(t, err)
	_, err = f.WriteAt(enc.encode(tail), 0)
	must(t, err)
	return h
}

// earlierBoot is a clock of this machine before its last boot.
func earlierBoot(t testing.TB) string {
	fields := strings.Fields(clock.Domain())
	if len(fields) < 2 {
		t.Skip("this system has no id of a boot")
	}
	fields[1] = uuid.NewString()
	return strings.Join(fields, " ")
}

// liveOwner makes an instance seem alive by holding its lock.
func liveOwner(t testing.TB, path, id string) {
	t.Helper()
	l := flock.New(leasename.Alive(path, id))
	if ok, err := l.TryLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	t.Cleanup(func() { _ = l.Unlock() })
}

// die leaves an alive file that no process locks, as a process that was killed does.
func die(t testing.TB, path, id string) {
	t.Helper()
	must(t, os.WriteFile(leasename.Alive(path, id), nil, 0o600))
}

// storeAt is the lease at path, as this process sees it.
func storeAt(path string) *fileStore { return &fileStore{process: thisProcess, path: path} }

func lockGuard(path string) (*guard, error) { return storeAt(path).lockGuard(uuid.NewString()) }

func readFile(path string) (*diskRecord, error) { return storeAt(path).readFile() }

// withClock is the lease at path, for a process whose clock is the function.
func withClock(path string, now func() time.Duration) *fileStore {
	return &fileStore{process: &process{host: otherClock{thisHost{disk.OS}, now}}, path: path}
}

type otherClock struct {
	thisHost
	now func() time.Duration
}

func (c otherClock) Now() time.Duration { return c.now() }

func must(tb testing.TB, errs ...error) {
	if err := errors.Join(errs...); err != nil {
		tb.Helper()
		tb.Fatal(err)
	}
}

// watched is for tests of hints. The others want to see what happens without: they
// renew by hand, or run in a bubble, where time does not pass while a goroutine
// waits for the kernel.
func watched(c *Config) {
	s, err := newFileStore(c.LeasePath)
	if err != nil {
		panic(err)
	}
	c.Store = s
}

type unwatchedStore struct{ *fileStore }

func (unwatchedStore) Watch(Record, func()) (func(), error) { return func() {}, nil }

func (unwatchedStore) watchUntil(Record, bool, func() bool) (func(), bool, error) {
	return func() {}, false, nil
}

// bubble runs a test of the file store on simulated time.
func bubble(t *testing.T, f func(t *testing.T)) {
	if runtime.GOOS == "windows" {
		t.Skip("the file store's clock on Windows is the kernel's and not Go's, and cannot be simulated")
	}
	synctest.Test(t, f)
}

// notOnWindows is for tests that remove or move open files, which Windows prevents.
func notOnWindows(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not remove or move what is open")
	}
}

// What is in the lease's place decides which process may own.
func TestJoinFindsTheLease(t *testing.T) {
	const free = "free"
	for _, tc := range []struct {
		name    string
		prepare func(t *testing.T, path string) // the lease as it is found
		want    any                             // free, an error, or nil: held
	}{
		{"no record", func(*testing.T, string) {}, free},
		{"an empty file", func(t *testing.T, p string) { must(t, os.WriteFile(p, nil, 0o600)) }, free},
		{"zeros after a power loss", func(t *testing.T, p string) { must(t, os.WriteFile(p, make([]byte, 512), 0o600)) }, free},
		{"released", func(t *testing.T, p string) {
			liveOwner(t, p, plant(t, p, func(_ *diskHead, tail *diskTail) { tail.Released = true }).InstanceID)
		}, free},
		{"a dead owner", func(t *testing.T, p string) { die(t, p, plant(t, p, nil).InstanceID) }, free},
		{"a live owner", func(t *testing.T, p string) { liveOwner(t, p, plant(t, p, nil).InstanceID) }, nil},
		{"hung, expired by its own TTL and not ours", func(t *testing.T, p string) {
			liveOwner(t, p, plant(t, p, func(h *diskHead, tail *diskTail) { h.TTL = "1s"; tail.Heartbeat -= time.Second }).InstanceID)
		}, free},
		{"hung, a moment before its expiry", func(t *testing.T, p string) {
			liveOwner(t, p, plant(t, p, func(h *diskHead, tail *diskTail) { h.TTL = "2h"; tail.Heartbeat -= 2*time.Hour - time.Minute }).InstanceID)
		}, nil},
		{"its alive file was cleaned away", func(t *testing.T, p string) { plant(t, p, nil) }, nil},
		{"cleaned away, and expired", func(t *testing.T, p string) {
			plant(t, p, func(_ *diskHead, tail *diskTail) { tail.Heartbeat -= time.Minute })
		}, free},
		{"dead, of an earlier boot", func(t *testing.T, p string) {
			die(t, p, plant(t, p, func(h *diskHead, tail *diskTail) { h.Clock = "another boot"; tail.Heartbeat += time.Hour }).InstanceID)
		}, free},
		{"of an earlier boot, and its alive file cleaned away", func(t *testing.T, p string) {
			plant(t, p, func(h *diskHead, tail *diskTail) { h.Clock = earlierBoot(t); tail.Heartbeat += time.Hour })
		}, free},
		{"of another boot, and locked by its second name", func(t *testing.T, p string) {
			h := plant(t, p, func(h *diskHead, tail *diskTail) { h.Clock = earlierBoot(t) })
			liveOwner(t, p, h.InstanceID)
			must(t, os.WriteFile(leasename.Alive(p, h.InstanceID), []byte(aliveMark), 0o600),
				os.Link(leasename.Alive(p, h.InstanceID), leasename.Last(p)), os.Remove(leasename.Alive(p, h.InstanceID)))
		}, nil},
		{"of another boot, and its owner is alive", func(t *testing.T, p string) {
			liveOwner(t, p, plant(t, p, func(h *diskHead, tail *diskTail) { h.Clock = earlierBoot(t) }).InstanceID)
		}, nil},
		{"a heartbeat in the future", func(t *testing.T, p string) {
			liveOwner(t, p, plant(t, p, func(_ *diskHead, tail *diskTail) { tail.Heartbeat += time.Hour }).InstanceID)
		}, nil},
		{"another clock, and old by ours", func(t *testing.T, p string) {
			liveOwner(t, p, plant(t, p, func(h *diskHead, tail *diskTail) { h.Clock = "another"; tail.Heartbeat -= time.Hour }).InstanceID)
		}, nil},
		{"no record, but a live instance", func(t *testing.T, p string) { liveOwner(t, p, uuid.NewString()) }, nil},
		{"no record, and dead instances", func(t *testing.T, p string) { die(t, p, uuid.NewString()); die(t, p, uuid.NewString()) }, free},
		{"no record, and half of one that was never published", func(t *testing.T, p string) {
			must(t, os.WriteFile(leasename.Temp(p, uuid.NewString()), []byte("half"), 0o600))
		}, free},
		{"truncated, and its owner is alive", func(t *testing.T, p string) {
			liveOwner(t, p, plant(t, p, nil).InstanceID)
			must(t, os.Truncate(p, 200))
		}, ErrCorruptRecord},
		{"truncated, and its owner is dead", func(t *testing.T, p string) {
			die(t, p, plant(t, p, nil).InstanceID)
			must(t, os.Truncate(p, 200))
		}, free},
		{"a copy of a live owner's record", func(t *testing.T, p string) {
			liveOwner(t, p, plant(t, p, nil).InstanceID)
			b, err := os.ReadFile(p)
			must(t, err, os.WriteFile(p+".copy", b, 0o600), disk.OS.Replace(p+".copy", p))
		}, ErrCorruptRecord},
		{"an id that is a path", func(t *testing.T, p string) {
			liveOwner(t, p, uuid.NewString())
			plant(t, p, func(h *diskHead, _ *diskTail) { h.InstanceID = "../../../etc/passwd" })
		}, ErrCorruptRecord},
		{"a newer version", func(t *testing.T, p string) {
			must(t, os.WriteFile(p, []byte(formatPrefix+"2\"\n}\n"), 0o600))
		}, ErrCorruptRecord},
		{"another format", func(t *testing.T, p string) {
			must(t, os.WriteFile(p, []byte("precious: data\n"), 0o600))
		}, ErrCorruptRecord},
		{"JSON of another program", func(t *testing.T, p string) {
			must(t, os.WriteFile(p, []byte(`{"instance_id": "x"}`), 0o600))
		}, ErrCorruptRecord},
		{"too large", func(t *testing.T, p string) {
			must(t, os.WriteFile(p, bytes.Repeat([]byte("x"), 1<<20), 0o600))
		}, ErrCorruptRecord},
		{"a folder", func(t *testing.T, p string) { must(t, os.Mkdir(p, 0o700)) }, ErrInvalidConfig},
		{"a link", func(t *testing.T, p string) {
			plant(t, p+".real", nil)
			if err := os.Symlink(p+".real", p); err != nil {
				t.Skip(err)
			}
		}, ErrInvalidConfig},
		{"a folder in the guard's place", func(t *testing.T, p string) { must(t, os.Mkdir(leasename.Guard(p), 0o700)) }, ErrInvalidConfig},
		{"a missing folder", func(t *testing.T, p string) { must(t, os.Remove(filepath.Dir(p))) }, fs.ErrNotExist},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := leasePath(t)
			tc.prepare(t, p)
			before, _ := os.ReadFile(p)
			o, err := tryJoin(t, p)
			switch want := tc.want.(type) {
			case error:
				if !errors.Is(err, want) || !strings.Contains(err.Error(), filepath.Base(filepath.Dir(p))) {
					t.Fatalf("got %v, want %v that names the path", err, want)
				}
			case string:
				if err != nil || !o.IsOwner() {
					t.Fatalf("not the owner: %v", err)
				}
				return
			default:
				if err != nil || o.IsOwner() || o.InstanceID() == "" {
					t.Fatalf("got %v; want a follower that knows the holder", err)
				}
			}
			if after, _ := os.ReadFile(p); !bytes.Equal(before, after) {
				t.Error("what was there has been changed")
			}
			if left, _ := filepath.Glob(p + ".*.tmp"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// Where clocks cannot be compared, a full TTL of watching decides, also over many
// calls of Join.
func TestWatchedHolderExpires(t *testing.T) {
	for name, change := range map[string]func(*diskHead, *diskTail){
		"of another clock":           func(h *diskHead, tail *diskTail) { h.Clock = "another"; tail.Heartbeat -= time.Hour },
		"of no clock":                func(h *diskHead, tail *diskTail) { h.Clock = ""; tail.Heartbeat -= time.Hour },
		"with a heartbeat in future": func(_ *diskHead, tail *diskTail) { tail.Heartbeat += time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := leasePath(t)
				liveOwner(t, p, plant(t, p, change).InstanceID)
				start := time.Now()
				for time.Since(start) < time.Minute {
					if joinFile(t, p).IsOwner() {
						t.Fatalf("took over after %v", time.Since(start))
					}
					time.Sleep(time.Second - 1)
				}
				time.Sleep(time.Second)
				if !joinFile(t, p).IsOwner() {
					t.Error("did not take over after a full TTL")
				}
			})
		})
	}
}

func TestWatchedHolderThatRenews(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := leasePath(t)
		h := plant(t, p, func(h *diskHead, _ *diskTail) { h.Clock = "another" })
		liveOwner(t, p, h.InstanceID)
		for range 10 {
			time.Sleep(40 * time.Second)
			h.File = 0
			id := h.InstanceID
			plant(t, p, func(h *diskHead, _ *diskTail) { h.Clock, h.InstanceID = "another", id })
			if joinFile(t, p).IsOwner() {
				t.Fatal("took over from an owner that renews")
			}
		}
	})
}

// A challenger must not own before a hung owner's lease has expired, and can at that
// moment, though the owner's process still holds its alive lock.
func TestTakeoverOfAHungOwner(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := leasePath(t)
		start := time.Now()
		old := joinFile(t, p)
		answer := make(chan struct{})
		old.a.work.put(func() { <-answer }) // the store hangs: its next call does not begin
		<-old.Lost()
		if d := time.Since(start); d != 45*time.Second {
			t.Errorf("lost after %v", d)
		}
		time.Sleep(15*time.Second - time.Millisecond)
		if joinFile(t, p).IsOwner() {
			t.Error("owns before the lease has expired")
		}
		time.Sleep(2 * time.Millisecond) // the record's reading is some microseconds later than start
		successor := joinFile(t, p)
		if !successor.IsOwner() || successor.Epoch() <= old.Epoch() {
			t.Error("does not own after the lease has expired")
		}
		close(answer)
		synctest.Wait()
		if !successor.IsOwner() || successor.a.lease.Renew(t.Context(), clock.Now()) != nil {
			t.Error("the old owner's end has disturbed its successor")
		}
	})
}

func TestEpochOnlyGrows(t *testing.T) {
	p := leasePath(t)
	var last uint64
	own := func(why string) *Owner {
		t.Helper()
		o := joinFile(t, p)
		if !o.IsOwner() || o.Epoch() <= last {
			t.Fatalf("%s: owner %v, epoch %d after %d", why, o.IsOwner(), o.Epoch(), last)
		}
		last = o.Epoch()
		return o
	}
	for range 20 {
		must(t, own("after a release").Release())
	}
	must(t, os.Remove(p))
	must(t, own("after the record was deleted").Release())
	must(t, os.Truncate(p, 100))
	must(t, own("after the record was damaged").Release())

	// The wall clock has been set back: only the files remember.
	future := uint64(time.Now().Add(100 * time.Hour).UnixMilli())
	die(t, p, plant(t, p, func(h *diskHead, _ *diskTail) { h.Epoch = future }).InstanceID)
	must(t, own("after a clock step").Release())
	if last != future+1 {
		t.Errorf("epoch %d, want %d", last, future+1)
	}
	must(t, os.Remove(p))
	must(t, own("after a clock step, the record deleted").Release())
	must(t, os.Remove(p), os.Remove(leasename.Guard(p)))
	if now := uint64(time.Now().UnixMilli()); joinFile(t, p).Epoch() < now {
		t.Error("without any memory the epoch is below the wall clock")
	}
}

// Two that check a dead owner at the same time must not take each other for it.
func TestLookingDisturbsNobody(t *testing.T) {
	p := leasePath(t)
	id := plant(t, p, nil).InstanceID
	die(t, p, id)
	other := flock.New(leasename.Alive(p, id))
	if ok, err := other.TryRLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	defer other.Unlock()
	if !joinFile(t, p).IsOwner() {
		t.Error("a reader was taken for the owner")
	}
}

// An acquisition that fails half way leaves the lease as it was for the next.
func TestLeftovers(t *testing.T) {
	p := leasePath(t)
	must(t, joinFile(t, p).Release())
	// A challenger that was killed in the guard, after it had made its files.
	crashed := uuid.NewString()
	die(t, p, crashed)
	must(t, os.WriteFile(leasename.Temp(p, crashed), []byte(formatPrefix), 0o600))
	g, err := lockGuard(p)
	must(t, err, g.saveLast(lastAcquirer{InstanceID: crashed, PID: 4711, Epoch: 1}))
	g.unlock()
	// And an owner that was killed.
	die(t, p, plant(t, p, nil).InstanceID)

	o := joinFile(t, p)
	if !o.IsOwner() {
		t.Fatal("not the owner")
	}
	names := fileNames(t, p)
	want := fmt.Sprintf("[x.lease x.lease.%s.alive x.lease.last x.lease.lock]", o.InstanceID())
	if fmt.Sprint(names) != want {
		t.Errorf("%v\nwant %s", names, want)
	}
	must(t, o.Release())
	want = "[x.lease x.lease.lock]"
	if runtime.GOOS == "windows" { // which removes no name of an open file: L.last stays, as after a kill
		want = "[x.lease x.lease.last x.lease.lock]"
	}
	if names := fileNames(t, p); fmt.Sprint(names) != want {
		t.Errorf("after the release: %v", names)
	}
}

func fileNames(t *testing.T, path string) (names []string) {
	entries, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
		if info, err := e.Info(); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
	return names
}

func TestRenewInPlace(t *testing.T) {
	p := leasePath(t)
	o := joinFile(t, p)
	before, err := os.Stat(p)
	must(t, err)
	epoch := o.Epoch()
	for i := range 100 {
		must(t, o.a.lease.Renew(context.Background(), clock.Now()))
		r, err := Inspect(p)
		if err != nil || r.Epoch != epoch || r.InstanceID != o.InstanceID() {
			t.Fatalf("renewal %d: %+v, %v", i, r, err)
		}
	}
	after, err := os.Stat(p)
	must(t, err)
	if !os.SameFile(before, after) || before.Size() != after.Size() {
		t.Error("a renewal has made another file, or one of another size")
	}
}

// The order of the readings that the argument in docs/design.md rests on: an owner
// renews right after the challenger has read its clock, and the challenger sees it.
func TestClockIsReadBeforeTheRecord(t *testing.T) {
	p := leasePath(t)
	o := joinFile(t, p)
	now := clock.Now()
	must(t, o.a.lease.Renew(t.Context(), now))
	s := withClock(p, func() time.Duration {
		now += time.Minute // the lease, as it was until now, has just expired
		must(t, o.a.lease.Renew(t.Context(), now))
		return now
	})
	if acq, err := s.Acquire(t.Context(), Record{InstanceID: uuid.NewString(), TTL: time.Minute}); err != nil || acq.Lease != nil {
		t.Errorf("took over from an owner that had renewed: %+v, %v", acq, err)
	}
}

// What a new ownership's validity counts from is read before its record is
// written.
func TestValidityCountsFromBeforeTheWrite(t *testing.T) {
	p := leasePath(t)
	written := map[time.Duration]bool{} // at that reading, something was
	now := clock.Now()
	s := withClock(p, func() time.Duration {
		now++
		files, err := filepath.Glob(p + ".*.tmp")
		must(t, err)
		for _, f := range append(files, p) {
			if info, err := os.Stat(f); err == nil && info.Size() > 0 {
				written[now] = true
			}
		}
		return now
	})
	acq, err := s.Acquire(t.Context(), Record{InstanceID: uuid.NewString(), TTL: time.Minute})
	must(t, err, acq.Lease.Release(t.Context()))
	if acq.From == 0 || written[acq.From] {
		t.Errorf("counts from %v, when the record was there", acq.From)
	}
}

// A heartbeat of another clock is watched from after the reading that showed it.
func TestWatchingBeginsAfterTheReading(t *testing.T) {
	p := leasePath(t)
	liveOwner(t, p, plant(t, p, func(h *diskHead, _ *diskTail) { h.Clock = "another" }).InstanceID)
	var now time.Duration
	s := withClock(p, func() time.Duration { now += time.Second; return now })
	seen, err := s.read()
	must(t, err)
	if left := s.remaining(seen); left <= time.Minute {
		t.Errorf("%v of a TTL of a minute are left", left)
	}
}

// A process that is stopped while it holds the guard: safe, and the others get an error.
func TestGuardHeldForLong(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := leasePath(t)
		g, err := lockGuard(p)
		must(t, err)
		start := time.Now()
		_, err = tryJoin(t, p)
		took := time.Since(start)
		if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), leasename.Guard(p)) || took < 25*time.Second || took > 35*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
		g.unlock()
		synctest.Wait()
		if !joinFile(t, p).IsOwner() {
			t.Error("not free afterwards")
		}
	})
}
