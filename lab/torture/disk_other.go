//go:build !linux

package main

import (
	"errors"
	"fmt"
	"os"
)

func canDisk() error { return errors.New("only Linux has the disk that can be frozen") }

func beKeeper() int {
	fmt.Fprintln(os.Stderr, "torture:", canDisk())
	return 1
}
