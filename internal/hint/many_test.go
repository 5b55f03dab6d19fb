package hint

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// A new folder must not be compared with all that are watched: thousands would take
// time that grows with their square.
func TestNewFolderAmongMany(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a folder's identity is not known there without opening it: each is compared with all")
	}
	noLeak(t)
	const n = 100
	top := folderOf(t)
	var all []*listener
	compared := func(dir string) int {
		info, err := os.Stat(dir)
		must(t, err)
		return len(watched.alike[identify(info)])
	}
	for i := range n {
		lease := leaseIn(t, top, i)
		if c := compared(filepath.Dir(lease)); c != 0 {
			t.Fatalf("compared with %d of %d", c, i)
		}
		// Twice, as many leases are in one folder.
		all = append(all, listenFile(t, lease), listenFile(t, lease))
		if c := compared(filepath.Dir(lease)); c != 1 {
			t.Fatalf("it is known %d times", c)
		}
	}
	for _, l := range all {
		l.stop()
	}
	if left := len(watched.alike); left != 0 {
		t.Errorf("%d are left", left)
	}
}

// find searches the folders of the same index, and not all: it does not find a folder
// that is not indexed.
func TestFindAsksOnlyThoseAlike(t *testing.T) {
	dir := folderOf(t)
	info, err := os.Stat(dir)
	must(t, err)
	f := &folder{dir: dir, info: info}
	w := &watch{folders: map[string]*folder{dir: f}, alike: map[identity][]*folder{}}
	if w.find("another name", info) == f {
		t.Error("a new folder is compared with all that are watched")
	}
	w.index(f)
	if w.find("another name", info) != f {
		t.Error("the same folder under another name is taken for a new one")
	}
}

// What has another in its place is no longer compared with what was moved away.
func TestOnlyWhatIsThereIsCompared(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a folder that is open keeps its name")
	}
	noLeak(t)
	top := folderOf(t)
	lease := leaseIn(t, top, 0)
	for i := range 5 {
		listenFile(t, lease)
		must(t, os.Rename(filepath.Dir(lease), filepath.Join(top, fmt.Sprint("old", i))))
		leaseIn(t, top, 0)
	}
	listenFile(t, lease)
	if len(watched.alike) != 1 {
		t.Errorf("%d folders are compared, not one", len(watched.alike))
	}
}

func leaseIn(t testing.TB, top string, i int) string {
	t.Helper()
	dir := filepath.Join(top, fmt.Sprint(i))
	must(t, os.Mkdir(dir, 0o700))
	return filepath.Join(dir, "lease")
}

// The time for each of this many folders must not grow with their number.
func BenchmarkFolders(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			top := b.TempDir()
			leases := make([]string, n)
			for i := range leases {
				leases[i] = leaseIn(b, top, i)
			}
			stops := make([]func(), n)
			for b.Loop() {
				for i, lease := range leases {
					stop, err := File(lease, func() {})
					must(b, err)
					stops[i] = stop
				}
				for _, stop := range stops {
					stop()
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/folder")
		})
	}
}
