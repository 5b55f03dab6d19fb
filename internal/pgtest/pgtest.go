// Package pgtest runs Postgres for tests: clusters of their own in temporary folders, on
// unix sockets, started as an unprivileged user, and ended by the test. It needs the
// server's programs, which Debian has in the package postgresql; where they are missing,
// the test is skipped, and says so.
//
// The servers do not sync their disks: they survive the kill of their processes, as the
// kernel keeps the files, and not the end of the machine.
package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ownerlease/owner/internal/account"
)

// limit is how long a server may take to start or to end: it only ends a hang.
const limit = time.Minute

// port names the socket in its folder; it is no port of the network.
const port = "5432"

// superuser is the role that every cluster has.
const superuser = "postgres"

// ErrMissing is the error of New where a program is not installed, or not to be had on
// this system: a test is to be skipped.
var ErrMissing = errors.New("skipped")

// Server is a Postgres cluster: a data folder, and the server that runs on it.
type Server struct {
	dir  string // has the data in data/, the log in log, and the socket
	user *account.Account
	bin  string // the folder of the programs

	mu       sync.Mutex
	cmd      *exec.Cmd     // nil while the server does not run
	ended    chan struct{} // of cmd
	stopped  []int         // processes that Stop has stopped
	replicas int
}

// Start starts a new cluster, which ends with the test. settings are lines of
// postgresql.conf, such as "max_connections = 20". Without the programs the test is
// skipped.
func Start(tb testing.TB, settings ...string) *Server {
	tb.Helper()
	s, err := New(settings...)
	check(tb, s, err)
	return s
}

// check ends the server with the test, or the test if there is none.
func check(tb testing.TB, s *Server, err error) {
	tb.Helper()
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
}

// New starts a new cluster; the caller ends it with Close. It is for what several tests
// share, as in a TestMain; tests call Start. A new cluster takes about a second.
func New(settings ...string) (*Server, error) {
	s, err := prepare()
	if err != nil {
		return nil, err
	}
	return s.begin(func() error {
		return s.run("initdb", "-D", s.data(), "-U", superuser, "-A", "trust", "-E", "UTF8", "--locale=C",
			"--no-sync", "--no-instructions", "--wal-segsize=1")
	}, append(defaults(), settings...))
}

// defaults are for small, quick clusters, whose sockets are their only address.
func defaults() []string {
	return []string{
		"listen_addresses = ''", "port = " + port, "max_connections = 200", "shared_buffers = 16MB",
		"fsync = off", "full_page_writes = off", "autovacuum = off",
		"max_wal_size = 64MB", "min_wal_size = 2MB", "wal_keep_size = 32MB",
		"log_min_messages = warning", "log_line_prefix = '%m [%p] '",
	}
}

// prepare finds the programs, and makes the folder.
func prepare() (*Server, error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin}
	if s.user, err = account.ForServer("postgres"); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMissing, err)
	}
	if s.dir, err = shortFolder(s.user); err != nil {
		return nil, err
	}
	return s, nil
}

// shortFolder makes a temporary folder for the user in which a socket's path fits the 104
// bytes that some systems allow: the test's own can be too long.
func shortFolder(user *account.Account) (string, error) {
	base := os.TempDir()
	if len(base) > 60 {
		base = "/tmp"
	}
	dir, err := os.MkdirTemp(base, "pg")
	if err == nil {
		err = user.Give(dir)
	}
	return dir, err
}

// begin has the data made, adds the settings, and starts the server.
func (s *Server) begin(makeData func() error, settings []string) (*Server, error) {
	err := makeData()
	if err == nil {
		// A setting holds as it was written last.
		settings = append(settings, fmt.Sprintf("unix_socket_directories = '%s'", s.dir))
		err = s.Configure(settings...)
	}
	if err == nil {
		err = s.start()
	}
	if err != nil {
		err = fmt.Errorf("start postgres in %s: %w\n%s", s.dir, err, s.log())
		s.Close()
		return nil, err
	}
	return s, nil
}

// Configure adds lines to postgresql.conf. They count from the next start, or from a
// reload: SELECT pg_reload_conf().
func (s *Server) Configure(settings ...string) error {
	f, err := os.OpenFile(filepath.Join(s.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("\n" + strings.Join(settings, "\n") + "\n")
	return errors.Join(err, f.Close())
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// Dir is the folder of the server's socket.
func (s *Server) Dir() string { return s.dir }

// Socket is the path of the server's socket, for proxies. Clients name its folder.
func (s *Server) Socket() string { return SocketIn(s.dir) }

// SocketIn is the path of the socket that a client looks for whose host is this folder.
func SocketIn(dir string) string { return filepath.Join(dir, ".s.PGSQL."+port) }

// DSN is the connection string of the superuser.
func (s *Server) DSN() string { return DSN(s.dir) }

// DSN is the connection string of the superuser at the socket in this folder.
func DSN(dir string) string {
	return fmt.Sprintf("host=%s port=%s user=%s dbname=postgres sslmode=disable", dir, port, superuser)
}

// Exec executes SQL with psql as the superuser, and returns what it prints: the rows,
// with | between their columns.
func (s *Server) Exec(tb testing.TB, sql string) string {
	tb.Helper()
	out, err := s.exec(sql)
	if err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
	return out
}

func (s *Server) exec(sql string) (string, error) {
	var out, said bytes.Buffer
	cmd := s.command("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", s.DSN(), "-c", sql)
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%w: %s", err, said.String())
	}
	return strings.TrimSpace(out.String()), nil
}

// immediateShutdown is the signal by which Postgres ends at once, and its processes with it.
const immediateShutdown = syscall.SIGQUIT

// command is one of the server's programs, as its user, ended with this process.
func (s *Server) command(name string, args ...string) *exec.Cmd {
	return s.user.Command(immediateShutdown, s.dir, filepath.Join(s.bin, name), args...)
}

// run runs a program to its end.
func (s *Server) run(name string, args ...string) error {
	if out, err := s.command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// log is the end of the server's log.
func (s *Server) log() string {
	b, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return string(b[max(0, len(b)-4000):])
}

// programs returns the folder of the server's programs.
var programs = sync.OnceValues(func() (string, error) {
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path), nil
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres") // Debian's are not in PATH
	if len(found) == 0 {
		return "", fmt.Errorf("%w: no Postgres server; install it (on Debian and Ubuntu: apt-get install postgresql)", ErrMissing)
	}
	newest := slices.MaxFunc(found, func(a, b string) int {
		if d := len(a) - len(b); d != 0 {
			return d // 9 is before 10
		}
		return strings.Compare(a, b)
	})
	return filepath.Dir(newest), nil
})

// await waits until something is so, or has failed.
func await(what string, so func() (bool, error)) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		if ok, err := so(); ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("timed out waiting for %s", what)
		}
	}
}

// answers reports whether a socket takes connections.
func answers(socket string) bool {
	c, err := net.Dial("unix", socket)
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}
