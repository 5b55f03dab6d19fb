package owner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What a store that is not of this package relies on.

// A passing error says so, and keeps its own text.
func TestWhatPasses(t *testing.T) {
	damaged := func(t *testing.T) error {
		p := leasePath(t)
		liveOwner(t, p, plant(t, p, nil).InstanceID)
		must(t, os.Truncate(p, 200))
		_, err := tryJoin(t, p)
		return err
	}
	foreign := func(t *testing.T) error {
		p := leasePath(t)
		must(t, os.WriteFile(p, []byte("precious: data\n"), 0o600))
		_, err := tryJoin(t, p)
		return err
	}
	for _, tc := range []struct {
		err  error
		want bool
	}{
		{&opError{"join x", errNoAnswer}, true},
		{errTooLate, true},
		{damaged(t), true},
		{foreign(t), false},
	} {
		if errors.Is(tc.err, ErrUnavailable) != tc.want || strings.Contains(tc.err.Error(), ErrUnavailable.Error()) {
			t.Errorf("%v: passes is %v", tc.err, !tc.want)
		}
	}
}

// A campaign waits for a store that is not available when it begins; Join returns an error.
func TestUnavailableStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.onAcquire = func(context.Context) error { return fmt.Errorf("no leader: %w", ErrUnavailable) }
		if _, err := Join(t.Context(), config(s)); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "no leader") {
			t.Errorf("Join: %v", err)
		}
		start := time.Now()
		time.AfterFunc(time.Hour, func() { s.set(&s.onAcquire, nil) })
		err := Run(t.Context(), config(s), func(context.Context, *Owner) error { return nil })
		if took := time.Since(start); err != nil || took < time.Hour || took > time.Hour+2*ttl {
			t.Errorf("after %v: %v", took, err)
		}
		s.onAcquire = func(context.Context) error { return errors.New("no such user") }
		if o, err := Campaign(t.Context(), config(s)); o != nil || errors.Is(err, ErrUnavailable) || err == nil {
			t.Errorf("Campaign: %v", err)
		}
	})
}

// namedStore names its lease.
type namedStore struct{ *fakeStore }

func (namedStore) String() string { return "etcd:/gpu" }

func TestStoreIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := namedStore{newFakeStore()}
		var log strings.Builder
		o := join(t, t.Context(), s, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		must(t, o.Release())
		<-o.Done()
		if !strings.Contains(log.String(), "lease=etcd:/gpu") {
			t.Errorf("the log does not name the lease: %s", log.String())
		}
		broken := errors.New("broken")
		s.onAcquire = func(context.Context) error { return broken }
		if _, err := Join(t.Context(), config(s)); fmt.Sprint(err) != "owner: join etcd:/gpu: broken" {
			t.Error(err)
		}
		s.onLook = func(context.Context) error { return broken }
		for _, err := range WatchStore(t.Context(), s) {
			if fmt.Sprint(err) != "owner: watch etcd:/gpu: broken" || !errors.Is(err, broken) {
				t.Error(err)
			}
			break
		}
	})
}

func TestWatchStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		o := join(t, t.Context(), s, endpoint("a"))
		var told []string
		for r, err := range WatchStore(t.Context(), s) {
			if told = append(told, seen(r, err)); len(told) == 2 {
				break
			}
			time.AfterFunc(time.Minute, func() { _ = o.Release() })
		}
		if got := strings.Join(told, " "); got != "a none" {
			t.Errorf("reported %s", got)
		}
		<-o.Done() // which has its own subscription
		synctest.Wait()
		if s.watched() != 0 {
			t.Errorf("%d subscriptions are left", s.watched())
		}
	})
}

