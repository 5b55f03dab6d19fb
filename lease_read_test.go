package owner

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ownerlease/owner/internal/clock"
	"github.com/ownerlease/owner/internal/disk"
)

func TestOneLeaseByManyPaths(t *testing.T) {
	p := leasePath(t)
	o := joinFile(t, p)
	t.Chdir(filepath.Dir(p))
	paths := []string{p, "x.lease", "./x.lease", "../" + filepath.Base(filepath.Dir(p)) + "/x.lease"}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Dir(p), link); err == nil {
		paths = append(paths, filepath.Join(link, "x.lease"))
	}
	for _, path := range paths {
		if f := joinFile(t, path); f.IsOwner() || f.InstanceID() != o.InstanceID() {
			t.Errorf("%s is another lease", path)
		}
	}
}

func TestManyJoinersOneWins(t *testing.T) {
	p := leasePath(t)
	var mu sync.Mutex
	var wg sync.WaitGroup
	owners, ids := 0, map[string]bool{}
	start := make(chan struct{})
	for range 64 {
		wg.Go(func() {
			<-start
			o := joinFile(t, p)
			mu.Lock()
			defer mu.Unlock()
			ids[o.InstanceID()] = true
			if o.IsOwner() {
				owners++
			}
			if o.Endpoint() == "" {
				t.Errorf("knows an owner without its endpoint: %+v", o.Holder())
			}
		})
	}
	close(start)
	wg.Wait()
	if owners != 1 || len(ids) != 1 {
		t.Errorf("%d owners, %d names", owners, len(ids))
	}
}

// Readers beside a renewing owner see whole records only.
func TestReadersSeeWholeRecords(t *testing.T) {
	p := leasePath(t)
	o := joinFile(t, p, func(c *Config) { c.Meta = map[string]string{"padding": strings.Repeat("x", 2000)} })
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for !closed(done) {
			must(t, o.a.lease.Renew(context.Background(), clock.Now()))
		}
	})
	for range 2000 {
		if r, err := Inspect(p); err != nil || r.InstanceID != o.InstanceID() {
			t.Errorf("%+v, %v", r, err)
			break
		}
	}
	close(done)
	wg.Wait()
}

func TestUntrustedFileSystemIsRefused(t *testing.T) {
	err := explain(&disk.UntrustedError{Dir: "/mnt/nfs", FS: "NFS"})
	if !errors.Is(err, ErrUnsupportedFilesystem) || !strings.Contains(err.Error(), "local disk") {
		t.Error(err)
	}
}

// A damaged record is read again, as a renewal may be half way; a file that is not ours,
// or an error of the disk, is not.
func TestUntilWhole(t *testing.T) {
	disk := errors.New("input/output error")
	for _, tc := range []struct {
		errs []error // of one reading after the other
		want error
	}{
		{[]error{nil}, nil},
		{[]error{&corruptError{ours: true}, &corruptError{ours: true}, nil}, nil},
		{[]error{&corruptError{ours: true}, disk}, disk},
		{[]error{disk}, disk},
		{[]error{fs.ErrNotExist}, fs.ErrNotExist},
	} {
		n := 0
		_, err := thisProcess.retryTornRead(func() (*diskRecord, error) { n++; return nil, tc.errs[n-1] })
		if err != tc.want || n != len(tc.errs) {
			t.Errorf("%v: %d readings, %v", tc.errs, n, err)
		}
	}
	for _, ours := range []bool{false, true} {
		n := 0
		_, err := thisProcess.retryTornRead(func() (*diskRecord, error) { n++; return nil, &corruptError{ours: ours} })
		if err == nil || ours != (n > 1) {
			t.Errorf("ours %v: %d readings, %v", ours, n, err)
		}
	}
}
