package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// The jobs that need no server, with processes: what they find out, not how fast.

func fileBench(t *testing.T) *bench {
	b := &bench{options: options{trials: 1, parallel: 1}, results: newResults(), dir: t.TempDir()}
	b.register = &Register{cells: map[string]Cell{}}
	var err error
	b.listen, err = b.register.serve()
	must(t, err)
	t.Cleanup(func() { b.listen.Close() })
	return b
}

func TestAlone(t *testing.T) {
	t.Parallel()
	b := fileBench(t)
	for _, p := range []string{peerOwner, peerClientGo, peerLock, peerTryLock} {
		s := b.lease(p)
		s.Release = true
		must(t, b.solo(jobRounds, s, "rounds").do(t.Context()))
		if got := b.of(jobRounds, p); len(got) != b.loops() || got.min() <= 0 {
			t.Errorf("%s: rounds took %v", p, got)
		}
	}
	for _, p := range []string{peerOwner, peerClientGo} {
		must(t, b.renewals(p).do(t.Context()))
		if got := b.of(jobRenewal, p); len(got) != b.loops() || got.min() <= 0 {
			t.Errorf("%s: renewals took %v", p, got)
		}
	}
}

// Of the peers to which the kernel reports a death, none waits for a lease to expire:
// that would take the TTL less the time since the last renewal.
func TestTakeovers(t *testing.T) {
	t.Parallel()
	b := fileBench(t)
	for _, p := range []string{peerOwner, peerLock, peerTryLock} {
		must(t, b.killed(p, shortPhase).do(t.Context()), b.handover(p, shortPhase).do(t.Context()))
		for _, j := range []job{jobKilled, jobHandover} {
			if got := b.of(j, p); len(got) != 1 || got.min() <= 0 || got.max() >= ttl-ttl/3 {
				t.Errorf("%s, %s: %v", p, j, got)
			}
		}
	}
}

// owner knows that it was stopped, and is never two; a lock whose file is removed
// knows nothing.
func TestLosses(t *testing.T) {
	t.Parallel()
	b := fileBench(t)
	trials := b.hangs()[:2] // of owner
	if onUnix {
		trials = append(trials, b.stopped(peerOwner))
		trials = append(trials, b.behinds()[2:]...) // of owner and flock
	}
	errs := make(chan error)
	for _, trial := range trials {
		go func() { errs <- trial.do(t.Context()) }()
	}
	for range trials {
		must(t, <-errs)
	}
	for _, variant := range []string{"", variantDeaf} {
		if got := b.of(jobHang, viewIsOwner+variant); len(got) != 1 || got.min() == -never || got.max() > ttl/4 {
			t.Errorf("while a store hangs, IsOwner turns false with a slack of %v", got)
		}
		if got := b.of(jobHangBoth, viewIsOwner+variant); len(got) != 1 || got.max() != 0 {
			t.Errorf("while a store hangs, two own for %v", got)
		}
	}
	if !onUnix {
		return
	}
	if got := b.of(jobStopWrong, viewIsOwner); len(got) != 1 || got.max() != 0 {
		t.Errorf("after a stop, IsOwner was wrong: %v", got)
	}
	if got := b.of(jobBehind, viewIsOwner); len(got) != 1 || got.max() == never {
		t.Errorf("owner has not noticed that its record is gone: %v", got)
	}
	if got := b.of(jobBehind, viewLocked); len(got) != 1 || got.max() != never {
		t.Errorf("flock has noticed that its file is gone: %v", got)
	}
	if got := b.of(jobBehindBoth, viewLocked); len(got) != 1 || got.max() != never {
		t.Errorf("a lock whose file is gone was not two's: %v", got)
	}
}

// A contender that fails reports why, and ends its trial.
func TestBrokenContender(t *testing.T) {
	t.Parallel()
	b := fileBench(t)
	s := b.lease(peerOwner)
	s.Name = filepath.Join(s.Name, "no", "such", "folder")
	if err := b.solo(jobRounds, s, "rounds").do(t.Context()); err == nil || !strings.Contains(err.Error(), s.Name) {
		t.Errorf("of a lease in a folder that is not there: %v", err)
	}
}
