package clock

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// The clock runs at the rate of Go's, and never back, whichever goroutine reads it next.
func TestNowWithSuspend(t *testing.T) {
	const readers = 4
	before := time.Now()
	first := NowWithSuspend()
	start := time.Now()
	baton := make(chan time.Duration, 1)
	baton <- first
	done := make(chan bool)
	for range readers {
		go func() {
			ok := true
			for range 1000 {
				last := <-baton
				now := NowWithSuspend()
				ok = ok && now >= last
				baton <- now
			}
			done <- ok
		}()
	}
	for range readers {
		if !<-done {
			t.Error("the clock has gone back")
		}
	}
	least := time.Since(start)
	shown := NowWithSuspend() - first
	most := time.Since(before)
	if tick := time.Millisecond; shown < least-tick || shown > most+tick { // two clocks, each with its own tick
		t.Errorf("the clock shows %v where Go's shows between %v and %v", shown, least, most)
	}
}

const printClocks = "OWNER_TEST_PRINT_CLOCKS"

func TestMain(m *testing.M) {
	if os.Getenv(printClocks) != "" {
		_, _ = os.Stdout.WriteString(strconv.Itoa(int((NowWithSuspend() - Now()).Round(time.Hour).Hours())))
		return
	}
	os.Exit(m.Run())
}

// No test can suspend the machine. But a time namespace can be made in which the
// clock that counts suspends is a thousand hours ahead, and the other is not.
func TestNowWithSuspendCountsIt(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has time namespaces")
	}
	ahead := func(name string, args ...string) int {
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), printClocks+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Skipf("no time namespace can be made here: %v: %s", err, out)
		}
		hours, err := strconv.Atoi(string(out))
		if err != nil {
			t.Fatalf("%v printed %q", cmd, out)
		}
		return hours
	}
	self := os.Args[0]
	here, there := ahead(self), ahead("unshare", "--time", "--boottime", "3600000", "--fork", self)
	if there-here != 1000 {
		t.Errorf("ahead by %d hours, and by %d where the machine has slept for a thousand", here, there)
	}
}

func BenchmarkNowWithSuspend(b *testing.B) {
	for b.Loop() {
		_ = NowWithSuspend()
	}
}
