package owner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/ownerlease/owner/internal/clock"
	"github.com/ownerlease/owner/internal/disk"
	"github.com/ownerlease/owner/internal/leasename"
)

// Here something takes away, cuts, exchanges or puts back what a lease is made of.

// The changes of a record are distinguished, and at once.
func TestRenewNoticesTheLoss(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(t *testing.T, p string)
		want error
	}{
		{"removed", func(t *testing.T, p string) { must(t, os.Remove(p)) }, ErrRevoked},
		{"replaced by another's", func(t *testing.T, p string) {
			plant(t, p+".new", nil)
			must(t, disk.OS.Replace(p+".new", p))
		}, ErrTakenOver},
		{"replaced by rubbish", func(t *testing.T, p string) {
			must(t, os.WriteFile(p+".new", []byte("rubbish"), 0o600), disk.OS.Replace(p+".new", p))
		}, ErrRevoked},
		{"replaced by a folder", func(t *testing.T, p string) { must(t, os.Remove(p), os.Mkdir(p, 0o700)) }, ErrRevoked},
		{"its folder was moved", func(t *testing.T, p string) {
			d := filepath.Dir(p)
			must(t, os.Rename(d, d+"-moved"))
			t.Cleanup(func() { must(t, os.RemoveAll(d+"-moved")) })
		}, ErrRevoked},
		{"its content was overwritten: repaired", func(t *testing.T, p string) { must(t, os.WriteFile(p, []byte("rubbish"), 0o600)) }, nil},
		{"an unrelated file in the folder", func(t *testing.T, p string) { must(t, os.WriteFile(p+".txt", nil, 0o600)) }, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if strings.Contains(tc.name, "moved") {
				notOnWindows(t)
			}
			p := leasePath(t)
			o := joinFile(t, p)
			tc.do(t, p)
			err := o.a.lease.Renew(context.Background(), clock.Now())
			if !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if tc.want == nil {
				if r, err := Inspect(p); err != nil || r.InstanceID != o.InstanceID() {
					t.Errorf("the record is %+v, %v", r, err)
				}
			}
		})
	}
}

// The loss reaches the caller, through the actor.
func TestRemovedRecordIsLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := leasePath(t)
		start := time.Now()
		o := joinFile(t, p)
		must(t, os.Remove(p))
		time.Sleep(20*time.Second - 20*time.Second/32 - 1) // the next renewal comes after it
		synctest.Wait()
		if closed(o.Lost()) {
			t.Error("lost before the next renewal, without a reason")
		}
		if f := joinFile(t, p); f.IsOwner() || f.InstanceID() != o.InstanceID() {
			t.Errorf("another process owns beside a live owner: %+v", f.Holder())
		}
		if st, err := Probe(p); err != nil || !st.Owned() || st.Record.InstanceID != o.InstanceID() {
			t.Errorf("a live owner without a record shows as %+v, %v", st, err)
		}
		<-o.Lost()
		if !errors.Is(o.LostErr(), ErrRevoked) {
			t.Errorf("LostErr: %v", o.LostErr())
		}
		// Until its lease has expired, no other process may own: the caller is stopping.
		time.Sleep(time.Until(start.Add(time.Minute)) - 1)
		if joinFile(t, p).IsOwner() {
			t.Error("another process owns before the lost lease has expired")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if !joinFile(t, p).IsOwner() {
			t.Error("none can own after the lost lease has expired")
		}
	})
}

// An old owner that continues after another has taken over writes into a file that no
// process reads.
func TestResumedOwnerDamagesNothing(t *testing.T) {
	notOnWindows(t)
	p := leasePath(t)
	old := joinFile(t, p)
	must(t, os.Remove(p), os.Remove(leasename.Alive(p, old.InstanceID())), os.Remove(leasename.Last(p))) // so that the next can own at once
	successor := joinFile(t, p)
	if !successor.IsOwner() {
		t.Fatal("no successor")
	}
	before, err := os.ReadFile(p)
	must(t, err)
	if err := old.a.lease.Renew(context.Background(), clock.Now()); !errors.Is(err, ErrTakenOver) {
		t.Errorf("the old owner's renewal: %v", err)
	}
	must(t, old.a.lease.Release(context.Background()))
	after, err := os.ReadFile(p)
	must(t, err)
	if !bytes.Equal(before, after) {
		t.Error("the old owner has changed its successor's record")
	}
}

