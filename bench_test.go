//go:build linux || darwin

package owner

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/ownerlease/owner/internal/clock"
	"github.com/ownerlease/owner/internal/leasename"
)

// Each benchmark has a floor beside it: the same system calls without the
// library, or what else the kernel and the runtime ask for the same job. Compare
// the two of one run:
//
//	go test -run '^$' -bench . .

// open opens a file as the library does, without its checks.
func open(tb testing.TB, path string, flag int) *os.File {
	f, err := os.OpenFile(path, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	must(tb, err)
	return f
}

func flockFile(f *os.File, how int) error { return unix.Flock(int(f.Fd()), how|unix.LOCK_NB) }

// An acquisition and a release, uncontended.
func BenchmarkJoinRelease(b *testing.B) {
	b.Run("owner", func(b *testing.B) {
		cfg := Config{LeasePath: leasePath(b), TTL: time.Minute}
		b.ReportAllocs()
		for b.Loop() {
			o, err := Join(context.Background(), cfg)
			must(b, err, o.Release())
		}
	})
	b.Run("floor", func(b *testing.B) {
		p := leasePath(b)
		record := make([]byte, 512)
		must(b, os.WriteFile(p, record, 0o600), os.WriteFile(leasename.Guard(p), record, 0o600))
		b.ReportAllocs()
		for b.Loop() {
			var st unix.Statfs_t
			must(b, unix.Statfs(filepath.Dir(p), &st))
			readWhole(b, p, record)
			guard := open(b, leasename.Guard(p), os.O_RDWR)
			must(b, flockFile(guard, unix.LOCK_EX))
			same(b, guard)
			second := open(b, leasename.Guard(p), os.O_RDWR)
			if err := flockFile(second, unix.LOCK_EX); !errors.Is(err, unix.EWOULDBLOCK) {
				b.Fatal(err)
			}
			must(b, second.Close())
			readWhole(b, leasename.Guard(p), record)
			readWhole(b, p, record)
			memory := open(b, leasename.Guard(p), os.O_WRONLY)
			_, err := memory.WriteAt(make([]byte, guardSize-1), 1)
			must(b, err, memory.Close())
			id := uuid.NewString()
			alive := open(b, leasename.Alive(p, id), os.O_RDWR|os.O_CREATE)
			must(b, flockFile(alive, unix.LOCK_EX))
			mark := open(b, leasename.Alive(p, id), os.O_RDWR)
			_, err = mark.WriteAt([]byte(aliveMark), 0)
			must(b, err, mark.Close(), os.Link(alive.Name(), leasename.Last(p)))
			file := open(b, leasename.Temp(p, id), os.O_RDWR|os.O_CREATE|os.O_EXCL)
			_, err = file.WriteAt(record, 0)
			must(b, err, os.Rename(leasename.Temp(p, id), p))
			same(b, guard)
			must(b, flockFile(guard, unix.LOCK_UN), guard.Close())

			_, err = file.WriteAt(record, 0)
			must(b, err, file.Close(), flockFile(alive, unix.LOCK_UN), alive.Close(), os.Remove(leasename.Last(p)), os.Remove(leasename.Alive(p, id)))
		}
	})
}

func readWhole(tb testing.TB, path string, buf []byte) {
	f := open(tb, path, os.O_RDONLY)
	_, err := f.Stat()
	must(tb, err)
	_, err = f.Read(buf)
	must(tb, err, f.Close())
}

func same(tb testing.TB, f *os.File) {
	a, err := f.Stat()
	must(tb, err)
	b, err := os.Lstat(f.Name())
	if !os.SameFile(a, b) {
		tb.Fatal(err)
	}
}

// A process that finds the lease taken.
func BenchmarkJoinFollower(b *testing.B) {
	cfg := Config{LeasePath: leasePath(b), TTL: time.Hour, Endpoint: "unix:/tmp/x"}
	o, err := Join(context.Background(), cfg)
	must(b, err)
	defer o.Release()

	b.Run("owner", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if f, err := Join(context.Background(), cfg); err != nil || f.Endpoint() == "" {
				b.Fatal(err)
			}
		}
	})
	b.Run("floor", func(b *testing.B) {
		alive := leasename.Alive(cfg.LeasePath, o.InstanceID())
		buf := make([]byte, maxRecord)
		b.ReportAllocs()
		for b.Loop() {
			var st unix.Statfs_t
			must(b, unix.Statfs(filepath.Dir(cfg.LeasePath), &st))
			readWhole(b, cfg.LeasePath, buf)
			f := open(b, alive, os.O_RDONLY)
			if err := flockFile(f, unix.LOCK_SH); !errors.Is(err, unix.EWOULDBLOCK) {
				b.Fatal(err)
			}
			must(b, f.Close())
		}
	})
}

