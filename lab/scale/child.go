package main

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
)

// A child is a process of this program's that talks in lines. It ends with its input.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func startChild(j *job) (*child, error) {
	cmd, err := command(j)
	if err != nil {
		return nil, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting another process (its limits: ulimit -u, ulimit -n): %w", err)
	}
	return &child{cmd, in, bufio.NewScanner(out)}, nil
}

func (c *child) say(line string) error {
	_, err := fmt.Fprintln(c.in, line)
	return err
}

// hear returns the next line.
func (c *child) hear() (string, error) {
	if !c.out.Scan() {
		return "", fmt.Errorf("process %d has ended: %w", c.cmd.Process.Pid, io.ErrUnexpectedEOF)
	}
	return c.out.Text(), nil
}

// expect reads the same line from all, or returns an error.
func expect(all []*child, line string) error {
	for _, c := range all {
		said, err := c.hear()
		if err != nil {
			return err
		}
		if said != line {
			return fmt.Errorf("process %d: %s", c.pid(), said)
		}
	}
	return nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// end ends the child, however it is.
func (c *child) end() {
	_ = c.in.Close()
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}
