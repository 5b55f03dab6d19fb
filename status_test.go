package owner

import (
	"errors"
	"io/fs"
	"os"
	"testing"
	"time"
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
			live(t, p, plant(t, p, func(_ *diskHead, tail *diskTail) { tail.Heartbeat -= time.Minute }).InstanceID)
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