// A renewal from end to end: decision, worker, file, decision. The owner renews
// again at once, without waiting for its timer.
func BenchmarkRenew(b *testing.B) {
	b.Run("owner", func(b *testing.B) {
		p := leasePath(b)
		files, err := newFileStore(p)
		must(b, err)
		s := &countingStore{Store: files, until: int64(b.N), reached: make(chan struct{})}
		a := newActor(context.Background(), s, &Record{InstanceID: uuid.NewString(), TTL: time.Hour},
			timing{ttl: time.Hour, margin: time.Minute, interval: 0, pause: time.Second}, nil)
		b.ReportAllocs()
		b.ResetTimer()
		must(b, a.join(false))
		<-s.reached
		b.StopTimer()
		must(b, a.release())
	})
	b.Run("floor", func(b *testing.B) {
		p := leasePath(b)
		f := open(b, p, os.O_RDWR|os.O_CREATE)
		defer f.Close()
		record := make([]byte, 484)
		_, err := f.WriteAt(record, 0)
		must(b, err)
		alive := open(b, p+".alive", os.O_RDWR|os.O_CREATE)
		defer alive.Close()
		b.ReportAllocs()
		for b.Loop() {
			_, err := f.WriteAt(record, 0)
			must(b, err)
			for _, f := range []*os.File{f, alive, alive} { // its second name, too
				_, err := os.Lstat(f.Name())
				must(b, err)
			}
		}
	})
}

// countingStore reports when an owner has renewed this many times.
type countingStore struct {
	Store
	n, until int64
	reached  chan struct{}
}

func (s *countingStore) Acquire(ctx context.Context, claim Record) (Acquisition, error) {
	acq, err := s.Store.Acquire(ctx, claim)
	if acq.Lease != nil {
		acq.Lease = &countingLease{acq.Lease, s}
	}
	return acq, err
}

type countingLease struct {
	Lease
	s *countingStore
}

func (l *countingLease) Renew(ctx context.Context, at time.Duration) error {
	err := l.Lease.Renew(ctx, at)
	if l.s.n++; l.s.n == l.s.until {
		close(l.s.reached)
	}
	return err
}

// The question that a caller asks before each step.
func BenchmarkIsOwner(b *testing.B) {
	b.Run("owner", func(b *testing.B) {
		o := joinFile(b, leasePath(b))
		b.ReportAllocs()
		for b.Loop() {
			if !o.IsOwner() {
				b.Fatal(o.Check())
			}
		}
	})
	b.Run("floor", func(b *testing.B) { // the clock alone
		b.ReportAllocs()
		start, sum := time.Now(), time.Duration(0)
		for b.Loop() {
			sum += time.Since(start)
		}
		runtime.KeepAlive(sum)
	})
}

// This many at once, until each knows who owns.
func BenchmarkContendedJoin(b *testing.B) {
	for _, n := range []int{256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.Run("owner", func(b *testing.B) {
				cfg := Config{LeasePath: leasePath(b), TTL: time.Hour, Endpoint: "unix:/tmp/x"}
				for b.Loop() {
					var won atomic.Pointer[Owner]
					together(n, func() {
						o, err := Join(context.Background(), cfg)
						if err != nil || o.Endpoint() == "" {
							b.Error(err)
						} else if o.IsOwner() && !won.CompareAndSwap(nil, o) {
							b.Error("two owners")
						}
					})
					b.StopTimer()
					must(b, won.Load().Release())
					b.StartTimer()
				}
			})
			b.Run("floor", func(b *testing.B) { // one lock file: who holds it, and nothing else
				p := leasePath(b)
				must(b, os.WriteFile(p, nil, 0o600))
				for b.Loop() {
					var won atomic.Pointer[os.File]
					together(n, func() {
						f := open(b, p, os.O_RDWR)
						if flockFile(f, unix.LOCK_EX) == nil {
							won.Store(f)
							return
						}
						must(b, f.Close())
					})
					must(b, won.Load().Close())
				}
			})
		})
	}
}