// The record of another instance that was put back must not make a live owner seem dead.
func TestOldRecordPutBack(t *testing.T) {
	p := leasePath(t)
	first := joinFile(t, p)
	must(t, os.Link(p, p+".kept"))
	must(t, first.Release())
	second := joinFile(t, p)
	must(t, disk.OS.Replace(p+".kept", p))
	third := joinFile(t, p)
	if third.IsOwner() || third.InstanceID() != second.InstanceID() {
		t.Errorf("two owners: %+v", third.Holder())
	}
}

// A guard that was removed while it was held excludes no one: the process that held it
// must not end up as the owner beside one that took the next.
func TestGuardRemovedWhileHeld(t *testing.T) {
	notOnWindows(t)
	p := leasePath(t)
	g, err := lockGuard(p)
	must(t, err)
	defer g.unlock()
	must(t, os.Remove(leasename.Guard(p)))
	second := joinFile(t, p)
	if !second.IsOwner() {
		t.Fatal("the next guard does not work")
	}
	must(t, second.Release()) // the first sees a free lease
	s, err := newFileStore(p)
	must(t, err)
	claim := Record{InstanceID: uuid.NewString(), TTL: time.Minute}
	if _, err := s.acquireGuarded(claim, g, false); !errors.Is(err, errGuardGone) {
		t.Errorf("acquired under a guard that is gone: %v", err)
	}
	if alive := s.alive(claim.InstanceID, 0); alive != noFile {
		t.Errorf("its alive file is still there")
	}
}

// The guard is removed while A holds it, B takes the next one and owns, and A continues:
// whatever A does, B stays known as the owner.
func TestGuardExchangedWhileHeld(t *testing.T) {
	notOnWindows(t)
	p := leasePath(t)
	a, err := lockGuard(p)
	must(t, err)
	defer a.unlock()
	must(t, os.Remove(leasename.Guard(p)))
	b := joinFile(t, p)
	if _, err := a.loadLast(); !errors.Is(err, errGuardGone) {
		t.Errorf("reads another guard's memory: %v", err)
	}
	if err := a.saveLast(lastAcquirer{InstanceID: uuid.NewString()}); !errors.Is(err, errGuardGone) {
		t.Errorf("writes into another guard: %v", err)
	}
	// The worst: A has published already, and undoes it.
	s, err := newFileStore(p)
	must(t, err)
	lease, _, err := s.publish(Record{InstanceID: uuid.NewString(), TTL: time.Minute}, unshared)
	must(t, err, lease.Release(t.Context()))
	if c := joinFile(t, p); c.IsOwner() || c.InstanceID() != b.InstanceID() {
		t.Errorf("owns beside a live owner: %+v", c.Holder())
	}
}

// No process locks a file that was put in the alive file's place, and it means nothing.
func TestAliveFileReplaced(t *testing.T) {
	notOnWindows(t)
	p := leasePath(t)
	o := joinFile(t, p)
	must(t, os.WriteFile(p+".fresh", nil, 0o600), os.Rename(p+".fresh", leasename.Alive(p, o.InstanceID())))
	if joinFile(t, p).IsOwner() {
		t.Error("owns beside a live owner")
	}
}

