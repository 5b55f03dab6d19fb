package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// says fails the test if an error does not match and contain what it must.
func says(t *testing.T, what string, err, match error, words ...string) {
	t.Helper()
	if err == nil || match != nil && !errors.Is(err, match) || match == nil && errors.Is(err, owner.ErrUnavailable) || isLoss(err) {
		t.Errorf("%s: %v", what, err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %v: nothing of %q", what, err, w)
		}
	}
}

func TestInvalid(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t, etcdtest.Defaults...)
	c := srv.Client(t)
	for _, ttl := range []time.Duration{0, -time.Second, 1500 * time.Millisecond, 999 * time.Millisecond, time.Second + 1} {
		_, err := New(c, "/k").Acquire(t.Context(), claim(ttl))
		says(t, "a TTL in parts of seconds", err, owner.ErrInvalidConfig, ttl.String(), "whole seconds")
	}
	_, err := New(c, "/k").Acquire(t.Context(), claim(time.Second))
	says(t, "a TTL below etcd's least", err, owner.ErrInvalidConfig, "1s", "2s")
	for _, key := range []string{"", "/k.alive", "/k.HANDOVER"} {
		s := New(c, key)
		_, err := s.Acquire(t.Context(), claim(2*time.Second))
		says(t, "Acquire", err, owner.ErrInvalidConfig, "etcd key")
		_, err = s.Look(t.Context())
		says(t, "Look", err, owner.ErrInvalidConfig, "etcd key")
		_, err = s.Watch(owner.Record{}, func() {})
		says(t, "Watch", err, owner.ErrInvalidConfig, "etcd key")
	}
	_, err = New(c, "/k", EpochAbove(1<<62+1)).Acquire(t.Context(), claim(2*time.Second))
	says(t, "an epoch that is out of range", err, owner.ErrInvalidConfig, "EpochAbove")
	if leases(t, c) != 0 {
		t.Errorf("%d etcd leases are left", leases(t, c))
	}
}

// What is under a key and is no record of this package is left alone, and said.
func TestCorrupt(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t).Client(t)
	good, err := New(c, "/k").(*store).encode(claim(time.Minute))
	must(t, err)
	granted, err := c.Grant(t.Context(), 3600)
	must(t, err)
	for name, tc := range map[string]struct {
		value string
		words string
	}{
		"empty":           {"", "not a lease record"},
		"rubbish":         {"rubbish", "not a lease record"},
		"other JSON":      {`{"format": 7}`, "not a lease record"},
		"another format":  {strings.Replace(good, format, "owner-lease-etcd/2", 1), "owner-lease-etcd/2"},
		"a ttl of no use": {strings.Replace(good, "1m0s", "soon", 1), "not a lease record"},
		"no instance":     {`{"format": "` + format + `", "ttl": "1m"}`, "not a whole"},
		"no ttl":          {`{"format": "` + format + `", "instance_id": "x"}`, "not a whole"},
		"huge epoch":      {strings.Replace(good, `"epoch_above": 0`, fmt.Sprintf(`"epoch_above": %d`, uint64(1<<62+1)), 1), "not a whole"},
		"a copy":          {good, "under no etcd lease"},
	} {
		for _, suffix := range []string{"", aliveSuffix} {
			t.Run(name+suffix, func(t *testing.T) {
				t.Parallel()
				h := hand{t, c, "/" + strings.ReplaceAll(t.Name(), " ", "-") + "/k"}
				var opts []clientv3.OpOption
				if name != "a copy" {
					opts = append(opts, clientv3.WithLease(granted.ID))
				}
				h.put(suffix, tc.value, opts...)
				s := New(c, h.key)
				_, err := s.Acquire(t.Context(), claim(time.Minute))
				says(t, "Acquire", err, owner.ErrCorruptRecord, h.key+suffix, tc.words)
				_, err = s.Look(t.Context())
				says(t, "Look", err, owner.ErrCorruptRecord, h.key+suffix, tc.words)
				if kv := h.get(suffix); string(kv.Value) != tc.value || kv.Version != 1 {
					t.Errorf("it was not left alone: %v", kv)
				}
			})
		}
	}
}

// EpochAbove raises the epochs, for readers without it, too.
func TestEpochAbove(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t).Client(t)
	plain := acquire(t, New(c, "/plain"), time.Minute).Holder.Epoch
	const base = 1_700_000_000_000
	s := New(c, "/k", EpochAbove(base))
	first := acquire(t, s, time.Minute)
	if e := first.Holder.Epoch; e <= base+plain || e > base+100 {
		t.Errorf("epoch %d", e)
	}
	if v := look(t, New(c, "/k")); v.Holder.Epoch != first.Holder.Epoch {
		t.Errorf("epoch %d, and others see %d", first.Holder.Epoch, v.Holder.Epoch)
	}
	must(t, first.Lease.Release(context.Background()))
}

// The epoch grows over all ways in which a lease can end, and a server that restarts.
func TestEpochs(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t)
	var last uint64
	for _, end := range []string{"released", "expired", "keys deleted", "etcd leases revoked", "restarted", "compacted"} {
		c := srv.Client(t)
		h := hand{t, c, "/k"}
		acq := acquire(t, New(c, h.key), 3*time.Second)
		if acq.Holder.Epoch <= last {
			t.Errorf("epoch %d after %d, before it was %s", acq.Holder.Epoch, last, end)
		}
		last = acq.Holder.Epoch
		switch end {
		case "expired":
			hints := watched(t, New(c, h.key), acq.Holder)
			for keys(t, c, h.key) > 0 {
				eventually(t, hints, "a hint of the end")
			}
		case "keys deleted":
			pairs["both keys deleted"](h)
		case "etcd leases revoked":
			pairs["both leases revoked"](h)
		case "restarted":
			must(t, acq.Lease.Release(context.Background()))
			must(t, c.Close())
			srv.Stop()
			srv.Start()
		case "compacted":
			pairs["both keys deleted"](h)
			_, err := c.Compact(t.Context(), h.revision())
			must(t, err)
			_, err = c.Defragment(t.Context(), srv.Endpoint())
			must(t, err)
		}
		if end != "restarted" {
			_ = acq.Lease.Release(context.Background())
		}
	}
}

// A full etcd costs no ownership. A lease can be released, but not acquired, until there
// is room.
func TestFull(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t, etcdtest.Quota(2<<20))
	c := srv.Client(t)
	owned := acquire(t, New(c, "/owned"), time.Minute)
	etcdtest.Fill(t, c)
	_, err := New(c, "/k").Acquire(t.Context(), claim(time.Minute))
	says(t, "Acquire", err, owner.ErrUnavailable, "quota", "defragment", "disarm", "/k") // Run and Campaign wait for room
	for range 3 {
		must(t, owned.Lease.Renew(t.Context(), 0))
	}
	must(t, owned.Lease.Release(context.Background()))
	if v := look(t, New(c, "/owned")); !v.Free() || keys(t, c, "/owned") != 0 {
		t.Errorf("released, and %d keys are left: %+v", keys(t, c, "/owned"), v)
	}

	etcdtest.MakeRoom(t, c)
	acq := acquire(t, New(c, "/k"), time.Minute)
	must(t, acq.Lease.Release(context.Background()))
}
