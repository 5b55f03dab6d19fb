//go:build !linux

package hint

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/fsnotify/fsnotify"
)

// fsnotify refuses to add, here because it was closed.
func TestFailedAdd(t *testing.T) {
	noLeak(t)
	lease := filepath.Join(folderOf(t), "lease")
	must(t, watched.open())
	must(t, watched.source.watcher.Close())
	stop, err := File(lease, func() {})
	if !errors.Is(err, fsnotify.ErrClosed) {
		t.Error(err)
	}
	stop()
	l := listenFile(t, lease)
	write(t, lease)
	l.wait(t)
}