// Files that are taken away one after another, with time in between, as by a
// cleaner of temporary files: each time, there is one owner at most.
func TestFaultsOneAfterAnother(t *testing.T) {
	remove := func(path func(p, id string) string) func(*testing.T, string, string, string) {
		return func(t *testing.T, p, id, _ string) { must(t, os.Remove(path(p, id))) }
	}
	alive, guard := remove(leasename.Alive), remove(func(p, _ string) string { return leasename.Guard(p) })
	record, last := remove(func(p, _ string) string { return p }), remove(func(p, _ string) string { return leasename.Last(p) })
	atOnce := func(faults ...func(*testing.T, string, string, string)) func(*testing.T, string, string, string) {
		return func(t *testing.T, p, id, old string) {
			for _, f := range faults {
				f(t, p, id, old)
			}
		}
	}
	truncate := func(t *testing.T, p, _, _ string) { must(t, os.Truncate(p, 100)) }
	oldRecord := func(t *testing.T, p, _, old string) { must(t, os.Rename(old, p)) }
	copied := func(t *testing.T, p, _, _ string) {
		b, err := os.ReadFile(p)
		must(t, err, os.WriteFile(p+".copy", b, 0o600), os.Rename(p+".copy", p))
	}
	for name, faults := range map[string][]func(t *testing.T, p, id, old string){
		"alive, record":                    {alive, record},
		"alive, record truncated":          {alive, truncate},
		"alive, record copied":             {alive, copied},
		"alive, old record put back":       {alive, oldRecord},
		"guard, old record put back":       {guard, oldRecord},
		"guard, record":                    {guard, record},
		"guard, alive, record":             {guard, alive, record},
		"alive, guard, old record":         {alive, guard, oldRecord},
		"alive, alive, alive, and nothing": {alive, alive, alive},
		"last, alive, record":              {last, alive, record},
		"record and alive":                 {atOnce(record, alive)},
		"record and guard":                 {atOnce(record, guard)},
		"record and last":                  {atOnce(record, last)},
		"alive and last, record":           {atOnce(alive, last), record},
		"last, record and alive":           {last, atOnce(record, alive)},
		"alive, record and guard":          {alive, atOnce(record, guard)},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := leasePath(t)
				first := joinFile(t, p)
				must(t, os.Link(p, p+".old"), first.Release())
				o := joinFile(t, p)
				for _, fault := range faults {
					time.Sleep(5*time.Minute + 7*time.Second) // not when a renewal is due
					if !o.IsOwner() {
						t.Fatal(o.LostErr())
					}
					fault(t, p, o.InstanceID(), p+".old")
				}
				for range 40 {
					if f, err := tryJoin(t, p); err == nil && f.IsOwner() && o.IsOwner() {
						t.Fatal("two owners")
					} else if err == nil && f.IsOwner() {
						must(t, f.Release())
						return // after the loss, and not before
					}
					time.Sleep(5 * time.Second)
				}
				if !o.IsOwner() {
					t.Error("none owns")
				}
			})
		})
	}
}

// In a folder with more files than a first acquisition searches, an owner whose record
// and guard were removed is found by its alive file's second name.
func TestOwnerInAFullFolder(t *testing.T) {
	p := leasePath(t)
	for i := range 3 * firstSearch {
		must(t, os.WriteFile(fmt.Sprint(p, i), nil, 0o600))
	}
	o := joinFile(t, p)
	must(t, os.Remove(p), os.Remove(leasename.Guard(p)))
	if f := joinFile(t, p); f.IsOwner() || f.InstanceID() != o.InstanceID() {
		t.Errorf("owns beside a live owner: %+v", f.Holder())
	}
}

// Only an owner's alive file's second name is left: its id is unknown, no other process
// owns, and that passes when it has noticed.
func TestOwnerWithoutAName(t *testing.T) {
	notOnWindows(t)
	p := leasePath(t)
	o := joinFile(t, p)
	must(t, os.Remove(p), os.Remove(leasename.Guard(p)), os.Remove(leasename.Alive(p, o.InstanceID())))
	if f, err := tryJoin(t, p); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), leasename.Last(p)) {
		t.Errorf("got %v, %v", f, err)
	}
	if _, err := Probe(p); !errors.Is(err, ErrUnavailable) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Probe: %v", err) // that no process owns it would be wrong
	}
	if err := o.a.lease.Renew(t.Context(), clock.Now()); !errors.Is(err, ErrRevoked) {
		t.Errorf("its renewal: %v", err)
	}
	must(t, o.Release())
	if !joinFile(t, p).IsOwner() {
		t.Error("not free after the release")
	}
}

