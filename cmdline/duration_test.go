package cmdline

import (
	"testing"
	"time"
)

func TestDurations(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"10": 10 * time.Second, "0.5": 500 * time.Millisecond, ".007": 7 * time.Millisecond, "0": 0,
		"10s": 10 * time.Second, "1m30s": 90 * time.Second, "0s": 0,
	} {
		if d, err := parseDuration(text); err != nil || d != want {
			t.Errorf("%q: %v, %v; want %v", text, d, err, want)
		}
	}
	for _, text := range []string{"", "-1", "-1s", "1e9", "NaN", "nan", "inf", "+Inf", "0x10", "1 s", "1m30", ".", "-", "10x", "9223372037"} {
		if d, err := parseDuration(text); err == nil {
			t.Errorf("%q is %v, want an error", text, d)
		}
	}
}
