package owner

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/ownerlease/owner/internal/clock"
	"github.com/ownerlease/owner/internal/disk"
	"github.com/ownerlease/owner/internal/proc"
)

// A host is all that the file store asks of the machine that it runs on: files,
// locks, and clocks. The exploration puts a simulated one in its place, in which
// other processes take their steps between any two of these calls.
type host interface {
	disk.System
	// Now reads the clock that all processes share, in the domain that Clock names.
	Now() time.Duration
	Clock() string
	// Wall reads the wall clock, for display and for the epoch.
	Wall() time.Time
	// Sleep waits, but not beyond ctx's end: then it returns the cause.
	Sleep(ctx context.Context, d time.Duration) error
	// PID is this process's, and Started what tells it from others of that pid: see
	// proc.Started. OpenProcess is proc.Open.
	PID() int
	Started() string
	OpenProcess(pid int) (proc.Process, error)
}

// A process is a host as one process sees it, with what it has observed of leases whose
// owners' clocks it cannot compare.
type process struct {
	host
	firstSeens sync.Map // of path to firstSeen
}

var thisProcess = &process{host: thisHost{disk.OS}}

type thisHost struct{ disk.System }

func (thisHost) Now() time.Duration { return clock.Now() }
func (thisHost) Clock() string      { return clock.Domain() }
func (thisHost) Wall() time.Time    { return time.Now() }
func (thisHost) PID() int           { return os.Getpid() }
func (thisHost) Started() string    { return proc.Started() }

func (thisHost) OpenProcess(pid int) (proc.Process, error) { return proc.Open(pid) }

func (thisHost) Sleep(ctx context.Context, d time.Duration) error { return sleep(ctx, d) }

// sleep waits, but not beyond ctx's end: then it returns the cause.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
