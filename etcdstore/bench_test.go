package etcdstore

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// serve starts a server with etcd's defaults, which syncs its disk, and returns a function
// that dials it. It is a separate process, as always: what a client costs is the client's.
func serve(b *testing.B) (dial func() *clientv3.Client) {
	b.Helper()
	srv := etcdtest.Start(b, etcdtest.Defaults...)
	return func() *clientv3.Client { return srv.Client(b) }
}

// report reports what a benchmark has measured itself.
func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	b.ReportMetric(ms(took[len(took)/2]), "median-ms")
	b.ReportMetric(ms(took[len(took)*99/100]), "p99-ms")
	b.ReportMetric(ms(took[len(took)-1]), "worst-ms")
}

// From the call of Release to the election of a standby, on another connection.
func BenchmarkHandover(b *testing.B) {
	dial := serve(b)
	stores := []owner.Store{New(dial(), "/k"), New(dial(), "/k")}
	o := join(b, context.Background(), stores[0])
	var took []time.Duration
	for b.Loop() {
		next := join(b, context.Background(), stores[1])
		begun := time.Now()
		must(b, o.Release())
		<-next.Elected()
		took = append(took, time.Since(begun))
		o = next
		slices.Reverse(stores)
	}
	must(b, o.Release())
	report(b, took)
}

// From the moment at which an owner's lease has expired, without a release, to the
// election of a standby.
func BenchmarkCrash(b *testing.B) {
	const ttl = 2 * time.Second
	dial := serve(b)
	short := func(c *owner.Config) { c.TTL = ttl }
	var took []time.Duration
	for b.Loop() {
		key := "/" + uuid.NewString()
		c := dial()
		dying := join(b, context.Background(), New(c, key), short)
		next := join(b, context.Background(), New(dial(), key), short)
		renewed := dying.Holder().RenewedAt
		must(b, c.Close()) // as far as etcd can see, the process has ended
		<-next.Elected()
		took = append(took, time.Since(renewed)-ttl)
		must(b, next.Release())
	}
	report(b, took)
}

func BenchmarkAcquireRelease(b *testing.B) {
	s := New(serve(b)(), "/k")
	for b.Loop() {
		must(b, acquire(b, s, time.Minute).Lease.Release(context.Background()))
	}
}

func BenchmarkIsOwner(b *testing.B) {
	o := join(b, context.Background(), New(serve(b)(), "/k"))
	b.ReportAllocs()
	for b.Loop() {
		if !o.IsOwner() {
			b.Fatal("not the owner")
		}
	}
	must(b, o.Release())
}

// One lease's renewal, from end to end.
func BenchmarkRenew(b *testing.B) {
	s := New(serve(b)(), "/k")
	acq := acquire(b, s, time.Minute)
	for b.Loop() {
		must(b, acq.Lease.Renew(context.Background(), s.Now()))
	}
	must(b, acq.Lease.Release(context.Background()))
}

const many = 1000

// As many renewals as a thousand leases on one client can have in a second.
func BenchmarkRenewMany(b *testing.B) {
	c := serve(b)()
	var leases []owner.Lease
	for range many {
		leases = append(leases, acquire(b, New(c, "/"+uuid.NewString()), 10*time.Minute).Lease)
	}
	var begun atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	cpu := processTime()
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
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "renewals/s")
	b.ReportMetric(float64((processTime()-cpu).Microseconds())/float64(b.N), "client-cpu-us/op")
	for _, l := range leases {
		must(b, l.Release(context.Background()))
	}
}

// What a thousand Owners on one client cost it, in memory and in time.
func BenchmarkOwners(b *testing.B) {
	c := serve(b)()
	acquire(b, New(c, "/first"), 10*time.Minute) // the connection and the streams are there
	for b.Loop() {
		before, goroutines := memory(), runtime.NumGoroutine()
		var owners []*owner.Owner
		for range many {
			owners = append(owners, join(b, context.Background(), New(c, "/"+uuid.NewString()), func(c *owner.Config) { c.TTL = 10 * time.Second }))
		}
		time.Sleep(5 * time.Second) // all have renewed
		b.ReportMetric(float64(memory()-before)/many, "B/owner")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/many, "goroutines/owner")
		cpu, begun := processTime(), time.Now()
		time.Sleep(10 * time.Second)
		b.ReportMetric(float64((processTime()-cpu).Microseconds())/time.Since(begun).Seconds()/many, "client-cpu-us/s/owner")
		for _, o := range owners {
			if !o.IsOwner() {
				b.Errorf("lost: %v", o.LostErr())
			}
		}
		var wg sync.WaitGroup
		for _, o := range owners {
			wg.Go(func() { _ = o.Release() })
		}
		wg.Wait()
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
