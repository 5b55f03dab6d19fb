package owner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/uuid"

	"github.com/ownerlease/owner/internal/clock"
	"github.com/ownerlease/owner/internal/leasename"
)

// contents is what is in a lease's folder, to the byte.
func contents(t testing.TB, path string) string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	var all strings.Builder
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(filepath.Dir(path), e.Name()))
		if e.IsDir() {
			b, err = []byte("a folder"), nil
		}
		must(t, err)
		fmt.Fprintf(&all, "%s: %q\n", e.Name(), b)
	}
	return all.String()
}

// A file in the place of one of the lease's that is not the lease's is refused and left
// as it is, and nothing is made beside it.
func TestOtherFilesAreLeftAlone(t *testing.T) {
	text := []byte("1\n2\n3\n")
	for name, prepare := range map[string]func(t *testing.T, p string){
		"a lock file of a package manager": func(t *testing.T, p string) { must(t, os.WriteFile(leasename.Guard(p), text, 0o600)) },
		"a large lock file":                func(t *testing.T, p string) { must(t, os.WriteFile(leasename.Guard(p), make([]byte, 1<<16), 0o600)) },
		"one byte":                         func(t *testing.T, p string) { must(t, os.WriteFile(leasename.Guard(p), []byte("x"), 0o600)) },
		"an empty lock file":               func(t *testing.T, p string) { must(t, os.WriteFile(leasename.Guard(p), nil, 0o600)) },
		"a lock file that is locked": func(t *testing.T, p string) {
			must(t, os.WriteFile(leasename.Guard(p), text, 0o600))
			l := flock.New(leasename.Guard(p))
			if ok, err := l.TryLock(); !ok {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Unlock() })
		},
		"a file by the second name":          func(t *testing.T, p string) { must(t, os.WriteFile(leasename.Last(p), text, 0o600)) },
		"an empty file by the second name":   func(t *testing.T, p string) { must(t, os.WriteFile(leasename.Last(p), nil, 0o600)) },
		"a record of another lease as guard": func(t *testing.T, p string) { plant(t, leasename.Guard(p), nil) },
		"a record by the second name":        func(t *testing.T, p string) { plant(t, leasename.Last(p), nil) },
		"a guard of another by second name": func(t *testing.T, p string) {
			must(t, os.WriteFile(leasename.Last(p), encodeGuard(lastAcquirer{}), 0o600))
		},
		"a file by the second name, and more": func(t *testing.T, p string) { must(t, os.WriteFile(leasename.Last(p), text, 0o600)); plantDead(t, p) },
		"a folder by the second name":         func(t *testing.T, p string) { must(t, os.Mkdir(leasename.Last(p), 0o700)) },
	} {
		t.Run(name, func(t *testing.T) {
			p := leasePath(t)
			prepare(t, p)
			before := contents(t, p)
			_, err := tryJoin(t, p)
			if !errors.Is(err, ErrInvalidConfig) || !strings.Contains(err.Error(), p+".la") && !strings.Contains(err.Error(), p+".lo") {
				t.Errorf("got %v, want an error that names the file", err)
			}
			if after := contents(t, p); !strings.HasPrefix(name, "a file by the second name, and") && after != before {
				t.Errorf("before:\n%safter:\n%s", before, after)
			}
		})
	}
}

// plantDead leaves a lease whose owner was killed.
func plantDead(t *testing.T, p string) {
	die(t, p, plant(t, p, nil).InstanceID)
}

