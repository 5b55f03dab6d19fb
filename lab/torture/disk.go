package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// A disk is the file system of one lease. A process, its keeper, mounts it, injects
// faults on request, and restores everything when its stdin ends. So not even a killed
// director leaves a disk frozen or mounted.
type disk struct {
	mount   string
	keeper  *process
	answers *bufio.Scanner
}

// newDisk makes a disk in a folder.
func newDisk(place string, stderr *os.File) (*disk, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	answers, stdout, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stdout.Close()
	d := &disk{mount: filepath.Join(place, "mount"), answers: bufio.NewScanner(answers)}
	if d.keeper, err = start(self, "disk", false, []string{taskEnv + "=" + place}, stdout, stderr); err != nil {
		return nil, err
	}
	if err := d.hear("mounting"); err != nil {
		_ = d.close()
		return nil, err
	}
	return d, nil
}

// ask sends the keeper a request.
func (d *disk) ask(what string) error {
	if err := d.keeper.tell(what); err != nil {
		return err
	}
	return d.hear(what)
}

func (d *disk) hear(what string) error {
	if !d.answers.Scan() {
		return fmt.Errorf("%s: the disk's keeper has ended: stderr may have more", what)
	}
	if d.answers.Text() == done {
		return nil
	}
	why, err := strconv.Unquote(d.answers.Text())
	if err != nil {
		why = d.answers.Text()
	}
	return fmt.Errorf("%s: %s", what, why)
}

func (d *disk) close() error {
	d.keeper.leave()
	return d.keeper.await(30 * time.Second)
}

// done is the keeper's answer; any other is an error, quoted.
const done = "done"
