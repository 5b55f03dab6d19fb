//go:build !unix

package main

import "errors"

// The jobs that stop a process or remove an open file are left out.
const onUnix = false

func (c *child) stop() error { return errors.ErrUnsupported }

func (c *child) resume() error { return errors.ErrUnsupported }
