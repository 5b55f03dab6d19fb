package start

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ownerlease/owner"
)

const (
	// maxLog is the size from which a log is put aside at a start.
	maxLog = 1 << 20
	// oldLog is appended to its name then.
	oldLog = ".1"
	// mostLog is how much a process may write before it owns.
	mostLog = 16 << 20
	// maxTail is how much of the log's end an error has.
	maxTail = 4 << 10
)

// A log is where the output of a process goes.
type log struct {
	path string
	from int64 // where this process's output begins
	file *os.File
}

// openLog opens the log for a process that is about to be started.
func openLog(path string) (*log, error) {
	if path == "" || path == os.DevNull {
		f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		return &log{file: f}, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := putAside(abs); err != nil {
		return nil, fmt.Errorf("start: the log: %w", err)
	}
	f, err := os.OpenFile(abs, os.O_WRONLY|os.O_APPEND|os.O_CREATE|noWait, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start: the log: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = notRegular(abs)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("start: the log: %w", err)
	}
	return &log{path: abs, from: info.Size(), file: f}, nil
}

func notRegular(path string) error {
	return fmt.Errorf("%w: %s is not a regular file: give the path of a file", owner.ErrInvalidConfig, path)
}

// putAside renames a log that has become large.
func putAside(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil: // opening it says what is wrong, if it is not just missing
		return nil
	case !info.Mode().IsRegular(): // opening a FIFO could wait, and a link could lead to any file
		return notRegular(path)
	case info.Size() <= maxLog:
		return nil
	}
	_ = os.Remove(path + oldLog) // Windows renames over no file that is open
	return os.Rename(path, path+oldLog)
}

// close closes this process's handle.
func (l *log) close() { _ = l.file.Close() }

// written is how much has been written since the start, 0 where that is not to be known.
func (l *log) written() int64 {
	if l.path == "" {
		return 0
	}
	info, err := os.Stat(l.path)
	if err != nil {
		return 0
	}
	return info.Size() - l.from
}

// tail returns the end of what the process has written.
func (l *log) tail() string {
	if l.path == "" {
		return ""
	}
	f, err := os.Open(l.path)
	if err != nil {
		return ""
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || end <= l.from { // or another has cut it
		return ""
	}
	from := max(l.from, end-maxTail)
	b := make([]byte, end-from)
	n, _ := f.ReadAt(b, from)
	return string(b[:n])
}
