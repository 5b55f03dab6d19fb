//go:build !(linux || darwin || windows)

package clock

import "time"

// FreeBSD has but one.
func withSuspend() time.Duration { return Now() }