// Join on the file store that a caller has made is Join on its path.
func TestFileStore(t *testing.T) {
	p := leasePath(t)
	s, err := FileStore(p)
	must(t, err)
	o := joinFile(t, p)
	f := join(t, t.Context(), s)
	if f.IsOwner() || f.InstanceID() != o.InstanceID() {
		t.Errorf("follows %s, and %s owns", f.InstanceID(), o.InstanceID())
	}
	if got := fmt.Sprint(s); got != p {
		t.Errorf("named %s, want %s", got, p)
	}
	must(t, o.Release())
	o = join(t, t.Context(), s)
	if r, err := Inspect(p); err != nil || r.InstanceID != o.InstanceID() {
		t.Errorf("the file names %s, and %s owns: %v", r.InstanceID, o.InstanceID(), err)
	}
	must(t, o.Release())
}

func TestFileStoreIsResolved(t *testing.T) {
	t.Chdir(t.TempDir())
	s, err := FileStore("x.lease")
	must(t, err)
	if !filepath.IsAbs(fmt.Sprint(s)) {
		t.Errorf("the path is %v", s)
	}
	if s, err := FileStore(""); s != nil || !errors.Is(err, ErrInvalidConfig) {
		t.Errorf("without a path: %v, %v", s, err)
	}
}

func TestRecordJSON(t *testing.T) {
	r := Record{
		InstanceID: "i", PID: 7, Host: "h", Epoch: 1 << 62,
		AcquiredAt: time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600)), RenewedAt: time.Unix(0, 0),
		TTL: 90 * time.Second, Released: true, Meta: map[string]string{EndpointMetaKey: "unix:/x"},
	}
	b, err := json.Marshal(map[string]Record{"r": r}) // also where it cannot be addressed
	must(t, err)
	want := `{"r":{"instance_id":"i","pid":7,"host":"h","epoch":4611686018427387904,"acquired_at":"2026-01-02T02:04:05.000000006Z",` +
		`"renewed_at":"1970-01-01T00:00:00Z","ttl":"1m30s","released":true,"meta":{"endpoint":"unix:/x"}}}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	var back map[string]Record
	must(t, json.Unmarshal(b, &back))
	r.AcquiredAt, r.RenewedAt = r.AcquiredAt.UTC(), r.RenewedAt.UTC()
	if !reflect.DeepEqual(back["r"], r) {
		t.Errorf("got  %+v\nwant %+v", back["r"], r)
	}
}

func TestRecordFromJSON(t *testing.T) {
	for in, want := range map[string]Record{
		`{"instance_id":"i"}`:                         {InstanceID: "i"},
		`{"instance_id":"i","ttl":"2s","revision":7}`: {InstanceID: "i", TTL: 2 * time.Second},
		`null`: {Host: "before"},
	} {
		got := Record{Host: "before"}
		if err := json.Unmarshal([]byte(in), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{``, `[]`, `{"ttl":"30"}`, `{"ttl":30}`, `{"epoch":-1}`, `{"acquired_at":"yesterday"}`} {
		got := Record{Host: "before"}
		if err := json.Unmarshal([]byte(in), &got); err == nil || got.Host != "before" {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
}

// A lease file can be read as a Record, too.
func TestRecordOfAFileIsARecord(t *testing.T) {
	enc, err := newEncoder(testHead())
	must(t, err)
	b := enc.encode(diskTail{RenewedAt: time.Unix(3, 4), Released: true})
	rec, err := decodeRecord(b)
	must(t, err)
	var got Record
	must(t, json.Unmarshal(b, &got))
	if !reflect.DeepEqual(got, rec.public()) {
		t.Errorf("got  %+v\nwant %+v", got, rec.public())
	}
}

// Run stays with the lease that its path has led to, wherever work goes.
func TestRunWithARelativePath(t *testing.T) {
	here, there := t.TempDir(), t.TempDir()
	t.Chdir(here)
	calls := 0
	err := Run(t.Context(), Config{LeasePath: "L", TTL: 5 * time.Second}, func(ctx context.Context, o *Owner) error {
		if calls++; calls == 2 {
			return nil
		}
		if err := os.Chdir(there); err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(here, "L")); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	})
	must(t, err)
	if left, err := os.ReadDir(there); err != nil || len(left) > 0 || calls != 2 {
		t.Errorf("in the other folder: %v, %v; %d calls", left, err, calls)
	}
}
