package etcdstore_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/etcdstore"
	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
)

// both calls work while this instance owns both leases. Everybody takes the new one
// first.
func both(ctx context.Context, next, old owner.Config, work func(ctx context.Context, next, old *owner.Owner) error) error {
	return owner.Run(ctx, next, func(ctx context.Context, n *owner.Owner) error {
		return owner.Run(ctx, old, func(ctx context.Context, o *owner.Owner) error {
			return work(ctx, n, o)
		})
	})
}

// A site is what the instances of a lease that moves contend for.
type site struct {
	t *testing.T

	mu      sync.Mutex
	inside  string
	epoch   uint64 // the highest that has come
	refused int    // how many came with a lower one
	worked  map[string]int
	changed chan struct{} // closed at the next work
}

// work is what a generation of instances does while it owns; epoch is what it passes
// on.
func (s *site) work(generation string, epoch uint64, owns ...*owner.Owner) {
	s.mu.Lock()
	if s.inside != "" {
		s.t.Errorf("%s and %s own at once", s.inside, generation)
	}
	s.inside = generation
	if epoch < s.epoch {
		s.refused++
	}
	s.epoch = max(s.epoch, epoch)
	s.mu.Unlock()
	time.Sleep(time.Millisecond) // long enough to be met by another
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range owns {
		if err := o.Check(); err != nil {
			s.t.Errorf("%s: %v", generation, err)
		}
	}
	s.inside = ""
	s.worked[generation]++
	close(s.changed)
	s.changed = make(chan struct{})
}

// until waits until a generation has worked so often from now on.
func (s *site) until(generation string, more int) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for goal := s.worked[generation] + more; s.worked[generation] < goal; {
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-time.After(time.Minute):
			s.t.Fatalf("%s has no turn", generation)
		}
		s.mu.Lock()
	}
}

// A generation of instances, each of which runs until it is stopped.
type generation struct {
	name string
	run  func(ctx context.Context) error // one ownership
}

// start starts an instance, and returns what stops it and waits for its end.
func (g generation) start(t *testing.T) (stop func()) {
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			if err := g.run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", g.name, err)
				return
			}
		}
	}()
	return func() {
		end()
		<-ended
	}
}

// Two instances of each generation are replaced by two of the next, one by one, while
// ownership changes all the time. The last of a generation has ended when the one after
// the next begins.
func (s *site) replace(all ...generation) {
	var running [2]func()
	for _, g := range all {
		for i, stop := range running {
			if stop != nil {
				stop()
			}
			running[i] = g.start(s.t)
			s.until(g.name, 5)
		}
	}
	for _, stop := range running {
		stop()
	}
}

// A lease moves from a file to etcd, and back, while its instances are replaced one by
// one: two never own at once.
func TestMove(t *testing.T) {
	t.Parallel()
	ofFile := owner.Config{LeasePath: filepath.Join(t.TempDir(), "lease"), TTL: 10 * time.Second}
	client := etcdtest.Start(t).Client(t)
	inEtcd := func(base uint64) owner.Config {
		return owner.Config{Store: etcdstore.New(client, "/lease", etcdstore.EpochAbove(base)), TTL: ofFile.TTL}
	}
	const there, back = "to etcd", "to a file"
	for _, way := range []string{there, back} {
		s := &site{t: t, worked: map[string]int{}, changed: make(chan struct{})}
		// To etcd: above all that the file will give out in the meantime. Back: no more
		// than the wall clock.
		base := uint64(time.Now().Add(time.Hour).UnixMilli())
		if way == back {
			base = 0
		}
		alone := func(cfg owner.Config, name string) generation {
			return generation{name, func(ctx context.Context) error {
				return owner.Run(ctx, cfg, func(_ context.Context, o *owner.Owner) error {
					s.work(name, o.Epoch(), o)
					return nil
				})
			}}
		}
		old, next := ofFile, inEtcd(base)
		if way == back {
			old, next = next, old
		}
		between := generation{"both", func(ctx context.Context) error {
			return both(ctx, next, old, func(_ context.Context, n, o *owner.Owner) error {
				s.work("both", o.Epoch(), n, o)
				return nil
			})
		}}
		s.replace(alone(old, "old"), between)
		if s.refused > 0 {
			t.Errorf("%s: %d were refused before the new lease's epochs were passed on", way, s.refused)
		}
		s.replace(between, alone(next, "new"))
		s.refused = 0
		s.replace(alone(next, "new"))
		if s.refused > 0 {
			t.Errorf("%s: %d of the new ones were refused", way, s.refused)
		}
		t.Logf("%s: %v", way, s.worked)
	}
}

// docs/stores.md shows the code as it is tested.
func TestDocsShowWhatIsTested(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile(filepath.Join("..", "docs", "stores.md"))
	if err != nil {
		t.Fatal(err)
	}
	for file, begin := range map[string]string{"move_test.go": "func both(", "fence_test.go": "func put("} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, code, _ := strings.Cut(string(source), begin)
		code, _, ok := strings.Cut(code, "\n}\n")
		if shown := begin + code + "\n}\n"; !ok || !strings.Contains(string(doc), shown) {
			t.Errorf("docs/stores.md does not show\n%s", shown)
		}
	}
}
