//go:build !linux

package hint

func advise(err error) error { return err }
