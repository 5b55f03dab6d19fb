//go:build unix

package sqltest

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ownerlease/owner/sqlfence"
)

// A worker is a process that owns when it is told to, and then writes until it is fenced:
// it never asks whether it still owns, as one that is stopped after having asked.
//
// It reads "EPOCH" lines, and answers each with "raised EPOCH ROWS", where ROWS are those
// of its predecessor that it finds after it has raised the fence, and then with "fenced
// COMMITS".
type worker struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    chan string // its lines
	phases []byte      // of its writers; in memory that it shares
}

// job is what a worker is started with.
type job struct {
	Driver, DSN string
	Dialect     sqlfence.Dialect
	Isolation   sql.IsolationLevel
	Phases      string // the file that is mapped
}

const (
	workerEnv = "SQLFENCE_WORKER"
	writers   = 2 // of each worker, at once
)

// Where a writer is.
const (
	between   = iota // transactions: it has asked whether it owns
	beginning        // up to the end of the check
	inside           // the function
	ending           // the commit, or the rollback
	phases
)

func init() { runWorker = work }

// startWorker starts a process that ends with the test.
func startWorker(tb testing.TB, b backend, dsn string) *worker {
	tb.Helper()
	f, err := os.CreateTemp(tb.TempDir(), "phases")
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(writers); err != nil {
		tb.Fatal(err)
	}
	w := &worker{out: make(chan string, 10)}
	if w.phases, err = mapFile(f); err != nil {
		tb.Fatal(err)
	}
	arg, err := json.Marshal(job{b.driver, dsn, b.dialect, b.isolation, f.Name()})
	if err != nil {
		tb.Fatal(err)
	}
	w.cmd = exec.Command(os.Args[0])
	w.cmd.Env = append(os.Environ(), workerEnv+"="+string(arg))
	w.cmd.Stderr = os.Stderr
	w.in, err = w.cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() {
		defer close(w.out)
		for s := bufio.NewScanner(out); s.Scan(); {
			w.out <- s.Text()
		}
	}()
	tb.Cleanup(w.kill)
	return w
}

func (w *worker) own(tb testing.TB, epoch int) {
	tb.Helper()
	if _, err := fmt.Fprintln(w.in, epoch); err != nil {
		tb.Fatal(err)
	}
}

// answer waits for a line of this form.
func (w *worker) answer(tb testing.TB, form string, args ...any) {
	tb.Helper()
	select {
	case line := <-w.out:
		w.parse(tb, line, form, args...)
	case <-time.After(time.Minute): // ends a hang only
		tb.Fatalf("no %q", form)
	}
}

func (w *worker) parse(tb testing.TB, line, form string, args ...any) {
	tb.Helper()
	if _, err := fmt.Sscanf(line, form, args...); err != nil {
		tb.Fatalf("%q instead of %q", line, form)
	}
}

// stop stops the process, and returns when it is stopped.
func (w *worker) stop(tb testing.TB) {
	tb.Helper()
	if err := w.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		tb.Fatal(err)
	}
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(w.cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || !status.Stopped() {
			tb.Fatalf("not stopped: %v, %v", err, status)
		}
		return
	}
}

func (w *worker) resume() { _ = w.cmd.Process.Signal(syscall.SIGCONT) }

func (w *worker) kill() {
	_ = w.cmd.Process.Kill()
	_ = w.in.Close()
	for range w.out {
	}
	_ = w.cmd.Wait()
}

// work is the worker's side.
func work(arg string) error {
	var j job
	if err := json.Unmarshal([]byte(arg), &j); err != nil {
		return err
	}
	f, err := os.OpenFile(j.Phases, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	phases, err := mapFile(f)
	if err != nil {
		return err
	}
	db, err := sql.Open(j.Driver, j.DSN)
	if err != nil {
		return err
	}
	db.SetMaxIdleConns(writers)
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		fence := sqlfence.Fence{Lease: "lease", Dialect: j.Dialect}
		if _, err := fmt.Sscan(s.Text(), &fence.Epoch); err != nil {
			return err
		}
		if err := persist(func() error { return fence.Raise(context.Background(), db) }); err != nil {
			return err
		}
		var rows int
		if err := persist(func() error { return db.QueryRow(predecessors(fence.Epoch)).Scan(&rows) }); err != nil {
			return err
		}
		fmt.Println("raised", fence.Epoch, rows)
		commits, err := j.writeUntilFenced(db, fence, phases)
		if err != nil {
			return err
		}
		fmt.Println("fenced", commits)
	}
	return nil
}

// predecessors counts the rows of the owner before this one.
func predecessors(epoch uint64) string {
	return fmt.Sprintf("SELECT count(*) FROM journal WHERE epoch = %d", epoch-1)
}

// persist tries again after the errors of locks that are held for too long, and of
// snapshots that are too old.
func persist(f func() error) (err error) {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if err = f(); err == nil || errors.Is(err, sqlfence.ErrFenced) || errors.Is(err, sqlfence.ErrNotRaised) {
			return err
		}
	}
	return err
}

func (j job) writeUntilFenced(db *sql.DB, fence sqlfence.Fence, phases []byte) (int, error) {
	var wg sync.WaitGroup
	var commits atomic.Int64
	ended := make([]error, writers)
	for i := range writers {
		wg.Go(func() {
			defer func() { phases[i] = between }()
			for n := 0; ; n++ {
				phases[i] = between
				pause(40)
				err := persist(func() error { return j.put(db, fence, n, &phases[i]) })
				if err != nil {
					ended[i] = err
					return
				}
				commits.Add(1)
			}
		})
	}
	wg.Wait()
	for _, err := range ended {
		if !errors.Is(err, sqlfence.ErrFenced) {
			return 0, err
		}
	}
	return int(commits.Load()), nil
}

func (j job) put(db *sql.DB, fence sqlfence.Fence, n int, phase *byte) error {
	ctx := context.Background()
	*phase = beginning
	return fence.Tx(ctx, db, &sql.TxOptions{Isolation: j.Isolation}, func(tx *sql.Tx) error {
		*phase = inside
		pause(4)
		err := write(ctx, tx, fence.Epoch, n)
		pause(4)
		*phase = ending
		return err
	})
}

// pause lets a stop come in between: less than so many times 50 µs.
func pause(most int) {
	if d := rand.IntN(most); d > 0 {
		time.Sleep(time.Duration(d) * 50 * time.Microsecond)
	}
}

func mapFile(f *os.File) ([]byte, error) {
	return syscall.Mmap(int(f.Fd()), 0, writers, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
}
