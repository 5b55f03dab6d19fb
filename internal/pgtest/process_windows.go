package pgtest

import "errors"

func stop(int) error       { return errors.ErrUnsupported }
func cont(int) error       { return errors.ErrUnsupported }
func kill(int) error       { return errors.ErrUnsupported }
func interrupt(int) error  { return errors.ErrUnsupported }
func childrenOf(int) []int { return nil }
func gone(int) bool        { return true }