// A release leaves the second name of its successor's alive file alone.
func TestReleaseSparesTheSuccessorsName(t *testing.T) {
	notOnWindows(t)
	p := leasePath(t)
	o := joinFile(t, p)
	must(t, os.WriteFile(p+".other", nil, 0o600), os.Rename(p+".other", leasename.Last(p)), o.Release())
	if _, err := os.Stat(leasename.Last(p)); err != nil {
		t.Error(err)
	}
}

// What a dead instance has left makes no difference, whatever of it is there.
func TestLeftoversInPart(t *testing.T) {
	for _, left := range [][]func(p, id string) string{
		{leasename.Alive}, {func(p, _ string) string { return leasename.Last(p) }}, {leasename.Alive, func(p, _ string) string { return leasename.Last(p) }},
	} {
		p, id := leasePath(t), uuid.NewString()
		for _, name := range left {
			must(t, os.WriteFile(name(p, id), []byte(aliveMark), 0o600))
		}
		if !joinFile(t, p).IsOwner() {
			t.Error("not the owner")
		}
	}
}

// The alive file that was put back works like the first one.
func TestRestoredAliveFileTellsDeath(t *testing.T) {
	notOnWindows(t)
	p := leasePath(t)
	o := joinFile(t, p)
	must(t, os.Remove(leasename.Alive(p, o.InstanceID())), o.a.lease.Renew(t.Context(), clock.Now()))
	if joinFile(t, p).IsOwner() {
		t.Error("owns beside a live owner")
	}
	must(t, o.a.lease.(*fileLease).alive.Unlock()) // as its death does
	if !joinFile(t, p).IsOwner() {
		t.Error("does not own after the owner's death")
	}
}

// While the alive file is being put back, its owner never seems dead.
func TestAliveFileIsLockedBeforeItIsSeen(t *testing.T) {
	notOnWindows(t)
	p := leasePath(t)
	o := joinFile(t, p)
	s, err := newFileStore(p)
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 3000 {
			_ = os.Remove(leasename.Alive(p, o.InstanceID()))
			if err := o.a.lease.Renew(context.Background(), clock.Now()); err != nil {
				t.Error(err)
			}
		}
	}()
	for !closed(done) {
		if s.alive(o.InstanceID(), 0) == dead {
			t.Error("seems dead")
			break
		}
	}
	<-done
}

// A restoration that fails half way leaves nothing that means a death.
func TestAliveFileNotRestored(t *testing.T) {
	notOnWindows(t)
	p := leasePath(t)
	o := joinFile(t, p)
	must(t, os.Remove(leasename.Alive(p, o.InstanceID())), os.Remove(p)) // the record cannot be read
	l := o.a.lease.(*fileLease)
	if err := l.restoreAlive(clock.Now()); err == nil {
		t.Fatal("restored without the record")
	}
	s, err := newFileStore(p)
	must(t, err)
	if alive := s.alive(o.InstanceID(), 0); alive == dead {
		t.Error("seems dead")
	}
}

// A release whose write fails still frees the lease at once.
func TestReleaseWithoutItsWrite(t *testing.T) {
	p := leasePath(t)
	o := joinFile(t, p)
	must(t, o.a.lease.(*fileLease).file.Close())
	if err := o.Release(); err == nil {
		t.Error("no error")
	}
	if !joinFile(t, p).IsOwner() {
		t.Error("the lease is not free")
	}
}

