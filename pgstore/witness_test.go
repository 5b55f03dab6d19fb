package pgstore

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/contend"
)

// ownUntilKilled is a process that owns a lease: see TestMain.
func ownUntilKilled(dsn, key string) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err == nil {
		var db *DB
		if db, err = Open(cfg); err == nil {
			ttl, opts := 20*time.Second, []Option(nil)
			if os.Getenv("PGSTORE_UNWITNESSED") != "" {
				ttl, opts = 2*time.Second, []Option{Unwitnessed()}
			}
			_, err = owner.Join(context.Background(), owner.Config{Store: New(db, key, opts...), TTL: ttl})
		}
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("owns")
	select {}
}

// A standby on the machine of an owner that is killed sees it die, and owns at once. Without
// a witness it owns when the lease has expired.
func TestOwnerIsKilled(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("there are witnesses on Linux only")
	}
	newDB(t, shared(t).DSN())
	for _, unwitnessed := range []string{"", "yes"} {
		t.Run("unwitnessed: "+unwitnessed, func(t *testing.T) {
			t.Parallel()
			for range map[string]int{"": 5, "yes": 1}[unwitnessed] {
				took := killed(t, unwitnessed)
				t.Logf("killed, and owned by another after %v", took)
				// The lease of one that is witnessed expires after 13 s at least, which leaves room
				// for a slow machine; that of the other after 1.3 s.
				if unwitnessed == "" && took > 10*time.Second || unwitnessed != "" && took < time.Second {
					t.Fatalf("owned after %v", took)
				}
			}
		})
	}
}

func killed(t *testing.T, unwitnessed string) time.Duration {
	t.Helper()
	key := uuid.NewString()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PGSTORE_OWN="+key, "PGSTORE_DSN="+shared(t).DSN(), "PGSTORE_UNWITNESSED="+unwitnessed)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	line := make([]byte, 1000)
	n, _ := out.Read(line)
	if got := string(line[:n]); got != "owns\n" {
		t.Fatalf("the owner: %q", got)
	}
	db := open(t, shared(t).DSN())
	o, err := owner.Join(t.Context(), owner.Config{Store: New(db, key), TTL: 10 * time.Second, Standby: true})
	must(t, err)
	contend.Await(t, "the standby to watch the owner", func() bool {
		watches := db.news.of(func(k string) bool { return k == key })
		return slices.ContainsFunc(watches, func(w *watch) bool { return w.holder != "" })
	})
	began := time.Now()
	must(t, cmd.Process.Kill())
	select {
	case <-o.Elected():
	case <-time.After(30 * time.Second):
		t.Fatal("no standby owns")
	}
	took := time.Since(began)
	must(t, o.Release())
	<-o.Done()
	return took
}
