//go:build !(linux || darwin)

package clock

import "time"

// Go's own monotonic clock is interrupt time on Windows, which counts suspends,
// and CLOCK_MONOTONIC on FreeBSD.
var began = time.Now()

func withSuspend() time.Duration { return time.Since(began) }
