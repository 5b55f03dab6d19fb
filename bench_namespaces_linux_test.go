package owner

import (
	"testing"
	"time"
)

// The time of a takeover in containers: the owner is killed, and its follower is in
// another pid namespace. Beside it is that of two processes on the host, where the end of
// the process is a hint as well. Five pairs at a time, whose polls are slow by then.
//
//	go test -run '^$' -bench TakeoverContainers -benchtime 20x .
func BenchmarkTakeoverContainers(b *testing.B) {
	needsNamespaces(b)
	for _, bench := range []struct {
		name            string
		owner, follower surrounding
	}{
		{"host", outside, outside},
		{"two containers", container, container},
		{"owner in a container", container, outside},
	} {
		b.Run(bench.name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				some, _ := takeovers(b, 5, bench.owner, bench.follower)
				took = append(took, some...)
			}
			report(b, took)
		})
	}
}