func together(n int, f func()) {
	var wg sync.WaitGroup
	for range n {
		wg.Go(f)
	}
	wg.Wait()
}

// Many Owners of as many leases in one process: what each costs in memory,
// goroutines, and CPU time per renewal. The time per operation means nothing here.
func BenchmarkOwners(b *testing.B) {
	for _, n := range []int{10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			n := affordable(b, n)
			const renew = 10 * time.Second
			b.Run("owner", func(b *testing.B) {
				dir := b.TempDir()
				owners := make([]*Owner, n)
				for b.Loop() { // once: it takes longer than a benchmark is to take
					before, goroutines := heap(), runtime.NumGoroutine()
					for i := range n {
						cfg := Config{LeasePath: filepath.Join(dir, fmt.Sprint(i)), TTL: 3 * renew, RenewInterval: renew, Endpoint: "unix:/tmp/x"}
						var err error
						owners[i], err = Join(context.Background(), cfg)
						must(b, err)
					}
					b.ReportMetric(cpuPer(n, func() { time.Sleep(renew) }), "cpu-ns/renewal")
					b.ReportMetric(float64(n), "owners")
					b.ReportMetric(float64(heap()-before)/float64(n), "bytes/owner")
					b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/float64(n), "goroutines/owner")
					for _, o := range owners {
						must(b, o.Release())
					}
				}
			})
			b.Run("floor", func(b *testing.B) { // as many files, and a renewal's system calls
				dir := b.TempDir()
				record := make([]byte, 484)
				files := make([]*os.File, n)
				for i := range files {
					files[i] = open(b, filepath.Join(dir, fmt.Sprint(i)), os.O_RDWR|os.O_CREATE)
					defer files[i].Close()
				}
				for b.Loop() {
					b.ReportMetric(cpuPer(n, func() {
						for _, f := range files {
							_, err := f.WriteAt(record, 0)
							must(b, err)
							for range 3 { // the record and the alive file, which has two names
								_, err = os.Lstat(f.Name())
								must(b, err)
							}
						}
					}), "cpu-ns/renewal")
				}
			})
		})
	}
}

// heap returns the bytes in use, stacks included. A collection halves a stack
// that is not needed: between renewals, an owner's has its first size.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// cpuPer returns the CPU time that the process has used during f, per unit.
func cpuPer(n int, f func()) float64 {
	cpu := func() int64 {
		var u unix.Rusage
		_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
		return u.Utime.Nano() + u.Stime.Nano()
	}
	before := cpu()
	f()
	return float64(cpu()-before) / float64(n)
}

// affordable returns how many of n Owners the process may have: each keeps two
// files open.
func affordable(b *testing.B, n int) int {
	var lim unix.Rlimit
	must(b, unix.Getrlimit(unix.RLIMIT_NOFILE, &lim))
	need := uint64(2*n + 100)
	if lim.Cur < need {
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: need, Max: max(need, lim.Max)})
		must(b, unix.Getrlimit(unix.RLIMIT_NOFILE, &lim))
	}
	return min(n, int(lim.Cur-100)/2)
}

// From the moment at which a lease becomes free to the one at which another
// process owns it: a standby, and beside it one that joins again every 100 ms. The owner
// is a new process each time.
func BenchmarkTakeover(b *testing.B) {
	for _, tc := range []struct {
		name string
		ttl  time.Duration
		free func(b *testing.B, c *child, path string) (at time.Duration) // makes it free, and returns when that was
	}{
		{"killed", 30 * time.Second, func(b *testing.B, c *child, _ string) time.Duration {
			at := clock.Now()
			must(b, c.cmd.Process.Kill())
			return at
		}},
		{"released", 30 * time.Second, func(b *testing.B, c *child, _ string) time.Duration {
			at, err := strconv.ParseInt(c.ask("handover"), 10, 64)
			must(b, err)
			return time.Duration(at)
		}},
		{"stopped", 500 * time.Millisecond, func(b *testing.B, c *child, path string) time.Duration {
			c.stop()
			rec, err := readFile(path)
			must(b, err)
			return rec.Heartbeat + rec.public().TTL
		}},
	} {
		for i, elect := range []func(*testing.B, Config) func() *Owner{standingBy, polling} {
			b.Run(tc.name+"/"+[]string{"standby", "polling"}[i], func(b *testing.B) {
				var took []time.Duration
				for b.Loop() {
					p := leasePath(b)
					c := startChild(b, p)
					c.mustSay("join "+tc.ttl.String(), "owner")
					elected := elect(b, Config{LeasePath: p, TTL: tc.ttl})
					at := tc.free(b, c, p)
					o := elected()
					took = append(took, clock.Now()-at)
					must(b, o.Release())
					<-o.Done()
					c.end()
				}
				report(b, took)
			})
		}
	}
}

