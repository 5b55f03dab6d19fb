// Package start starts an owner on demand: a process that serves is there when it is
// asked for, without a daemon that waits for that.
//
//	rec, err := start.Ensure(ctx, store, start.Command{Path: "modeld", Log: log})
//
// [Ensure] returns the record of an owner that is ready. If no instance owns the lease, it
// starts the command, which must then acquire the lease and advertise an endpoint, as
// [owner.Run] with a reach.Server does. The process is detached: it has its own session,
// none of this process's files, and outlives it. The Client of package reach calls Ensure
// for each request that finds no owner.
//
// However many processes call Ensure at once, one of them starts a process, and all get
// the record of its owner: a lock beside the lease makes them take turns. A caller that is
// killed frees that lock, and the next one waits for the process that was started before
// it starts another. The lock is for efficiency: that there is one owner is the lease's
// promise, and a process that finds another owner can end, with any exit status.
package start

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/leasename"
)

// Command is what starts an owner. Only Path is required for a lease that is a file.
type Command struct {
	// Path is the program. Without a separator in it, it is looked for in PATH.
	Path string
	// Args are its arguments, without the program's name.
	Args []string
	// Env is its environment; nil is that of this process.
	Env []string
	// Dir is its working directory; "" is that of this process.
	Dir string

	// Log is the file that its output is appended to; "" discards the output, and an error
	// cannot say then why the process has failed. If the file has more than 1 MiB at a
	// start, it is renamed to Log.1 first, in the place of an older one. A process that
	// writes more than 16 MiB before any instance owns the lease is ended by the Ensure that
	// has started it; later, nothing bounds the file. It must be a regular file or os.DevNull, and
	// none of the lease's files.
	Log string

	// Lock is the file that makes starters take turns. By default, it is the lease's path
	// with ".start" appended; it is required where the Store does not keep the lease in a
	// file, and must then be on a local disk of this machine. It is made if there is none,
	// and never removed. A file with other content is refused, and left as it is.
	Lock string

	// Timeout is how long a start may take, from the start of the process to the moment at
	// which its owner is ready. Default 10 s. An Ensure that does not start a process waits
	// as long for an owner that is not ready yet, or for another's start: so it takes up
	// to twice as long.
	Timeout time.Duration

	// NoEndpoint says that an owner needs no endpoint to be ready. Otherwise an owner is
	// ready when its record has one: a server advertises it when it can be reached.
	NoEndpoint bool
}

const defaultTimeout = 10 * time.Second

// Ensure returns the record of the instance that owns the lease and is ready. If no
// instance owns it, Ensure starts c and waits until an owner is ready, whichever process
// that is in, or until the process has ended, Timeout is over, or ctx has ended.
//
// A process that ends with status 0 may have left another behind that will own: that is
// waited for until Timeout. If it ends otherwise and no instance owns the lease, that is
// a *[StartError] at once. When Timeout is over and no instance owns the lease, the process
// and its process group are ended. One that owns and is not ready is left: it may still
// be loading. It is left, too, if ctx has ended; the next Ensure waits for it.
//
// Errors: a *StartError, which says why the process did not become a ready owner; an
// error that matches [ErrNotReady], if Timeout is over; one that matches
// [owner.ErrInvalidConfig], for a Command or a Lock that cannot be used; ctx's cause; or that of
// the Store, if the lease cannot be read.
//
// That the owner still owns when Ensure returns is not promised.
func Ensure(ctx context.Context, s owner.Store, c Command) (owner.Record, error) {
	if err := c.resolve(s); err != nil {
		return owner.Record{}, fmt.Errorf("start: %w: %w", owner.ErrInvalidConfig, err)
	}
	reapEnded()
	t := &try{store: s, cmd: &c, lock: lockFile{c.Lock, leaseOf(s)}}
	defer t.end()
	return t.run(ctx)
}

// resolve checks the command, and fills in the defaults.
func (c *Command) resolve(s owner.Store) error {
	switch {
	case s == nil:
		return errors.New("the Store is nil")
	case c.Path == "":
		return errors.New("the Command has no Path")
	case c.Timeout < 0:
		return fmt.Errorf("the Timeout is %v; it cannot be negative", c.Timeout)
	case c.Timeout == 0:
		c.Timeout = defaultTimeout
	}
	if c.Lock == "" {
		path := leaseOf(s)
		if path == "" {
			return errors.New("the Command has no Lock, and the lease is not a file that it could be put beside: name a file on this machine")
		}
		c.Lock = leasename.Start(path)
	}
	var err error
	if c.Lock, err = filepath.Abs(c.Lock); err != nil {
		return err
	}
	return c.apart(leaseOf(s))
}

// apart checks that the files of the command are none of the lease's, which they would
// damage, and not the same. A log takes its place for an older one, too.
func (c *Command) apart(lease string) error {
	lock := location(c.Lock)
	if lease = location(lease); lease != "" && lock != leasename.Start(lease) && leasename.Of(lease, lock) {
		return fmt.Errorf("the Lock %s is a file of the lease: give another, or leave it out", c.Lock)
	}
	if c.Log == "" {
		return nil
	}
	for _, path := range []string{c.Log, c.Log + oldLog} {
		switch log := location(path); {
		case lease != "" && leasename.Of(lease, log):
			return fmt.Errorf("%s, a file of the Log, is a file of the lease: give another Log", path)
		case log == lock:
			return fmt.Errorf("%s cannot be the Lock and a file of the Log: give another for one of them", path)
		}
	}
	return nil
}

// location is the path of a file in a form that can be compared: its folder may have
// several. It is "" for "".
func location(path string) string {
	if path == "" {
		return ""
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
		return filepath.Join(dir, filepath.Base(abs))
	}
	return abs
}

// leaseOf is the path of the lease, "" where it is not a file.
func leaseOf(s owner.Store) string {
	if file, ok := s.(interface{ LeasePath() string }); ok {
		return file.LeasePath()
	}
	return ""
}

// ready reports whether this is an owner that can be returned.
func (c *Command) ready(r owner.Record) bool {
	return r.InstanceID != "" && r.Epoch != 0 && (c.NoEndpoint || r.Meta[owner.EndpointMetaKey] != "")
}
