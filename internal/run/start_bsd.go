//go:build unix && !linux

package run

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The command is started in two steps, so that it cannot run before the warden knows its
// group and the group has the terminal: this program is started again in the command's
// place, waits, and becomes the command.
//
// startEnv makes a starter of this program: the number of the socket that it
// waits at, and the command's path. It is no interface, and the command does not
// see it.
const startEnv = "_OWNER_START"

// A gate is what a starter waits at.
type gate struct {
	socket *os.File
	path   string // the command's
}

// startGated starts a starter for cmd.
func startGated(cmd *exec.Cmd) (*gate, error) {
	self, err := executable()
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	// The starter's end keeps its number: ExtraFiles would replace what the command
	// inherits from this process's parent.
	starter := os.NewFile(uintptr(pair[1]), "starter")
	defer starter.Close()
	unix.CloseOnExec(pair[0])
	g := &gate{socket: os.NewFile(uintptr(pair[0]), "gate"), path: cmd.Path}
	cmd.Path = self
	cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d:%s", startEnv, pair[1], g.path))
	if err := cmd.Start(); err != nil {
		_ = g.socket.Close()
		return nil, err
	}
	return g, nil
}

// close ends the starter.
func (g *gate) close() { _ = g.socket.Close() }

// open lets the command begin, and returns why it cannot.
func (g *gate) open() error {
	defer g.close()
	if _, err := g.socket.Write([]byte{1}); err != nil {
		return nil // the starter was killed: its exit code shows that
	}
	var errno uint32
	if err := binary.Read(g.socket, binary.NativeEndian, &errno); err != nil {
		return nil // closed: by exec, or else as above
	}
	return &fs.PathError{Op: "exec", Path: g.path, Err: syscall.Errno(errno)}
}

// beStarter waits at the gate and becomes the command.
func beStarter(how string) {
	number, path, _ := strings.Cut(how, ":")
	fd, err := strconv.Atoi(number)
	if err != nil {
		return
	}
	unix.CloseOnExec(fd)
	socket := os.NewFile(uintptr(fd), "starter")
	if n, _ := socket.Read(make([]byte, 1)); n == 1 {
		_ = os.Unsetenv(startEnv)
		_, err := execvp(path, os.Args, func(path string, args []string) (int, error) {
			return 0, syscall.Exec(path, args, os.Environ())
		})
		errno, _ := err.(syscall.Errno)
		_ = binary.Write(socket, binary.NativeEndian, uint32(errno))
	}
	os.Exit(127)
}

func executable() (string, error) { return os.Executable() }
