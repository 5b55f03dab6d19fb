//go:build !linux

package main

import (
	"errors"
	"os/exec"
)

func contain(*exec.Cmd) {}

func canContain() error { return errors.New("only Linux has pid namespaces") }
