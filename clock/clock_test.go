package clock

import (
	"testing"
	"time"
)

// Both go on at the rate of real time.
func TestRate(t *testing.T) {
	t.Parallel()
	for name, now := range map[string]func() time.Duration{"Now": Now, "NowWithSuspend": NowWithSuspend} {
		before, at := now(), time.Now()
		time.Sleep(20 * time.Millisecond)
		passed, want := now()-before, time.Since(at)
		if passed < 20*time.Millisecond || passed > want {
			t.Errorf("%s: %v have passed, want %v", name, passed, want)
		}
	}
}
