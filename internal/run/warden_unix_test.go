//go:build unix

package run

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// A poll's time is stopped while the machine is suspended.
func TestWardenNoticesAResume(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	asked := 0
	clock := func() time.Duration { // the machine is suspended during the first poll
		asked++
		if asked == 1 {
			return 0
		}
		return 2 * time.Hour
	}
	readable := make(chan bool)
	go func() { readable <- ready(r, time.Hour, timebase(true).longestWait(), clock) }()
	select {
	case got := <-readable:
		if got {
			t.Error("there is nothing to read")
		}
	case <-time.After(20 * time.Second):
		t.Error("the warden has slept through the resume")
		w.Close()
		<-readable
	}
	w.Close()
}

// News that lie there count, also when the moment has passed.
func TestWardenHearsNewsFirst(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := w.WriteString("news"); err != nil {
		t.Fatal(err)
	}
	if !ready(r, time.Hour, time.Hour, func() time.Duration { return 2 * time.Hour }) {
		t.Error("the news did not arrive")
	}
}

const printClocks = "OWNER_TEST_PRINT_CLOCKS"

func TestMain(m *testing.M) {
	if os.Getenv(printClocks) != "" {
		fmt.Print(int((timebase(true).now() - timebase(false).now()).Round(time.Hour).Hours()))
		return
	}
	os.Exit(m.Run())
}

// In a time namespace, the clock that counts suspends can be ahead of the other.
func TestTimebases(t *testing.T) {
	t.Parallel()
	slept := exec.Command("unshare", "--time", "--boottime", "3600000", "--fork", os.Args[0])
	here := exec.Command(os.Args[0])
	var ahead [2]int
	for i, cmd := range []*exec.Cmd{here, slept} {
		cmd.Env = append(os.Environ(), printClocks+"=1")
		out, err := cmd.Output()
		if err != nil {
			t.Skipf("no time namespace can be made here: %v", err)
		}
		if _, err := fmt.Sscan(string(out), &ahead[i]); err != nil {
			t.Fatalf("%v printed %q", cmd, out)
		}
	}
	if got := ahead[1] - ahead[0]; got != 1000 {
		t.Errorf("ahead by %d hours more where the machine has slept for a thousand", got)
	}
}