// An alive file that was made on a full disk has no mark, and so has its second name. That
// name is recognized whichever two of the other files are removed.
func TestBlankSecondName(t *testing.T) {
	for name, without := range map[string]func(p, alive string) []string{
		"record and guard":      func(p, _ string) []string { return []string{p, leasename.Guard(p)} },
		"record and alive file": func(p, alive string) []string { return []string{p, alive} },
		"guard and alive file":  func(p, alive string) []string { return []string{leasename.Guard(p), alive} },
	} {
		t.Run(name, func(t *testing.T) {
			p := leasePath(t)
			id := plant(t, p, func(_ *diskHead, tail *diskTail) { tail.Heartbeat -= time.Hour }).InstanceID
			die(t, p, id)
			must(t, os.Link(leasename.Alive(p, id), leasename.Last(p)))
			g, err := lockGuard(p)
			must(t, err, g.saveLast(lastAcquirer{InstanceID: id, PID: 4711, Epoch: 7}))
			g.unlock()
			for _, file := range without(p, leasename.Alive(p, id)) {
				must(t, os.Remove(file))
			}
			if o, err := tryJoin(t, p); err != nil || !o.IsOwner() {
				t.Errorf("not the owner: %v", err)
			}
		})
	}
}

// What is no lease is refused before anything is made beside it.
func TestRefusalLeavesNothingBehind(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, p string){
		"text":            func(t *testing.T, p string) { must(t, os.WriteFile(p, []byte("precious"), 0o600)) },
		"a folder":        func(t *testing.T, p string) { must(t, os.Mkdir(p, 0o700)) },
		"a newer version": func(t *testing.T, p string) { must(t, os.WriteFile(p, []byte(formatPrefix+"2\"\n}\n"), 0o600)) },
	} {
		t.Run(name, func(t *testing.T) {
			p := leasePath(t)
			prepare(t, p)
			before := contents(t, p)
			if _, err := tryJoin(t, p); err == nil {
				t.Error("joined")
			}
			if _, err := Revoke(t.Context(), p); err == nil {
				t.Error("revoked")
			}
			if after := contents(t, p); after != before {
				t.Errorf("before:\n%safter:\n%s", before, after)
			}
		})
	}
}

// Two leases of which one has the path of a file of the other: the second one is refused,
// and the first one continues.
func TestLeaseInAnothersPlace(t *testing.T) {
	for _, suffix := range []string{".lock", ".last"} {
		for _, longFirst := range []bool{false, true} {
			t.Run(fmt.Sprint(suffix, " long first ", longFirst), func(t *testing.T) {
				first := leasePath(t)
				second := first + suffix
				if longFirst {
					first, second = second, first
				}
				o := joinFile(t, first)
				if got, err := tryJoin(t, second); err == nil {
					t.Errorf("joined: %v", got.Role())
				}
				if err := o.a.lease.Renew(t.Context(), clock.Now()); err != nil {
					t.Error(err)
				}
				must(t, o.Release())
				if !joinFile(t, first).IsOwner() {
					t.Error("the first one is of no more use")
				}
			})
		}
	}
}

// The owner's own second name is exchanged for another program's file while it owns.
func TestRenewalSparesAnothersFile(t *testing.T) {
	notOnWindows(t)
	p := leasePath(t)
	o := joinFile(t, p)
	must(t, os.Remove(leasename.Last(p)), os.WriteFile(leasename.Last(p), []byte("mine"), 0o600))
	must(t, o.a.lease.Renew(t.Context(), clock.Now()), o.Release())
	if b, err := os.ReadFile(leasename.Last(p)); string(b) != "mine" {
		t.Errorf("%q, %v", b, err)
	}
}

// A truncated guard still counts as one if there are other files of its lease.
func TestGuardThatWasCut(t *testing.T) {
	p := leasePath(t)
	o := joinFile(t, p)
	must(t, os.Truncate(leasename.Guard(p), 0))
	if joinFile(t, p).IsOwner() {
		t.Error("owns beside a live owner")
	}
	must(t, o.Release())
	if !joinFile(t, p).IsOwner() {
		t.Error("the lease is of no more use")
	}
}

