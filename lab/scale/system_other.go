//go:build !linux

package main

import (
	"errors"
	"math"
	"runtime"
	"time"
)

var errNotLinux = errors.New("what a process uses is read from Linux's /proc; this is " + runtime.GOOS)

func cpu(int) (time.Duration, error)          { return 0, errNotLinux }
func sizes(int) (rss, fds float64, err error) { return 0, 0, errNotLinux }
func share(int) (float64, error)              { return 0, errNotLinux }
func raiseDescriptors(uint64) (limit uint64)  { return math.MaxInt }
func hinted() int                             { return math.MaxInt }
