// Package mariatest runs MariaDB for tests: servers of their own in temporary folders, on
// unix sockets, started as an unprivileged user, and ended by the test. It needs the
// server's programs, which Debian has in the package mariadb-server; where they are
// missing, the test is skipped, and says so.
//
// The servers do not sync their disks: they survive the kill of their processes, as the
// kernel keeps the files, and not the end of the machine.
package mariatest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/ownerlease/owner/internal/account"
)

// limit is how long a server may take to start or to end: it only ends a hang.
const limit = time.Minute

// ErrMissing is the error of New where a program is not installed, or not to be had on
// this system: a test is to be skipped.
var ErrMissing = errors.New("skipped")

// Server is a MariaDB server with its data.
type Server struct {
	dir   string // has the data in data/, the log in log, and the socket
	cmd   *exec.Cmd
	ended chan struct{} // of cmd
}

// Start starts a new server, which ends with the test. options are arguments of mariadbd.
// Without the programs the test is skipped.
func Start(tb testing.TB, options ...string) *Server {
	tb.Helper()
	s, err := New(options...)
	switch {
	case errors.Is(err, ErrMissing):
		tb.Skip(err)
	case err != nil:
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("the end of the log of %s:\n%s", s.dir, s.log())
		}
		s.Close()
	})
	return s
}

// New starts a new server; the caller ends it with Close. It is for what several tests
// share, as in a TestMain; tests call Start. A new server takes some seconds.
func New(options ...string) (*Server, error) {
	install, err := program("mariadb-install-db", "/usr/bin")
	if err != nil {
		return nil, err
	}
	mariadbd, err := program("mariadbd", "/usr/sbin")
	if err != nil {
		return nil, err
	}
	user, err := account.ForServer("mysql")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMissing, err)
	}
	dir, err := shortFolder()
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir}
	if err := user.Give(dir); err != nil {
		s.Close()
		return nil, err
	}
	cmd := user.Command(syscall.SIGKILL, dir, install, "--no-defaults", "--datadir="+s.data(), "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
	if out, err := cmd.CombinedOutput(); err != nil {
		s.Close()
		return nil, fmt.Errorf("%s: %w: %s", install, err, out)
	}
	s.cmd = user.Command(syscall.SIGKILL, dir, mariadbd, append([]string{
		"--no-defaults", "--datadir=" + s.data(), "--socket=" + s.Socket(), "--pid-file=" + filepath.Join(dir, "pid"), "--tmpdir=" + dir,
		"--skip-networking", "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync",
		"--innodb-buffer-pool-size=32M", "--innodb-log-file-size=16M", "--max-connections=200",
	}, options...)...)
	if err := s.start(); err != nil {
		err = fmt.Errorf("start MariaDB in %s: %w\n%s", dir, err, s.log())
		s.Close()
		return nil, err
	}
	return s, nil
}

// start starts the server, and waits until it takes connections.
func (s *Server) start() error {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.ended = make(chan struct{})
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait()
	}()
	for deadline := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		if c, err := net.Dial("unix", s.Socket()); err == nil {
			return c.Close()
		}
		select {
		case <-s.ended:
			return fmt.Errorf("mariadbd has ended: %v", s.cmd.ProcessState)
		default:
		}
		if time.Now().After(deadline) {
			return errors.New("mariadbd takes no connections")
		}
	}
}

// Close ends the server as kill -9 does, and removes its folder.
func (s *Server) Close() {
	if s.ended != nil {
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
	_ = os.RemoveAll(s.dir)
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// Socket is the path of the server's socket.
func (s *Server) Socket() string { return filepath.Join(s.dir, "s") }

// DSN is what github.com/go-sql-driver/mysql connects with as root, who has no password,
// to a database; "" is none.
func (s *Server) DSN(database string) string { return s.UserDSN("root", database) }

// UserDSN is DSN for another user without a password.
func (s *Server) UserDSN(user, database string) string {
	return fmt.Sprintf("%s@unix(%s)/%s", user, s.Socket(), database)
}

// log is the end of the server's log.
func (s *Server) log() string {
	b, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return string(b[max(0, len(b)-4000):])
}

// program finds a program, also where Debian has it, which is not in every PATH.
func program(name, debian string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	path := filepath.Join(debian, name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w: no %s; install it (on Debian and Ubuntu: apt-get install mariadb-server)", ErrMissing, name)
	}
	return path, nil
}

// shortFolder makes a temporary folder in which a socket's path fits the 104 bytes that
// some systems allow: the test's own can be too long.
func shortFolder() (string, error) {
	base := os.TempDir()
	if len(base) > 60 {
		base = "/tmp"
	}
	return os.MkdirTemp(base, "maria")
}