// standingBy returns a function that waits until a follower owns.
func standingBy(b *testing.B, cfg Config) func() *Owner {
	cfg.Standby = true
	o, err := Join(context.Background(), cfg)
	must(b, err)
	for !o.a.hints.subscribed(o.a.snap.Load().holder) { // until it has settled
		time.Sleep(time.Millisecond)
	}
	return func() *Owner { <-o.Elected(); return o }
}

func polling(b *testing.B, cfg Config) func() *Owner {
	won := make(chan *Owner)
	go func() {
		const pause = 100 * time.Millisecond
		time.Sleep(rand.N(pause))
		for {
			o, err := Join(context.Background(), cfg)
			if err != nil {
				b.Error(err)
				close(won)
				return
			}
			if o.IsOwner() {
				won <- o
				return
			}
			time.Sleep(pause)
		}
	}()
	return func() *Owner { return <-won }
}

// report gives the median, the 99th percentile and the worst, in milliseconds.
func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(0, "ns/op") // of starting processes, mostly
	for name, i := range map[string]int{"p50-ms": len(took) / 2, "p99-ms": len(took) * 99 / 100, "worst-ms": len(took) - 1} {
		b.ReportMetric(float64(took[i].Microseconds())/1000, name)
	}
}

// The same with a hundred standbys: all notice the death, one wins.
func BenchmarkTakeoverAmongHundred(b *testing.B) {
	const followers = 100
	p := leasePath(b)
	elected := make(chan election, 2*followers) // at the end, the last one's followers are elected, too
	current := startChild(b, p)
	current.mustSay("join 30s", "owner")
	stand := func() {
		c := startChild(b, p)
		c.mustSay("stand 30s", "follower")
		c.say("elected")
		go func() {
			if c.out.Scan() { // or the test has ended it
				elected <- election{c, c.out.Text()}
			}
		}()
	}
	for range followers {
		stand()
	}
	var took []time.Duration
	for b.Loop() {
		killed := clock.Now()
		must(b, current.cmd.Process.Kill())
		next := <-elected
		var at, epoch int64
		_, err := fmt.Sscanf(next.said, "elected %d %d", &at, &epoch)
		must(b, err)
		took = append(took, time.Duration(at)-killed)
		current.end()
		current = next.by
		stand()
		time.Sleep(2 * time.Second) // until all poll as seldom as in production
	}
	report(b, took)
}

type election struct {
	by   *child
	said string
}

// What a standby costs while nothing happens: a poll a second, in a thousand followers of
// one lease.
func BenchmarkStandbyAtRest(b *testing.B) {
	const followers, rest = 1000, 3 * time.Second
	p := leasePath(b)
	owner, err := Join(context.Background(), Config{LeasePath: p, TTL: time.Minute})
	must(b, err)
	defer owner.Release()
	for b.Loop() {
		goroutines, before := runtime.NumGoroutine(), heap()
		all := make([]*Owner, followers)
		for i := range all {
			all[i], err = Join(context.Background(), Config{LeasePath: p, TTL: time.Minute, Standby: true})
			must(b, err)
		}
		time.Sleep(8 * time.Second) // until the pauses between polls are at their longest
		b.ReportMetric(float64(heap()-before)/followers, "bytes/follower")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/followers, "goroutines/follower")
		b.ReportMetric(cpuPer(followers*int(rest/time.Second), func() { time.Sleep(rest) })/1000, "cpu-us/follower/s")
		b.ReportMetric(0, "ns/op")
		for _, o := range all {
			must(b, o.Release())
		}
	}
}
