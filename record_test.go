package owner

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ownerlease/owner/internal/leasename"
)

func testHead() diskHead {
	return diskHead{
		InstanceID: uuid.NewString(), PID: 1, Host: "h\"<&\u2028", Epoch: 1 << 50, AcquiredAt: time.Unix(1, 2).UTC(),
		TTL: "1.5s", Meta: map[string]string{"endpoint": "unix:/x", "k": "crc32c:00000000"}, Clock: "linux x", File: 1 << 60,
	}
}

func TestRecordRoundTrip(t *testing.T) {
	h := testHead()
	enc, err := newEncoder(h)
	must(t, err)
	size := 0
	for i, tail := range []diskTail{
		{RenewedAt: time.Unix(0, 0), Heartbeat: 0},
		{RenewedAt: time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.FixedZone("", 3600)), Heartbeat: maxNumber, Released: true},
		{RenewedAt: time.Unix(1<<33, 100), Heartbeat: -maxNumber},
	} {
		b := enc.encode(tail)
		if i == 0 {
			size = len(b)
		}
		if len(b) != size {
			t.Errorf("record %d has %d bytes, the first %d", i, len(b), size)
		}
		r, err := decodeRecord(b)
		must(t, err)
		h.Format = format
		if r.Host != h.Host || r.Meta["k"] != h.Meta["k"] || r.File != h.File || r.Epoch != h.Epoch || !r.AcquiredAt.Equal(h.AcquiredAt) ||
			r.Heartbeat != tail.Heartbeat || r.Released != tail.Released || !r.RenewedAt.Equal(tail.RenewedAt) || r.public().TTL != 1500*time.Millisecond {
			t.Errorf("got %+v", r)
		}
	}
}

// What a user, or another program, sees of it.
func TestRecordIsJSON(t *testing.T) {
	p := leasePath(t)
	o := joinFile(t, p)
	b, err := os.ReadFile(p)
	must(t, err)
	var m map[string]any
	must(t, json.Unmarshal(b, &m))
	for _, key := range []string{"instance_id", "pid", "host", "epoch", "acquired_at", "renewed_at", "ttl", "meta"} {
		if _, ok := m[key]; !ok {
			t.Errorf("no %s in %s", key, b)
		}
	}
	if m["instance_id"] != o.InstanceID() || m["ttl"] != "1m0s" || m["meta"].(map[string]any)["endpoint"] != "unix:/run/x.sock" {
		t.Errorf("%s", b)
	}
}

// Any single byte that is wrong is noticed, and so is every mixture of two
// records, which is what a reader can meet.
func TestDamageIsNoticed(t *testing.T) {
	enc, err := newEncoder(testHead())
	must(t, err)
	a := bytes.Clone(enc.encode(diskTail{RenewedAt: time.Unix(1, 0), Heartbeat: 1111111111}))
	b := bytes.Clone(enc.encode(diskTail{RenewedAt: time.Unix(2, 0), Heartbeat: 2222222222}))
	for i := range a {
		flipped := bytes.Clone(a)
		flipped[i] ^= 1
		if _, err := decodeRecord(flipped); err == nil {
			t.Errorf("byte %d changed, and not noticed", i)
		}
		if _, err := decodeRecord(bytes.Clone(a[:i])); err == nil {
			t.Errorf("truncated to %d, and not noticed", i)
		}
		torn := append(bytes.Clone(a[:i]), b[i:]...)
		if _, err := decodeRecord(bytes.Clone(torn)); err == nil && !bytes.Equal(torn, a) && !bytes.Equal(torn, b) {
			t.Errorf("torn at %d, and not noticed", i)
		}
	}
}

