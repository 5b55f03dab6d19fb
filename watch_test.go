package owner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// seen is what Watch yields, as text.
func seen(r Record, err error) string {
	switch {
	case err != nil:
		return "error"
	case r.InstanceID == "":
		return "none"
	}
	return r.Meta[EndpointMetaKey]
}

func endpoint(e string) func(*Config) { return func(c *Config) { c.Endpoint = e } }

func TestWatchSeesEveryOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		ctx, cancel := context.WithCancel(t.Context())
		told := make(chan string, 100)
		go func() {
			defer close(told)
			for r, err := range changes(ctx, s) {
				told <- seen(r, err)
			}
		}()
		var want []string
		expect := func(all ...string) {
			t.Helper()
			time.Sleep(5 * minPollGap)
			synctest.Wait()
			for _, one := range all {
				want = append(want, one)
				if got := <-told; got != one {
					t.Errorf("yielded %s, want %v", got, want)
				}
			}
			if len(told) > 0 {
				t.Errorf("yielded more: %s", <-told)
			}
		}
		expect("none")
		for i := range 5 {
			a, b := fmt.Sprint("a", i), fmt.Sprint("b", i)
			o := join(t, t.Context(), s, endpoint(a))
			s.mu.Lock()
			s.hint() // a lease without an owner is watched by polling
			s.mu.Unlock()
			time.Sleep(poll)
			expect(a)
			time.Sleep(time.Minute) // renewed many times
			must(t, o.Release())
			o = join(t, t.Context(), s, endpoint(b)) // at once
			expect("none", b)
			s.set(&s.onLook, func(context.Context) error { return errors.New("EIO") })
			time.Sleep(time.Minute)
			expect("error")
			s.set(&s.onLook, nil)
			time.Sleep(poll)
			expect(b)
			must(t, o.Release())
			expect("none")
		}
		cancel()
		if got, more := <-told; more {
			t.Errorf("yielded %s at the end", got)
		}
		synctest.Wait()
		if s.watched() != 0 {
			t.Errorf("%d subscriptions are left", s.watched())
		}
	})
}

// Also while it has no owner, and never had one, a change is yielded at once.
func TestWatchSeesTheFirstOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		told := make(chan string, 100)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			for r, err := range changes(ctx, s) {
				told <- seen(r, err)
			}
		}()
		time.Sleep(time.Minute)
		for range 3 {
			o := join(t, t.Context(), s)
			time.Sleep(10 * time.Millisecond)
			must(t, o.Release())
			time.Sleep(10 * time.Millisecond)
		}
		synctest.Wait()
		if len(told) != 7 {
			t.Errorf("yielded %d of 7 changes", len(told))
		}
	})
}

// An owner whose record was missing at first is yielded again with it.
func TestWatchCompletesTheRecord(t *testing.T) {
	notOnWindows(t)
	bubble(t, func(t *testing.T) {
		p := leasePath(t)
		s, err := newFileStore(p)
		must(t, err)
		const id = "01234567-89ab-cdef-0123-456789abcdef"
		liveOwner(t, p, id)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var told []Record
		for r := range changes(ctx, unwatchedStore{s}) {
			switch told = append(told, r); len(told) {
			case 1:
				plant(t, p, func(h *diskHead, _ *diskTail) { h.InstanceID = id })
			case 2:
				time.AfterFunc(10*time.Second, cancel)
			}
		}
		if len(told) != 2 || told[0].InstanceID != id || told[0].Epoch != 0 || told[1].InstanceID != id || told[1].Epoch != 7 {
			t.Errorf("yielded %+v", told)
		}
	})
}

// Who is slow misses owners, but never the newest.
func TestWatchSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		o := join(t, t.Context(), s, endpoint("0"))
		i, told := 0, ""
		for r, err := range changes(t.Context(), s) {
			told += seen(r, err) + " "
			if i++; i == 4 {
				break
			}
			if r.InstanceID == "" {
				continue
			}
			for range 10 {
				must(t, o.Release())
				o = join(t, t.Context(), s, endpoint(r.Meta[EndpointMetaKey]+"+"))
			}
		}
		if told != "0 none 0+ none " {
			t.Error(told)
		}
		must(t, o.Release())
		synctest.Wait()
		if s.watched() != 0 {
			t.Errorf("%d subscriptions are left", s.watched())
		}
	})
}

// The disk hangs, and Watch ends with its context all the same.
func TestWatchEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		hung, answer := hang()
		s.onLook = hung
		defer answer()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		for r, err := range changes(ctx, s) {
			t.Error(seen(r, err))
		}
		if d := time.Since(start); d != time.Minute {
			t.Errorf("ended after %v", d)
		}
	})
}

// The same on real files, with real hints.
func TestWatchFiles(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	p := leasePath(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var o *Owner
	step, told := 0, ""
	for r, err := range Watch(ctx, p) {
		told += seen(r, err) + " "
		switch step++; step {
		case 1:
			o = joinFile(t, p, endpoint("first"))
		case 2:
			must(t, o.Release())
			o = joinFile(t, p, endpoint("second"))
		case 4:
			must(t, o.Release())
		case 5:
			must(t, os.WriteFile(p, []byte("not ours"), 0o600))
		case 6:
			if !errors.Is(err, ErrCorruptRecord) {
				t.Error(err)
			}
			must(t, os.Remove(p))
		case 7:
			cancel()
		}
	}
	if told != "none first none second none error none " {
		t.Error(told)
	}
}

func TestWatchNothing(t *testing.T) {
	for path, want := range map[string]error{"": ErrInvalidConfig, filepath.Join(t.TempDir(), "no", "lease"): fs.ErrNotExist} {
		for r, err := range Watch(t.Context(), path) {
			if !errors.Is(err, want) {
				t.Errorf("%q: %v, %v", path, r, err)
			}
			break
		}
	}
}

// Without hints, the next poll yields every change; and the end of a hung owner's lease
// when it comes.
func TestWatchWithoutHints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.watchErr = errors.New("too many open files")
		told := make(chan string, 10)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		a := join(t, t.Context(), s, endpoint("a"))
		go func() {
			for r, err := range changes(ctx, s) {
				told <- seen(r, err)
			}
		}()
		time.Sleep(time.Minute)
		must(t, a.Release())
		b := join(t, t.Context(), s, endpoint("b"))
		time.Sleep(poll + 2*minPollGap)
		if len(told) != 3 || <-told != "a" || <-told != "none" || <-told != "b" {
			t.Errorf("b was not yielded in time")
		}
		s.mu.Lock()
		s.expires = s.Now() + 10*time.Second + poll/3
		s.mu.Unlock()
		time.Sleep(10*time.Second + poll/3 - time.Nanosecond)
		if len(told) > 0 {
			t.Errorf("yielded %s before the end of the lease", <-told)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if len(told) != 1 || <-told != "none" {
			t.Error("nothing yielded when the lease had expired")
		}
		must(t, b.Release())
	})
}
