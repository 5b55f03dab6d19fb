//go:build unix

package run

import (
	"os"
	"testing"
	"time"
)

// A poll's own time stands still while the machine is suspended.
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
		t.Error("the news were not heard")
	}
}
