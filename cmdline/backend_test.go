package cmdline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/run"
)

// A lookStore can be read, and watched without hints.
type lookStore struct {
	owner.Store
	look func(context.Context) (owner.View, error)
}

func (lookStore) Now() time.Duration                                  { return time.Hour }
func (s lookStore) Look(ctx context.Context) (owner.View, error)      { return s.look(ctx) }
func (lookStore) Watch(owner.Record, func()) (stop func(), err error) { return func() {}, nil }

func shows(v owner.View, err error) *Lease {
	s := lookStore{look: func(context.Context) (owner.View, error) { return v, err }}
	return &Lease{Name: "/l", Config: owner.Config{Store: s}, Patience: time.Minute}
}

func TestStatusOfAStore(t *testing.T) {
	t.Parallel()
	holder := sample(owner.Live).Record
	boom := errors.New("boom")
	for _, c := range []struct {
		view  owner.View
		err   error
		want  owner.Status
		fails error
	}{
		{view: owner.View{}, fails: fs.ErrNotExist},
		{err: boom, fails: boom},
		{view: owner.View{Holder: holder, Until: time.Hour + 7*time.Second}, want: owner.Status{Condition: owner.Live, Remaining: 7 * time.Second}},
		{view: owner.View{Holder: holder, Until: time.Hour + 10500*time.Millisecond}, want: owner.Status{Condition: owner.Live, Remaining: holder.TTL}},
		{view: owner.View{Holder: holder, Until: time.Hour - time.Second}, want: owner.Status{Condition: owner.Live}},
		{view: owner.View{Holder: holder}, want: owner.Status{Condition: owner.Live, Remaining: holder.TTL}}, // it cannot be more
	} {
		got, err := shows(c.view, c.err).probe("/l")
		if !errors.Is(err, c.fails) || got.Condition != c.want.Condition || got.Remaining != c.want.Remaining || got.Record.InstanceID != c.view.Holder.InstanceID {
			t.Errorf("%+v, %v: %+v, %v", c.view, c.err, got, err)
		}
	}
}

func TestStatusOfAStoreThatHangs(t *testing.T) {
	t.Parallel()
	l := shows(owner.View{}, nil)
	l.Patience = time.Millisecond
	l.Config.Store = lookStore{look: func(ctx context.Context) (owner.View, error) {
		<-ctx.Done()
		return owner.View{}, ctx.Err()
	}}
	if _, err := l.probe("/l"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// An unavailable store is read again, and its last error is returned.
func TestStatusOfAStoreThatIsNotAvailable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		l := shows(owner.View{}, nil)
		l.Config.Store = lookStore{look: func(ctx context.Context) (owner.View, error) {
			if looks++; looks > 5 {
				<-ctx.Done()
				return owner.View{}, ctx.Err()
			}
			return owner.View{}, fmt.Errorf("%w: look %d", owner.ErrUnavailable, looks)
		}}
		if _, err := l.probe("/l"); !errors.Is(err, owner.ErrUnavailable) || !strings.HasSuffix(err.Error(), ": look 5") {
			t.Errorf("%v", err)
		}
		looks = 0
		l.Patience = 250 * time.Millisecond
		if _, err := l.probe("/l"); !errors.Is(err, owner.ErrUnavailable) || looks != 3 {
			t.Errorf("after %d reads: %v", looks, err)
		}
	})
}

// Whether the owner's process exists cannot be seen from another machine.
func TestTextOfAStore(t *testing.T) {
	t.Parallel()
	r := sample(owner.Live)
	r.remote = true
	var b strings.Builder
	if err := r.text(&b, time.Now()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "\ncondition  live: the lease is valid; it is unknown whether ") || strings.Contains(b.String(), meanings[owner.Live]) {
		t.Errorf("%s", &b)
	}
}

func TestWatchOfAStore(t *testing.T) {
	t.Parallel()
	holder := sample(owner.Live).Record
	l := shows(owner.View{Holder: holder}, nil)
	for rec, err := range l.watch(t.Context(), "/l") {
		if rec.InstanceID != holder.InstanceID || err != nil {
			t.Errorf("%+v, %v", rec, err)
		}
		break
	}
}

func TestRunIsToldOfTheLease(t *testing.T) {
	t.Parallel()
	l := shows(owner.View{}, nil)
	l.CountsSuspend = true
	var o run.Options
	p := &Backend{Flag: "key", Flags: func() []cli.Flag { return nil }}
	c := Run(p)
	c.Action = func(_ context.Context, c *cli.Command) error {
		o = runOptions(c, l)
		return nil
	}
	if err := c.Run(t.Context(), []string{"run", "--ttl", "8s", "a", "b"}); err != nil {
		t.Fatal(err)
	}
	if o.Lease != "/l" || o.Config.Store == nil || !o.CountsSuspend || o.Config.TTL != 8*time.Second || o.Grace != run.DefaultGrace(8*time.Second) || len(o.Command) != 2 {
		t.Errorf("%+v", o)
	}
}
