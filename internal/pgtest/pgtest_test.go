package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestKillKeepsData(t *testing.T) {
	t.Parallel()
	s := Start(t, "max_connections = 17")
	s.Exec(t, "CREATE TABLE t (n int); INSERT INTO t VALUES (7)")
	id := s.Exec(t, "SELECT system_identifier FROM pg_control_system()")
	s.Kill()
	if answers(s.Socket()) {
		t.Error("the server answers although it was killed")
	}
	s.Restart(t)
	s.Restart(t) // also one that runs
	if got := s.Exec(t, "SELECT n, current_setting('max_connections') FROM t"); got != "7|17" {
		t.Errorf("after the restart: %q", got)
	}
	if other := Start(t); other.Exec(t, "SELECT system_identifier FROM pg_control_system()") == id {
		t.Error("two clusters have the same identifier")
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	s := Start(t)
	s.Stop()
	answer := make(chan error, 1)
	go func() {
		_, err := s.exec("SELECT 1")
		answer <- err
	}()
	select {
	case err := <-answer:
		t.Errorf("a stopped server has answered: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	s.Cont()
	if err := <-answer; err != nil {
		t.Error(err)
	}
}

// A replica that is detached does not get what is committed later, and is promoted without.
func TestReplica(t *testing.T) {
	t.Parallel()
	s := Start(t)
	s.Exec(t, "CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
	r := s.Replica(t)
	s.Exec(t, "INSERT INTO t VALUES (2)")
	s.Synced(t, r)
	r.Detach(t)
	s.Exec(t, "INSERT INTO t VALUES (3)")
	if _, err := r.exec("INSERT INTO t VALUES (4)"); err == nil {
		t.Error("a replica accepts a write")
	}
	s.Kill()
	r.Promote(t)
	if got := r.Exec(t, "INSERT INTO t VALUES (5); SELECT string_agg(n::text, ' ' ORDER BY n) FROM t"); got != "1 2 5" {
		t.Errorf("the promoted replica has %q", got)
	}
}

func TestBouncer(t *testing.T) {
	t.Parallel()
	s := Start(t)
	dir := s.Bouncer(t)
	out, err := s.command("psql", "-X", "-A", "-t", "-d", DSN(dir), "-c", "SELECT 40 + 2").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "42" {
		t.Errorf("by pgbouncer: %s, %v", out, err)
	}
}

// The test's own process is killed: its server ends, too.
func TestNoServerIsLeft(t *testing.T) {
	if os.Getenv("PGTEST_CHILD") != "" {
		s, err := New()
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(s.Dir())
		time.Sleep(time.Hour)
	}
	t.Parallel()
	if _, err := programs(); err != nil {
		t.Skip(err)
	}
	if runtime.GOOS != "linux" {
		t.Skip("the system does not end a process with its parent")
	}
	s := &Server{}
	child := exec.Command(os.Args[0], "-test.run=^TestNoServerIsLeft$")
	child.Env = append(os.Environ(), "PGTEST_CHILD=1")
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err == nil {
		_, err = fmt.Fscanln(out, &s.dir)
	}
	_ = child.Process.Kill()
	_ = child.Wait()
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(s.dir)
	if err := await("the server to end", func() (bool, error) { return !answers(s.Socket()), nil }); err != nil {
		t.Error(err)
	}
}

func TestMissing(t *testing.T) {
	before := programs
	programs = func() (string, error) { return "", fmt.Errorf("%w: no Postgres server", ErrMissing) }
	defer func() { programs = before }()
	var skipped bool
	t.Run("", func(t *testing.T) {
		defer func() { skipped = t.Skipped() }()
		Start(t)
	})
	if _, err := New(); !errors.Is(err, ErrMissing) || !skipped {
		t.Errorf("without the programs: %v, skipped: %v", err, skipped)
	}
}
