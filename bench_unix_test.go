//go:build unix

package owner

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ownerlease/owner/internal/disk"
)

// Each benchmark has a floor beside it: the same system calls without the
// library. Compare the two of one run.

func BenchmarkJoinFollower(b *testing.B) {
	cfg := Config{LeasePath: filepath.Join(b.TempDir(), "x.lease"), TTL: time.Minute, Endpoint: "unix:/tmp/x"}
	o, err := Join(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer o.Release()

	b.Run("join", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if f, err := Join(context.Background(), cfg); err != nil || f.Endpoint() == "" {
				b.Fatal(err)
			}
		}
	})
	b.Run("floor", func(b *testing.B) {
		b.ReportAllocs()
		alive := alivePath(cfg.LeasePath, o.InstanceID())
		buf := make([]byte, maxRecord)
		for b.Loop() {
			var st unix.Statfs_t
			must(b, unix.Statfs(filepath.Dir(cfg.LeasePath), &st))
			f := open(b, cfg.LeasePath, os.O_RDONLY)
			_, err := f.Read(buf)
			must(b, err, f.Close())
			f = open(b, alive, os.O_RDONLY)
			if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
				b.Fatal(err)
			}
			must(b, f.Close())
		}
	})
}

func open(tb testing.TB, path string, flag int) *os.File {
	f, err := os.OpenFile(path, flag|disk.OpenFlags, 0o600)
	must(tb, err)
	return f
}
