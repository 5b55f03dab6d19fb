//go:build linux

// Package evict shows what Config.Evict is for: a real SQLite file whose owner is stopped
// within a transaction.
package evict

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/ownerlease/owner"
)

const childEnv = "OWNER_TEST_SQLITE_OWNER"

const leaseTTL = 400 * time.Millisecond

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		fmt.Println(ownAndStop(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func leaseIn(dir string) string { return filepath.Join(dir, "lease") }

func open(dir string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "data.db")+"?_txlock=immediate&_pragma=busy_timeout(0)")
	if err == nil {
		db.SetMaxOpenConns(1)
	}
	return db, err
}

// ownAndStop owns the lease, begins to write, and stops itself within the transaction.
func ownAndStop(dir string) error {
	o, err := owner.Join(context.Background(), owner.Config{LeasePath: leaseIn(dir), TTL: leaseTTL})
	if err != nil {
		return err
	}
	db, err := open(dir)
	if err != nil {
		return err
	}
	if _, err := db.Exec("CREATE TABLE t (who TEXT)"); err != nil {
		return err
	}
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	if _, err := tx.Exec("INSERT INTO t VALUES ('hung')"); err != nil {
		return err
	}
	fmt.Println("stops")
	if err := syscall.Kill(os.Getpid(), syscall.SIGSTOP); err != nil {
		return err
	}
	// The signal may be taken by another thread, after this one has returned from the call:
	// an exit now could come before the stop.
	time.Sleep(time.Minute)
	return fmt.Errorf("not stopped, or continued: %w", o.Check())
}

// startHung starts an owner, and returns when it has stopped.
func startHung(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "stops\n" {
		t.Fatalf("the owner says %q: %v", line, err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("the owner has not stopped: %v, %v", status, err)
	}
	return cmd
}

// succeed waits for the lease, and writes. It returns how long after the expiry of the hung
// owner's lease it owned, and had written.
func succeed(t *testing.T, dir string, evict func(context.Context, owner.Status) error) (owned, wrote time.Duration, err error) {
	t.Helper()
	st, err := owner.Probe(leaseIn(dir))
	if err != nil || st.Remaining <= 0 {
		t.Fatalf("the lease of the owner that has stopped: %+v, %v", st, err)
	}
	expiry := time.Now().Add(st.Remaining)
	o, err := owner.Campaign(t.Context(), owner.Config{LeasePath: leaseIn(dir), TTL: 5 * time.Second, Evict: evict})
	if err != nil {
		t.Fatal(err)
	}
	owned = time.Since(expiry)
	t.Cleanup(func() { _ = o.Release() })
	db, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err = db.Exec("INSERT INTO t VALUES ('successor')"); err != nil {
		return owned, 0, err
	}
	wrote = time.Since(expiry)
	var who string
	if err := db.QueryRow("SELECT group_concat(who) FROM t").Scan(&who); err != nil || who != "successor" {
		t.Errorf("the table has %q: %v", who, err)
	}
	return owned, wrote, nil
}

// Without Evict, the successor owns the lease, and not the database: the stopped owner has
// its lock.
func TestHungOwnerKeepsTheDatabase(t *testing.T) {
	dir := t.TempDir()
	startHung(t, dir)
	owned, _, err := succeed(t, dir, nil)
	if err == nil || !strings.Contains(err.Error(), "SQLITE_BUSY") {
		t.Errorf("a successor that evicts no owner writes: %v", err)
	}
	t.Logf("owned %v after the expiry, and then: %v", owned, err)
}

// With it, the successor writes. How soon is logged, and not demanded: it depends on what
// else the machine does. -count=20 shows the spread.
func TestHungOwnerIsEvicted(t *testing.T) {
	dir := t.TempDir()
	hung := startHung(t, dir)
	owned, wrote, err := succeed(t, dir, owner.KillHolder)
	if err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := hung.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the hung owner: %v", err)
	}
	if owned < -time.Millisecond {
		t.Errorf("owned %v before the expiry", -owned)
	}
	t.Logf("owned %v, wrote %v after the expiry", owned, wrote)
}
