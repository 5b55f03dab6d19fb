// Package clock reads the clocks of this machine that an owner.Store can time its leases
// by: they never step, and run at the rate of real time.
package clock

import (
	"time"

	"github.com/ownerlease/owner/internal/clock"
)

// Now reads the clock that does not count the time in which the machine is suspended (on
// FreeBSD: as the kernel has it). All processes of a machine read the same, so it suits
// leases that one machine shares. The zero is the system's choice.
func Now() time.Duration { return clock.Now() }

// NowWithSuspend reads the clock that counts that time as well (on FreeBSD: as the kernel
// has it): for leases that several machines share, which expire while one of them sleeps.
// A reading can be a system call, which takes some 0.3 µs.
func NowWithSuspend() time.Duration { return clock.NowWithSuspend() }
