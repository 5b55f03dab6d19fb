package pgstore

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/contend"
	"github.com/ownerlease/owner/internal/pgtest"
)

// serve returns a DB on a server that syncs its disk, as by default. It is a separate
// process, as always: what a client costs is the client's.
func serve(b *testing.B) *DB {
	b.Helper()
	return newDB(b, pgtest.Start(b, "fsync = on", "full_page_writes = on", "autovacuum = on").DSN())
}

func acquire(b *testing.B, s owner.Store) owner.Lease {
	b.Helper()
	acq, err := s.Acquire(context.Background(), claim(time.Minute))
	must(b, err)
	if acq.Lease == nil {
		b.Fatalf("%v is owned by %+v", s, acq.Holder)
	}
	return acq.Lease
}

// The floors send plain statements that change a beat, and no more, on one connection with
// pgx's defaults.
const (
	bareRead   = "SELECT key, beat FROM bare WHERE key = $1"
	bareBeat   = "UPDATE bare SET beat = beat + 1 WHERE key = $1"
	bareBeats  = "UPDATE bare SET beat = beat + 1 WHERE key = ANY($1)"
	createBare = `CREATE TABLE bare (key text PRIMARY KEY, beat bigint NOT NULL) WITH (fillfactor = 50);
		INSERT INTO bare SELECT n::text, 0 FROM generate_series(1, 1000) n`
)

// bare returns a connection to the table of the floors.
func bare(b *testing.B, db *DB) *pgx.Conn {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), db.pool.Config().ConnString())
	must(b, err)
	b.Cleanup(func() { closeSoon(conn) })
	_, err = conn.Exec(b.Context(), createBare)
	must(b, err)
	return conn
}

func execute(b *testing.B, conn *pgx.Conn, sql string, args ...any) {
	b.Helper()
	_, err := conn.Exec(b.Context(), sql, args...)
	must(b, err)
}

// A way is one of several to do the same.
type way struct {
	name string
	do   func()
}

// inTurns does the same in each way in turns, and reports the median of each, and how it
// compares with that of the first: a sync of the disk can take many times as long as another.
func inTurns(b *testing.B, ways []way) {
	b.Helper()
	times := make([][]time.Duration, len(ways))
	for b.Loop() {
		for i, way := range ways {
			start := time.Now()
			way.do()
			times[i] = append(times[i], time.Since(start))
		}
	}
	var floor float64
	for i, way := range ways {
		slices.Sort(times[i])
		median := float64(times[i][len(times[i])/2])
		if i == 0 {
			floor = median
		}
		b.ReportMetric(median, way.name+"-ns")
		b.ReportMetric(median/floor, way.name+"-ratio")
	}
}

func BenchmarkAcquireRelease(b *testing.B) {
	db := serve(b)
	s, conn := New(db, uuid.NewString()), bare(b, db)
	inTurns(b, []way{
		{"floor", func() {
			execute(b, conn, bareRead, "1")
			execute(b, conn, bareBeat, "1")
			execute(b, conn, bareBeat, "1")
		}},
		{"owner", func() { must(b, acquire(b, s).Release(context.Background())) }},
	})
}

// One lease's renewal, from end to end.
func BenchmarkRenew(b *testing.B) {
	db := serve(b)
	s, conn := New(db, uuid.NewString()), bare(b, db)
	l := acquire(b, s)
	inTurns(b, []way{
		{"floor", func() { execute(b, conn, bareBeat, "1") }},
		{"owner", func() { must(b, l.Renew(context.Background(), s.Now())) }},
	})
	must(b, l.Release(context.Background()))
}

const many = 1000

// As many renewals as a thousand leases on one DB can have in a second, each as soon as the
// one before was answered.
func BenchmarkRenewMany(b *testing.B) {
	db := serve(b)
	var leases []owner.Lease
	for range many {
		leases = append(leases, acquire(b, New(db, uuid.NewString())))
	}
	var begun atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for _, l := range leases {
		wg.Go(func() {
			for begun.Add(1) <= int64(b.N) {
				if err := l.Renew(context.Background(), 0); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "renewals/s")
	for _, l := range leases {
		must(b, l.Release(context.Background()))
	}
}

// A thousand leases renewed by one statement: the round trip with the commit, and in it the
// time that the server reports for the statement.
func BenchmarkRenewAll(b *testing.B) {
	db := serve(b)
	var all []*renewal
	keys, instances, confirmed := make([]string, many), make([]string, many), make([]string, many)
	for i := range many {
		l := acquire(b, New(db, uuid.NewString())).(*lease)
		keys[i], instances[i], confirmed[i] = l.store.key, l.rec.InstanceID, l.confirmed
		all = append(all, &renewal{key: keys[i], instance: instances[i], confirmed: confirmed[i]})
	}
	conn, err := db.connect(b.Context())
	must(b, err)
	b.Cleanup(func() { closeSoon(conn) })
	floor, numbers := bare(b, db), make([]string, many)
	for i := range numbers {
		numbers[i] = fmt.Sprint(i + 1)
	}
	inTurns(b, []way{
		{"floor", func() { execute(b, floor, bareBeats, numbers) }},
		{"owner", func() {
			found, err := renewAll(b.Context(), conn, all)
			must(b, err)
			if len(found) != many {
				b.Fatalf("%d renewed", len(found))
			}
		}},
	})
	b.ReportMetric(explained(b, floor, bareBeats, numbers), "floor-server-ms")
	b.ReportMetric(explained(b, conn, sqlRenew, keys, instances, confirmed), "owner-server-ms")
}

// explained executes a statement a hundred times, and returns the median of the milliseconds
// that the server has taken to plan and to execute it.
func explained(b *testing.B, conn *pgx.Conn, sql string, args ...any) float64 {
	b.Helper()
	took := make([]float64, 100)
	for i := range took {
		var plans []struct {
			Planning  float64 `json:"Planning Time"`
			Execution float64 `json:"Execution Time"`
		}
		must(b, conn.QueryRow(b.Context(), "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) "+sql, args...).Scan(&plans))
		took[i] = plans[0].Planning + plans[0].Execution
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// What a thousand Owners on one DB cost their process, between two renewals.
func BenchmarkOwners(b *testing.B) {
	db := serve(b)
	first := join(b, db)
	renewed(b, first) // the connections and what brings the hints are there
	for b.Loop() {
		before, goroutines := memory(), runtime.NumGoroutine()
		var owners []*owner.Owner
		for range many {
			owners = append(owners, join(b, db))
		}
		renewed(b, owners...)
		b.ReportMetric(float64(memory()-before)/many, "B/owner")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/many, "goroutines/owner")
		var wg sync.WaitGroup
		for _, o := range owners {
			if !o.IsOwner() {
				b.Errorf("lost: %v", o.LostErr())
			}
			wg.Go(func() { _ = o.Release() })
		}
		wg.Wait()
	}
	must(b, first.Release())
}

func join(b *testing.B, db *DB) *owner.Owner {
	b.Helper()
	o, err := owner.Join(context.Background(), owner.Config{Store: New(db, uuid.NewString()), TTL: 10 * time.Second})
	must(b, err)
	return o
}

// renewed waits until all have renewed.
func renewed(b *testing.B, all ...*owner.Owner) {
	b.Helper()
	for _, o := range all {
		contend.Await(b, "a renewal", func() bool { return o.Stats().Renewals > 0 })
	}
}

// memory is what the process uses, of heap and stacks.
func memory() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
