// Package sdnotify is the protocol of sd_notify(3), from both sides: a service that tells
// its manager how it is getting on, and, on Linux, a manager that listens.
package sdnotify

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The messages of a service.
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
	Alive    = "WATCHDOG=1"
	status   = "STATUS="
)

// Status is the message that shows a line of text.
func Status(text string) string { return status + text }

// The variables by which a manager says where it listens, and what it expects.
const (
	SocketEnv = "NOTIFY_SOCKET"
	usecEnv   = "WATCHDOG_USEC"
	pidEnv    = "WATCHDOG_PID"
)

// How long a message may wait for a manager that does not read. One that says how the
// service is now comes again; that it is ready does not.
const (
	patience     = 100 * time.Millisecond
	longPatience = 2 * time.Second
)

// A Manager is the service manager that has started this process. The nil Manager is
// none: it is told nothing.
type Manager struct {
	addr     *net.UnixAddr
	conn     *net.UnixConn
	watchdog time.Duration
}

// Take returns the manager that the environment names, nil where it names none, and takes
// its variables out of the environment, so that no child speaks in this process's place.
// Where there is an error, too, the manager is nil: who notifies goes on without.
func Take() (*Manager, error) {
	addr, ok := os.LookupEnv(SocketEnv)
	if !ok {
		return nil, nil
	}
	watchdog, err := watchdogOf(os.Getenv(usecEnv), os.Getenv(pidEnv))
	for _, name := range []string{SocketEnv, usecEnv, pidEnv} {
		_ = os.Unsetenv(name)
	}
	if addr == "" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// What Go dials for "@…" is an abstract address, as sd_notify(3) has it.
	if !filepath.IsAbs(addr) && !(strings.HasPrefix(addr, "@") && len(addr) > 1) {
		return nil, fmt.Errorf("%s is %q: want an absolute path, or @ and a name", SocketEnv, addr)
	}
	m := &Manager{addr: &net.UnixAddr{Name: addr, Net: "unixgram"}, watchdog: watchdog}
	m.conn, err = net.DialUnix("unixgram", nil, m.addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", SocketEnv, err)
	}
	return m, nil
}

// watchdogOf is how long the manager waits for a sign of life; 0 where it waits for none,
// or for one of another process.
func watchdogOf(usec, pid string) (time.Duration, error) {
	if usec == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0, nil
	}
	n, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || n <= 0 || n > int64(1<<63-1)/int64(time.Microsecond) {
		return 0, fmt.Errorf("%s is %q: want a number of microseconds", usecEnv, usec)
	}
	return time.Duration(n) * time.Microsecond, nil
}

// Watchdog is how long the manager waits for Alive, 0 where it does not. Tell it twice as
// often.
func (m *Manager) Watchdog() time.Duration {
	if m == nil {
		return 0
	}
	return m.watchdog
}

// Tell sends one message of these lines. It returns soon also where the manager does not
// read, or has gone: a service does not depend on whether it is listened to.
func (m *Manager) Tell(lines ...string) {
	if m == nil {
		return
	}
	_ = m.conn.SetWriteDeadline(time.Now().Add(patience))
	_, _ = m.conn.Write([]byte(strings.Join(lines, "\n")))
}

// TellReady sends Ready. It tries for two seconds, and keeps no other message waiting.
func (m *Manager) TellReady() {
	if m == nil {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, m.addr)
	if err != nil {
		return
	}
	defer conn.Close()
	_ = conn.SetWriteDeadline(time.Now().Add(longPatience))
	_, _ = conn.Write([]byte(Ready))
}

// Close frees the socket.
func (m *Manager) Close() {
	if m != nil {
		_ = m.conn.Close()
	}
}
