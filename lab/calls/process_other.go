//go:build !unix

package main

import "os/exec"

func isolate(*exec.Cmd) {}

// canStop: there are no signals that stop a process here.
const canStop = false

func (p *process) stop()   {}
func (p *process) resume() {}

// terminate: without SIGTERM, a worker ends in order when its stdin does.
func (p *process) terminate() { _ = p.stdin.Close() }