// The next instances remove what an instance left that was killed at any point of its
// acquisition; similar files of others stay.
func TestNextAcquirersRemoveWhatIsLeft(t *testing.T) {
	p := leasePath(t)
	must(t, joinFile(t, p).Release())
	before, killed, other := uuid.NewString(), plant(t, p, nil).InstanceID, uuid.NewString()
	die(t, p, before) // the owner before, whose file was still to be removed
	die(t, p, killed)
	must(t, os.WriteFile(leasename.Temp(p, other), []byte("another program's"), 0o600))
	must(t, os.WriteFile(leasename.Alive(p, other), []byte("another program's"), 0o600))
	g, err := lockGuard(p)
	must(t, err, g.saveLast(lastAcquirer{InstanceID: killed, PID: 4711, Epoch: 1, Left: []string{before, other}}))
	g.unlock()
	o := joinFile(t, p)
	want := fmt.Sprint([]string{other + ".alive", other + ".tmp", o.InstanceID() + ".alive", "last", "lock"})
	var have []string
	for _, name := range fileNames(t, p) {
		if rest, ok := strings.CutPrefix(name, "x.lease."); ok {
			have = append(have, rest)
		}
	}
	if len(have) != 5 || !strings.Contains(fmt.Sprint(have), other+".alive "+other+".tmp") {
		t.Errorf("%v, want %v", have, want)
	}
}

// A lease of which one file is removed and the next one made while it is acquired by
// the hundred: no process takes the half-made guard of another for a stranger's file.
func TestGuardMadeByMany(t *testing.T) {
	for range 20 {
		p := leasePath(t)
		errs := make(chan error, 16)
		for range cap(errs) {
			go func() {
				_, err := tryJoin(t, p)
				errs <- err
			}()
		}
		for range cap(errs) {
			must(t, <-errs)
		}
	}
}

// The lease of an owner with another clock expires even if no process runs for a whole
// TTL: each process knows what the one before has seen.
func TestFirstSightIsRemembered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := leasePath(t)
		liveOwner(t, p, plant(t, p, func(h *diskHead, _ *diskTail) { h.Clock = "another" }).InstanceID)
		start := time.Now()
		for ; time.Since(start) < time.Minute; time.Sleep(10*time.Second - 1) {
			if acquiresAnew(t, p) {
				t.Fatalf("took over after %v", time.Since(start))
			}
		}
		time.Sleep(time.Second)
		if !acquiresAnew(t, p) {
			t.Error("did not take over after a full TTL")
		}
	})
}

// acquiresAnew reports whether a new process, which has seen nothing, gets the lease.
func acquiresAnew(t *testing.T, path string) bool {
	t.Helper()
	s := &fileStore{process: &process{host: thisProcess.host}, path: path}
	acq, err := s.Acquire(t.Context(), Record{InstanceID: uuid.NewString(), TTL: time.Minute})
	must(t, err)
	if acq.Lease != nil {
		t.Cleanup(func() { _ = acq.Lease.Release(context.Background()) })
	}
	return acq.Lease != nil
}

// What is remembered counts for the very heartbeat that was seen, by the same clock.
func TestFirstSightOfSomethingElse(t *testing.T) {
	for name, change := range map[string]func(*firstSeen){
		"another instance":  func(s *firstSeen) { s.Instance = uuid.NewString() },
		"another heartbeat": func(s *firstSeen) { s.Heartbeat++ },
		"another clock":     func(s *firstSeen) { s.Clock += "x" },
		"no clock":          func(s *firstSeen) { s.Clock = "" },
		"the future":        func(s *firstSeen) { s.At += 3 * time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			p := leasePath(t)
			must(t, joinFile(t, p).Release())
			h := plant(t, p, func(h *diskHead, tail *diskTail) { h.Clock, tail.Heartbeat = "another", 1 })
			liveOwner(t, p, h.InstanceID)
			sight := firstSeen{heartbeat{h.InstanceID, 1}, clock.Now() - time.Hour, clock.Domain()}
			keep := func() {
				g, err := lockGuard(p)
				must(t, err, g.saveLast(lastAcquirer{InstanceID: h.InstanceID, Epoch: 1, FirstSeen: &sight}))
				g.unlock()
			}
			change(&sight)
			keep()
			if acquiresAnew(t, p) {
				t.Error("took over by what was seen of something else")
			}
			sight = firstSeen{heartbeat{h.InstanceID, 1}, clock.Now() - time.Hour, clock.Domain()}
			keep()
			if !acquiresAnew(t, p) {
				t.Error("what was seen an hour ago does not count")
			}
		})
	}
}