// Our record may be replaced when no process is alive; a file that is not ours, never.
func TestOursOrNot(t *testing.T) {
	enc, err := newEncoder(testHead())
	must(t, err)
	whole := string(enc.encode(diskTail{}))
	for in, ours := range map[string]bool{
		"":                                      true,
		"\x00\x00\x00":                          true,
		whole[:100]:                             true,
		strings.Replace(whole, "pid", "PID", 1): true,
		"x":                                     false,
		"{}":                                    false,
		formatPrefix + "2\"":                    false,
		formatPrefix + "12":                     false,
		formatPrefix:                            true,
		formatPrefix[:1]:                        true,
		formatPrefix[:9] + "x":                  false,
		strings.Repeat(whole, 10):               false,
	} {
		checkOurs(t, in, ours)
	}
	// Cut anywhere, by whatever cuts files, and then brought to its size again, as an
	// owner does that writes its record for the last time at that moment.
	for n := range len(whole) {
		checkOurs(t, whole[:n], true)
		checkOurs(t, whole[:n]+strings.Repeat("\x00", len(whole)-n), true)
	}
}

func checkOurs(t *testing.T, in string, ours bool) {
	t.Helper()
	_, err := decodeRecord([]byte(in))
	var corrupt *corruptError
	if !errors.As(err, &corrupt) || corrupt.ours != ours {
		t.Errorf("%.60q: %v, want ours: %v", in, err, ours)
	}
}

func TestRecordTooLarge(t *testing.T) {
	h := testHead()
	h.Meta["x"] = strings.Repeat("x", maxRecord)
	if _, err := newEncoder(h); !errors.Is(err, ErrInvalidConfig) {
		t.Error(err)
	}
	// Metadata that Join accepts fits, with the longest of everything else.
	h = testHead()
	h.Host = strings.Repeat("h", 255)
	h.Meta = map[string]string{"x": strings.Repeat("x", maxMeta-len(`{"x":""}`))}
	h.Clock = strings.Repeat("c", 80)
	if _, err := newEncoder(h); err != nil {
		t.Error(err)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	enc, err := newEncoder(testHead())
	if err != nil {
		f.Fatal(err)
	}
	whole := enc.encode(diskTail{RenewedAt: time.Unix(1, 0), Heartbeat: 5})
	f.Add(bytes.Clone(whole))
	f.Add(bytes.Clone(whole[:200]))
	f.Add([]byte(formatPrefix + "2\"\n}"))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, sealed(b)} {
			before := bytes.Clone(b)
			r, err := decodeRecord(b)
			if !bytes.Equal(before, b) {
				t.Fatal("decoding has changed its input")
			}
			var corrupt *corruptError
			if err != nil {
				if r != nil || !errors.As(err, &corrupt) {
					t.Fatalf("%v, %v", r, err)
				}
				continue
			}
			if !leasename.IsInstanceID(r.InstanceID) || strings.ContainsAny(r.InstanceID, "/\\.") || r.public().TTL <= 0 || r.Epoch > maxNumber {
				t.Fatalf("accepted %+v", r)
			}
		}
	})
}

// sealed gives b a right checksum, where it has the place for one: otherwise the
// fuzzer would never get past it.
func sealed(b []byte) []byte {
	b = bytes.Clone(b)
	i := bytes.LastIndex(b, []byte("crc32c:"))
	if i < 0 || i+15 > len(b) {
		return b
	}
	copy(b[i+7:], "00000000")
	putChecksum(b[i+7:i+15], b)
	return b
}

func TestExpiresAt(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		rec  Record
		want time.Time
	}{
		{Record{RenewedAt: at, TTL: time.Minute}, at.Add(time.Minute)},
		{Record{RenewedAt: at, TTL: time.Minute, Released: true}, time.Time{}},
		{Record{InstanceID: "without a record", TTL: time.Minute}, time.Time{}},
		{Record{}, time.Time{}},
	} {
		if got := c.rec.ExpiresAt(); !got.Equal(c.want) {
			t.Errorf("%+v: %v, want %v", c.rec, got, c.want)
		}
	}
}

// An owner's own record is current, so that its expiry moves with each renewal.
func TestExpiresAtOfAnOwner(t *testing.T) {
	o := joinFile(t, leasePath(t))
	if left := time.Until(o.Holder().ExpiresAt()); left <= 0 || left > time.Minute {
		t.Errorf("%v left", left)
	}
	must(t, o.Release())
	if at := o.Holder().ExpiresAt(); !at.IsZero() {
		t.Errorf("released, and expires at %v", at)
	}
}
