package pgtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Bouncer starts a pgbouncer in transaction mode before the server, which ends with the
// test, and returns the folder of its socket: see DSN. Where it is not installed, the
// test is skipped. settings are lines of its configuration.
func (s *Server) Bouncer(tb testing.TB, settings ...string) (dir string) {
	tb.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		const debian = "/usr/sbin/pgbouncer" // not in every PATH
		if _, err := os.Stat(debian); err != nil {
			tb.Skip("skipped: no pgbouncer; install it (on Debian and Ubuntu: apt-get install pgbouncer)")
		}
		program = debian
	}
	dir, err = shortFolder(s.user)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	// With auth_type any, all clients are the user that the database's line names.
	config := fmt.Sprintf("[databases]\npostgres = host=%s port=%s user="+superuser+"\n[pgbouncer]\nlisten_addr =\nunix_socket_dir = %s\nlisten_port = %s\n"+
		"auth_type = any\npool_mode = transaction\nmax_client_conn = 500\ndefault_pool_size = 20\nlogfile = %s\n",
		s.dir, port, dir, port, filepath.Join(dir, "log"))
	for _, line := range settings {
		config += line + "\n"
	}
	file := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		tb.Fatal(err)
	}
	cmd := s.user.Command(syscall.SIGQUIT, dir, program, file)
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if err := await("pgbouncer", func() (bool, error) { return answers(SocketIn(dir)), nil }); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		tb.Fatalf("%v: %s", err, log)
	}
	return dir
}