// An instance is not reported as live unless that is known.
func TestProbeSaysWhatItKnows(t *testing.T) {
	p := leasePath(t)
	h := plant(t, p, nil)
	if st, err := Probe(p); err != nil || st.Condition != Unconfirmed || !st.Owned() {
		t.Errorf("%+v, %v", st, err)
	}
	liveOwner(t, p, h.InstanceID)
	if st, err := Probe(p); err != nil || st.Condition != Live {
		t.Errorf("%+v, %v", st, err)
	}
	p = leasePath(t)
	plant(t, p, func(h *diskHead, _ *diskTail) { h.Clock = earlierBoot(t) })
	if st, err := Probe(p); err != nil || st.Condition != Dead || st.Owned() {
		t.Errorf("of an earlier boot: %+v, %v", st, err)
	}
}

// A claim that would make a record that cannot be read.
func TestClaimIsChecked(t *testing.T) {
	p := leasePath(t)
	for _, claim := range []Record{{InstanceID: "me", TTL: time.Minute}, {TTL: time.Minute}, {InstanceID: uuid.NewString()}} {
		if acq, err := storeAt(p).Acquire(t.Context(), claim); !errors.Is(err, ErrInvalidConfig) {
			t.Errorf("%+v: %+v, %v", claim, acq, err)
		}
	}
	if all := contents(t, p); all != "" {
		t.Errorf("left behind: %s", all)
	}
}

// A process that is making the guard has no alive file yet. Another, which still holds a
// guard that was removed, must not take it for dead: it would remove the
// alive file that comes next.
func TestMakerOfTheGuardIsNoLeftover(t *testing.T) {
	p := leasePath(t)
	maker := uuid.NewString()
	must(t, os.WriteFile(leasename.Temp(leasename.Guard(p), maker), encodeGuard(lastAcquirer{}), 0o600))
	ids, err := storeAt(p).instances(-1)
	must(t, err)
	if len(ids) > 0 {
		t.Errorf("taken for instances: %v", ids)
	}
	liveOwner(t, p, maker)
	storeAt(p).removeDead([]string{maker})
	if storeAt(p).alive(maker, 0) != live {
		t.Error("the alive file of a live instance was removed")
	}
}

// On a full disk an alive file has no mark. Its second name is all that is left of an
// owner that was killed: the lease must not be refused for ever.
func TestSecondNameWithoutItsMark(t *testing.T) {
	p := leasePath(t)
	must(t, joinFile(t, p).Release(), os.WriteFile(leasename.Last(p), nil, 0o600))
	if !joinFile(t, p).IsOwner() {
		t.Error("the lease is of no more use")
	}
}

// A file that begins like a blank one of ours, and goes on, or begins otherwise, is another
// program's.
func TestBlankAtFirstSight(t *testing.T) {
	zeros := func(n int) []byte { return append(make([]byte, n), "precious"...) }
	for name, theirs := range map[string][]byte{"20 zeros": zeros(20), "64 zeros": zeros(64), "4096 zeros": zeros(4096), "zeros only": make([]byte, 4096), "a byte": {'x'}} {
		for _, file := range []func(string) string{leasename.Last, leasename.Guard} {
			p := leasePath(t)
			o, err := tryJoin(t, p)
			must(t, err, o.Release()) // so that there is a record
			_ = os.Remove(file(p))
			must(t, os.WriteFile(file(p), theirs, 0o644))
			_, err = tryJoin(t, p)
			now, readErr := os.ReadFile(file(p))
			if !errors.Is(err, ErrInvalidConfig) || readErr != nil || !bytes.Equal(now, theirs) {
				t.Errorf("%s at %s: %v; %d bytes before, and now %d, %v", name, file("L"), err, len(theirs), len(now), readErr)
			}
		}
	}
}
