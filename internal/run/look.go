package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/ownerlease/owner"
)

// lookPath finds the command as execvp(3) does: also by way of a relative entry
// of PATH, which exec.LookPath finds, but calls an error.
func lookPath(command string) (string, error) {
	path, err := exec.LookPath(command)
	if _, set := os.LookupEnv("PATH"); !set && filepath.Base(command) == command && runtime.GOOS != "windows" {
		path, err = lookUsual(command)
	}
	if errors.Is(err, exec.ErrDot) && path != "" {
		err = nil
	}
	if info, serr := os.Stat(command); errors.Is(err, exec.ErrNotFound) && serr == nil && info.IsDir() && filepath.Base(command) != command {
		err = fmt.Errorf("%s is a folder", command) // on Windows it is not found otherwise
	}
	return path, err
}

// lookUsual is for an environment without PATH, as "env -i" leaves it: the C library has
// these folders then.
func lookUsual(command string) (path string, err error) {
	for _, dir := range []string{"/usr/local/bin", "/bin", "/usr/bin"} {
		if path, err = exec.LookPath(filepath.Join(dir, command)); err == nil {
			return path, nil
		}
	}
	return "", &exec.Error{Name: command, Err: exec.ErrNotFound}
}

// isNested reports whether this process belongs to the command that runs under
// the lease: waiting for it would be waiting for itself. What cannot be found out
// in a moment does not count.
func (o *Options) isNested() bool {
	id := os.Getenv("OWNER_INSTANCE_ID")
	if id == "" {
		return false
	}
	holder, err := o.holder()
	// The environment alone can have been handed on, as at(1) does.
	return err == nil && holder.InstanceID == id && mayDescendFrom(holder.PID)
}

// holder returns the record of the live owner of the lease.
func (o *Options) holder() (owner.Record, error) {
	if o.Config.Store == nil {
		st, err := owner.Probe(o.Config.LeasePath)
		if err == nil && st.Condition != owner.Live {
			err = errors.New("not live")
		}
		return st.Record, err
	}
	ctx, end := context.WithTimeout(context.Background(), time.Second)
	defer end()
	view, err := o.Config.Store.Look(ctx)
	return view.Holder, err
}
