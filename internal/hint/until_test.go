package hint

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// A subscriber after its last hint gets no more, and Linux is not even asked for events;
// its next subscription gets all again.
func TestUntil(t *testing.T) {
	noLeak(t)
	dir := folderOf(t)
	lease := filepath.Join(dir, "lease")
	hints := make(chan bool, 100)
	once := func() bool { hints <- true; return true }
	stop, err := FileUntil(lease, false, once)
	must(t, err)
	write(t, lease)
	<-hints
	for range 10 {
		must(t, os.Remove(lease))
		write(t, lease)
	}
	again, err := FileUntil(lease, false, once)
	must(t, err)
	if len(hints) != 0 {
		t.Errorf("%d hints after the last", len(hints))
	}
	stop()
	must(t, os.Remove(lease))
	<-hints
	again()
	if watched.source != nil {
		t.Error("still watched")
	}
}

// Another subscriber of the folder continues to get everything.
func TestUntilBesideOthers(t *testing.T) {
	noLeak(t)
	dir := folderOf(t)
	lease := filepath.Join(dir, "lease")
	l := listenFile(t, lease)
	stop, err := FileUntil(lease, false, func() bool { return true })
	must(t, err)
	defer stop()
	for range 10 {
		write(t, lease)
		l.wait(t)
		must(t, os.Remove(lease))
		l.wait(t)
	}
}

// One joins while the last one before it has had enough.
func TestJoinedWhileQuiet(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere the source is asked for all the time")
	}
	noLeak(t)
	lease := filepath.Join(folderOf(t), "lease")
	for range 300 {
		quiet, err := FileUntil(lease, false, func() bool { return true })
		must(t, err)
		write(t, lease) // makes it quiet about now
		l := listenFile(t, lease)
		must(t, os.Remove(lease))
		l.wait(t)
		l.stop()
		quiet()
	}
}

// One that wants successors only: the end of an owner does not wake the process for it.
func TestSuccessors(t *testing.T) {
	noLeak(t)
	lease := filepath.Join(folderOf(t), "lease")
	hints := make(chan bool, 100)
	stop, err := FileUntil(lease, true, func() bool { hints <- true; return true })
	must(t, err)
	defer stop()
	write(t, lease+id+".alive")
	must(t, os.Remove(lease+id+".alive"))
	write(t, lease+".tmp")
	if len(hints) != 0 {
		t.Error("a hint before there is a new record")
	}
	must(t, os.Rename(lease+".tmp", lease))
	<-hints
}

// It wants to know what an owner advertises, too.
func TestSuccessorsAdvertise(t *testing.T) {
	noLeak(t)
	lease := filepath.Join(folderOf(t), "lease")
	write(t, lease+id+".alive")
	hints := make(chan bool, 100)
	stop, err := FileUntil(lease, true, func() bool { hints <- true; return true })
	must(t, err)
	defer stop()
	must(t, os.Chtimes(lease+id+".alive", time.Now(), time.Now()))
	<-hints
}
