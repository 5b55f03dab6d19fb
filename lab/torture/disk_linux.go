package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A keeper keeps a small ext4 on a loop device.
type keeper struct {
	image, mount, filler string
	frozen               bool
}

func canDisk() error {
	if os.Geteuid() != 0 {
		return errors.New("only root may mount a disk")
	}
	for _, tool := range []string{"mkfs.ext4", "mount", "umount", "fsfreeze", "findmnt", "e2fsck"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("needs %s (Debian: apt-get install e2fsprogs mount util-linux): %w", tool, err)
		}
	}
	return nil
}

// beKeeper is the whole life of a keeper. Signals are for the director.
func beKeeper() int {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	place := os.Getenv(taskEnv)
	mount := filepath.Join(place, "mount")
	k := &keeper{image: filepath.Join(place, "image"), mount: mount, filler: filepath.Join(mount, "filler")}
	answer(k.make())
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		do, ok := map[string]func() error{
			"freeze": k.freeze, "thaw": k.thaw, "fill": k.fill, "drain": k.drain, "fail": k.fail, "repair": k.repair,
		}[commands.Text()]
		if !ok {
			do = func() error { return fmt.Errorf("there is no command %q", commands.Text()) }
		}
		answer(do())
	}
	if err := k.close(); err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		return 1
	}
	return 0
}

func answer(err error) {
	if err != nil {
		fmt.Println(strconv.Quote(err.Error()))
		return
	}
	fmt.Println(done)
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

func (k *keeper) make() error {
	err := errors.Join(os.WriteFile(k.image, nil, 0o600), os.Truncate(k.image, 16<<20), os.Mkdir(k.mount, 0o700))
	if err == nil {
		err = run("mkfs.ext4", "-q", k.image)
	}
	if err == nil {
		err = k.attach()
	}
	return err
}

// attach mounts the disk. The leases' folder reaches the disk now: an error of the
// disk undoes what has not. It may have undone that the filler was removed.
func (k *keeper) attach() error {
	if err := run("mount", "-o", "loop,errors=remount-ro", k.image, k.mount); err != nil {
		return err
	}
	if err := unix.Access(k.mount, unix.W_OK); err != nil {
		return err
	}
	if err := os.Remove(k.filler); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	leases := filepath.Join(k.mount, "leases")
	if err := os.MkdirAll(leases, 0o700); err != nil {
		return err
	}
	f, err := os.Open(leases)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// detach unmounts it. Its users are about to end.
func (k *keeper) detach() (err error) {
	for range 500 {
		if err = unix.Unmount(k.mount, 0); !errors.Is(err, unix.EBUSY) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("unmounting %s: %w", k.mount, err)
}

func (k *keeper) freeze() error {
	k.frozen = true
	return run("fsfreeze", "--freeze", k.mount)
}

func (k *keeper) thaw() error {
	k.frozen = false
	return run("fsfreeze", "--unfreeze", k.mount)
}

// fill leaves not one block.
func (k *keeper) fill() error {
	f, err := os.Create(k.filler)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4 << 10, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, unix.ENOSPC) {
			return err
		}
	}
	return nil
}

func (k *keeper) drain() error { return os.Remove(k.filler) }

// fail makes the kernel find an error, for which it makes the disk read-only. It cannot
// be mounted read-only while an owner has its record open.
func (k *keeper) fail() error {
	device, err := exec.Command("findmnt", "--noheadings", "--output", "SOURCE", k.mount).Output()
	if err != nil {
		return fmt.Errorf("finding the device of %s: %w", k.mount, err)
	}
	trigger := filepath.Join("/sys/fs/ext4", filepath.Base(strings.TrimSpace(string(device))), "trigger_fs_error")
	if err := os.WriteFile(trigger, []byte("torture"), 0); err != nil {
		return fmt.Errorf("this kernel cannot be asked for an error (name the faults, without readonly): %w", err)
	}
	return nil
}

// repair makes it whole and writable again. No process may be using it.
func (k *keeper) repair() error {
	if err := k.detach(); err != nil {
		return err
	}
	// 1: errors were found and corrected.
	var exit *exec.ExitError
	if err := run("e2fsck", "-f", "-y", k.image); err != nil && (!errors.As(err, &exit) || exit.ExitCode() > 1) {
		return err
	}
	// A process elsewhere that has made a mount namespace meanwhile keeps the disk as it
	// was, read-only, for as long as it runs.
	err := k.attach()
	for range 300 {
		if !errors.Is(err, unix.EROFS) {
			break
		}
		time.Sleep(100 * time.Millisecond)
		if err = k.detach(); err == nil {
			err = k.attach()
		}
	}
	return err
}

// close removes everything. If processes still use the disk, it goes with them.
func (k *keeper) close() error {
	if k.frozen {
		_ = k.thaw()
	}
	err := k.detach()
	if errors.Is(err, unix.EBUSY) {
		err = unix.Unmount(k.mount, unix.MNT_DETACH)
	}
	if errors.Is(err, unix.EINVAL) {
		err = nil // it was not mounted
	}
	return errors.Join(err, os.Remove(k.image))
}
