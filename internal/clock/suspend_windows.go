package clock

import "time"

// Go's own monotonic clock is interrupt time here, which counts suspends.
var began = time.Now()

func withSuspend() time.Duration { return time.Since(began) }
