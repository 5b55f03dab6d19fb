//go:build !linux

package hint

func advise(err error) error { return err }

func adviseProcess(err error) error { return err }
