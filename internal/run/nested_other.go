//go:build !linux

package run

// mayDescendFrom cannot be found out here, and the environment says so.
func mayDescendFrom(int) bool { return true }
