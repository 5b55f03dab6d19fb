package start

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// A child is a process that was started.
type child struct {
	since      time.Time
	log        *log
	ended      bool
	status     status
	looked     bool // who owns was read after its end
	terminated bool // by this process

	system // its pid, and what the system needs to wait for it
}

// A status is how a process has ended.
type status struct {
	code int    // -1 where a signal has ended it, or that is not known
	text string // "exit status 3"
}

func (s status) String() string { return s.text }

// spawning is held while a process is started, as descriptors are changed for that.
var spawning sync.Mutex

// spawn starts the process, detached: it gets the log and nothing else of this process.
func spawn(c *Command) (*child, error) {
	l, err := openLog(c.Log)
	if err != nil {
		return nil, err
	}
	defer l.close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Env, cmd.Dir = c.Env, c.Dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = null, l.file, l.file
	detach(cmd)
	spawning.Lock()
	defer spawning.Unlock()
	restore := keepDescriptors()
	err = cmd.Start()
	restore()
	if err != nil {
		return nil, c.cannotStart(err)
	}
	return newChild(cmd.Process, l), nil
}

// find returns an error where it is known beforehand that there is no such program: then
// no file is made. A path that is relative to Dir is left to the system.
func (c *Command) find() error {
	if c.Dir != "" && !filepath.IsAbs(c.Path) && filepath.Base(c.Path) != c.Path {
		return nil
	}
	_, err := exec.LookPath(c.Path)
	if errors.Is(err, exec.ErrNotFound) && filepath.Base(c.Path) != c.Path && isFolder(c.Path) {
		err = fmt.Errorf("%s is a folder", c.Path) // on Windows it is not found otherwise
	}
	if err != nil {
		return c.cannotStart(err)
	}
	return nil
}

func (c *Command) cannotStart(err error) error {
	return &StartError{Path: c.Path, ExitCode: -1, Err: fmt.Errorf("it cannot be started: %w", err), advice: adviseStart(c, err)}
}

// adviseStart says what can be done about a program that cannot be started.
func adviseStart(c *Command, err error) string {
	var path *fs.PathError
	switch {
	case c.Dir != "" && !isFolder(c.Dir):
		return "the working directory " + c.Dir + " is not a folder"
	case errors.Is(err, exec.ErrNotFound):
		return "give its path, or add its folder to PATH"
	case errors.Is(err, exec.ErrDot):
		return "give its path, as it is in the current folder"
	case errors.Is(err, fs.ErrNotExist) && errors.As(err, &path):
		return "no such program, or the interpreter that its first line names is missing"
	case errors.Is(err, fs.ErrPermission):
		return "is it a program, with permission to execute it?"
	}
	return adviseSystem(err)
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// grace is how long a process may take to end when it is told to.
const grace = time.Second

// terminate ends the process and its group.
func (c *child) terminate() {
	c.terminated = true
	c.tell(false)
	for until := time.Now().Add(grace); !c.poll() && time.Now().Before(until); {
		time.Sleep(firstPause)
	}
	c.tell(true) // what it may have left in its group, too
	for until := time.Now().Add(grace); !c.ended && !c.poll() && time.Now().Before(until); {
		time.Sleep(firstPause)
	}
}
