package clock

import (
	"testing"
	"time"
)

// Both run at the rate of real time.
func TestRate(t *testing.T) {
	t.Parallel()
	for name, now := range map[string]func() time.Duration{"Now": Now, "NowWithSuspend": NowWithSuspend} {
		at := time.Now() // before the other, and asked after it: a pause in between is in both
		before := now()
		time.Sleep(20 * time.Millisecond)
		passed := now() - before
		want := time.Since(at)
		if passed < 20*time.Millisecond || passed > want {
			t.Errorf("%s: %v have passed, want %v", name, passed, want)
		}
	}
}