// The next renewal removes what was appended to a live owner's record, and it never
// blocks an acquisition.
func TestAppendedToRecord(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *Owner){
		"then renewed":  func(t *testing.T, o *Owner) { must(t, o.a.lease.Renew(t.Context(), clock.Now())) },
		"then released": func(t *testing.T, o *Owner) { must(t, o.Release()) },
	} {
		t.Run(name, func(t *testing.T) {
			p := leasePath(t)
			o := joinFile(t, p)
			f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0)
			must(t, err)
			_, err = f.Write(make([]byte, 2*maxRecord))
			must(t, err, f.Close())
			end(t, o)
			if r, err := Inspect(p); err != nil || r.InstanceID != o.InstanceID() {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

// A hung owner whose record was removed or exchanged: nothing shows whether it has
// renewed since, so it keeps the lease until it releases it or dies.
func TestHungOwnerWithoutItsRecord(t *testing.T) {
	for name, take := range map[string]func(t *testing.T, p string){
		"removed": func(t *testing.T, p string) { must(t, os.Remove(p)) },
		"exchanged": func(t *testing.T, p string) {
			plant(t, p+".new", func(_ *diskHead, tail *diskTail) { tail.Released = true })
			must(t, disk.OS.Replace(p+".new", p))
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := leasePath(t)
				o := joinFile(t, p)
				answer := make(chan struct{})
				letGo := sync.OnceFunc(func() { close(answer) })
				defer letGo()
				o.a.work.put(func() { <-answer })
				take(t, p)
				for range 5 {
					if f := joinFile(t, p); f.IsOwner() || f.InstanceID() != o.InstanceID() {
						t.Fatalf("took over from a live instance: %+v", f.Holder())
					}
					time.Sleep(time.Minute)
				}
				letGo()
				synctest.Wait()
				if !joinFile(t, p).IsOwner() {
					t.Error("not free after the release")
				}
			})
		})
	}
}

// A record that was missing and has come back is renewed again: that it was missing must
// not count against its owner later, even if the owner did not check in between.
func TestRecordPutBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := leasePath(t)
		o := joinFile(t, p)
		hide := func() { must(t, os.Rename(p, p+".hidden")) }
		hide()
		joinFile(t, p) // sees it gone
		must(t, os.Rename(p+".hidden", p))
		time.Sleep(10*time.Minute + 7*time.Second)
		if !o.IsOwner() {
			t.Fatal(o.LostErr())
		}
		hide()
		if joinFile(t, p).IsOwner() {
			t.Error("owns beside a live owner")
		}
	})
}

// A path that cannot be read is no confirmation, and no definite loss either.
func TestRenewalThatCannotBeChecked(t *testing.T) {
	notOnWindows(t)
	p := leasePath(t)
	o := joinFile(t, p)
	d := filepath.Dir(p)
	must(t, os.Rename(d, d+"-moved"), os.WriteFile(d, nil, 0o600)) // ENOTDIR
	err := o.a.lease.Renew(t.Context(), clock.Now())
	must(t, os.Remove(d), os.Rename(d+"-moved", d))
	if err == nil || errors.Is(err, ErrRevoked) || errors.Is(err, ErrTakenOver) {
		t.Errorf("got %v", err)
	}
	must(t, o.a.lease.Renew(t.Context(), clock.Now()))
}

// A release finds its record gone, or another's in its place: that one stays as
// it is, and the lease is free as soon as no other process owns it.
func TestReleaseAfterTampering(t *testing.T) {
	notOnWindows(t)
	t.Run("absent", func(t *testing.T) {
		p := leasePath(t)
		o := joinFile(t, p)
		must(t, os.Remove(p), o.Release())
		if _, err := Inspect(p); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a record has come back: %v", err)
		}
		if !joinFile(t, p).IsOwner() {
			t.Error("not free")
		}
	})
	t.Run("another's", func(t *testing.T) {
		p := leasePath(t)
		o := joinFile(t, p)
		h := plant(t, p+".new", nil)
		must(t, os.Rename(p+".new", p))
		before, err := os.ReadFile(p)
		must(t, err, o.Release())
		after, err := os.ReadFile(p)
		must(t, err)
		if !bytes.Equal(before, after) {
			t.Errorf("the record of %s was changed:\n%s", h.InstanceID, after)
		}
	})
}
