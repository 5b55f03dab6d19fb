package sdnotify

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/ownerlease/owner/internal/privdir"
)

// A Listener is a socket that processes send messages to.
type Listener struct {
	conn   *net.UnixConn
	path   string
	remove func()
}

// Listen makes a socket that only this user can reach. Who sends to it the kernel says.
func Listen() (*Listener, error) {
	name := uuid.NewString()
	dir, remove, err := privdir.ForSocket(len(name))
	if err != nil {
		return nil, fmt.Errorf("a private folder for %s: %w", SocketEnv, err)
	}
	path := filepath.Join(dir, name)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err == nil {
		if err = passCredentials(conn); err != nil {
			_ = conn.Close()
			_ = os.Remove(path)
		}
	}
	if err != nil {
		remove()
		return nil, fmt.Errorf("%s: %w", SocketEnv, err)
	}
	go privdir.RemoveDead(dir, name)
	return &Listener{conn, path, remove}, nil
}

func passCredentials(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
	return errors.Join(err, os.NewSyscallError("setsockopt", set))
}

// Path is what SocketEnv is to be.
func (l *Listener) Path() string { return l.path }

// Close ends Receive, and removes the socket.
func (l *Listener) Close() {
	_ = l.conn.Close()
	_ = os.Remove(l.path)
	l.remove()
}

// mostFiles is how many the kernel passes with one message at most.
const mostFiles = 253

// Receive calls note with each message, and with the number that its sender has in this
// process's pid namespace, 0 where it has none. A message that is too long is left out. It
// returns when the Listener has been closed.
//
// While note runs, a sender that has added BARRIER=1 (sd_notify_barrier(3), as
// systemd-notify(1) does) waits, so that it can still be looked at.
func (l *Listener) Receive(note func(pid int, m Message)) {
	text := make([]byte, maxMessage+1)
	control := make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4*mostFiles))
	for {
		n, nc, flags, _, err := l.conn.ReadMsgUnix(text, control)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // of this message: the socket has no connection to lose
			continue
		}
		pid, files := attached(control[:nc])
		if n <= maxMessage && flags&unix.MSG_TRUNC == 0 {
			note(pid, parse(string(text[:n])))
		}
		for _, fd := range files {
			_ = syscall.Close(fd)
		}
	}
}

// attached returns what came with a message.
func attached(control []byte) (pid int, files []int) {
	parts, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0, nil
	}
	for _, part := range parts {
		if cred, err := unix.ParseUnixCredentials(&part); err == nil {
			pid = int(cred.Pid)
		}
		if fds, err := unix.ParseUnixRights(&part); err == nil {
			files = append(files, fds...)
		}
	}
	return pid, files
}
