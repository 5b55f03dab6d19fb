package owner

import (
	"errors"
	"io/fs"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestInspectAndProbe(t *testing.T) {
	p := leasePath(t)
	if _, err := Inspect(p); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no record: %v", err)
	}
	if _, err := Probe(p); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no record: %v", err)
	}
	o := joinFile(t, p, func(c *Config) { c.Meta = map[string]string{"version": "1.2"} })
	st, err := Probe(p)
	if err != nil || st.Condition != Live || !st.Owned() || st.Remaining <= 0 || st.Remaining > time.Minute {
		t.Errorf("live: %+v, %v", st, err)
	}
	want := o.Holder()
	r := st.Record
	if r.InstanceID != want.InstanceID || r.PID != os.Getpid() || r.Host != want.Host || r.Epoch != want.Epoch || r.TTL != time.Minute ||
		!r.AcquiredAt.Equal(want.AcquiredAt) || r.Meta["version"] != "1.2" || r.Meta[EndpointMetaKey] != "unix:/run/x.sock" {
		t.Errorf("record %+v\nholder %+v", r, want)
	}
	must(t, o.Release())
	for want, prepare := range map[Condition]func(){
		Released: func() {},
		Dead:     func() { die(t, p, plant(t, p, nil).InstanceID) },
		Hung: func() {
			liveOwner(t, p, plant(t, p, func(_ *diskHead, tail *diskTail) { tail.Heartbeat -= time.Minute }).InstanceID)
		},
		Expired: func() { plant(t, p, func(_ *diskHead, tail *diskTail) { tail.Heartbeat -= time.Minute }) },
	} {
		must(t, os.Remove(p))
		prepare()
		if want == Released {
			plant(t, p, func(_ *diskHead, tail *diskTail) { tail.Released = true })
		}
		if st, err := Probe(p); err != nil || st.Condition != want || st.Owned() || st.Remaining != 0 {
			t.Errorf("want %s: %+v, %v", want, st, err)
		}
	}
	must(t, os.WriteFile(p, []byte("rubbish"), 0o600))
	if _, err := Inspect(p); !errors.Is(err, ErrCorruptRecord) {
		t.Errorf("rubbish: %v", err)
	}
}

// A lease that was revoked is owned until its owner has stopped, and is reported as
// revoked afterwards, not as dead.
func TestProbeRevoked(t *testing.T) {
	notOnWindows(t)
	p := leasePath(t)
	o := joinFile(t, p)
	s, err := newFileStore(p)
	must(t, err)
	_, err = s.revoke(t.Context(), uuid.NewString())
	must(t, err)
	if st, err := Probe(p); err != nil || st.Condition != Revoked || !st.Owned() || st.Remaining <= 0 {
		t.Errorf("before its owner has stopped: %+v, %v", st, err)
	}
	must(t, o.Release())
	if st, err := Probe(p); err != nil || st.Condition != Revoked || st.Owned() || st.Remaining != 0 || st.Record.InstanceID != o.InstanceID() {
		t.Errorf("after its owner has stopped: %+v, %v", st, err)
	}
	plant(t, p, func(h *diskHead, tail *diskTail) { h.Revoked, tail.Released = true, true })
	if st, err := Probe(p); err != nil || st.Condition != Revoked || st.Owned() {
		t.Errorf("revoked while it released: %+v, %v", st, err)
	}
}
