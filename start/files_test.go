package start_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/start"
)

// A log or a lock in the place of one of the lease's files is refused before that is damaged,
// also by another way into its folder.
func TestFilesOfTheLeaseAreRefused(t *testing.T) {
	t.Parallel()
	l := newLease(t)
	const id = "00000000-0000-4000-8000-000000000000"
	ways := []string{l.path}
	if way := filepath.Join(t.TempDir(), "way"); runtime.GOOS != "windows" && os.Symlink(filepath.Dir(l.path), way) == nil {
		ways = append(ways, filepath.Join(way, filepath.Base(l.path)))
	}
	for _, path := range ways {
		for _, suffix := range []string{"", ".lock", ".last", ".handover", ".start", "." + id + ".alive", "." + id + ".tmp"} {
			wantRefused(t, l, path+suffix, "", "a file of the lease")
			if suffix != ".start" { // where it is by default
				wantRefused(t, l, "", path+suffix, "a file of the lease")
			}
		}
	}
	log := filepath.Join(t.TempDir(), "log")
	wantRefused(t, l, log, log, "cannot be the Lock and")
	wantRefused(t, l, log, log+".1", "cannot be the Lock and")
	if left, err := os.ReadDir(filepath.Dir(l.path)); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	c := command(l.path, "serve")
	c.Log, c.Lock = l.path+".log", l.path+".start"
	_, err := l.ensure(c)
	must(t, err)
}

// A process that floods its log, and owns nothing, is ended before it fills the disk.
func TestFlood(t *testing.T) {
	t.Parallel()
	l := newLease(t)
	c := command(l.path, "flood-and-hang")
	_, err := l.ensure(c)
	var failed *start.StartError
	if !errors.As(err, &failed) || !failed.Started || errors.Is(err, start.ErrNotReady) || !strings.Contains(err.Error(), "more than 16 MiB to its log") {
		t.Errorf("%.1000v", err)
	}
	if pid := l.one(); start.Exists(pid) {
		t.Errorf("process %d is left", pid)
	}
}

func wantRefused(t *testing.T, l *lease, log, lock, says string) {
	t.Helper()
	c := start.Command{Path: os.Args[0], Log: log, Lock: lock, Timeout: time.Second}
	if _, err := l.ensure(c); !errors.Is(err, owner.ErrInvalidConfig) || !strings.Contains(err.Error(), says) {
		t.Errorf("log %q, lock %q: %v", log, lock, err)
	}
}
