//go:build !linux

package sdnotify

import "errors"

// A Listener is for Linux only: elsewhere the kernel does not say who sends.
type Listener struct{}

// Listen says so.
func Listen() (*Listener, error) {
	return nil, errors.New("messages of a service are received on Linux only: elsewhere the kernel does not say who has sent them")
}

// Path is "".
func (l *Listener) Path() string { return "" }

// Close does nothing.
func (l *Listener) Close() {}

// Receive returns at once.
func (l *Listener) Receive(func(pid int, m Message)) {}
