//go:build !(linux || darwin || dragonfly || freebsd || netbsd || openbsd || windows)

package hint

import (
	"errors"
	"fmt"
	"runtime"
)

type exit struct{}

func openExit(int) (*exit, error) {
	return nil, fmt.Errorf("%s does not report the end of another's process: %w", runtime.GOOS, errors.ErrUnsupported)
}

func (*exit) wait()   {}
func (*exit) cancel() {}
func (*exit) close()  {}
