//go:build !(linux || darwin || freebsd || windows)

package clock

import "time"

func read() (time.Duration, bool) { return 0, false }

func domain() string { return "" }
