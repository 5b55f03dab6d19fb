package owner

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ownerlease/owner/internal/leasename"
)

// written are records as this package writes them, in every form that it has.
func written(tb testing.TB) (all [][]byte) {
	for _, head := range []diskHead{
		testHead(),
		{InstanceID: uuid.NewString(), TTL: "1s"},
		{InstanceID: uuid.NewString(), PID: 12, Host: "häuschen", TTL: "1m0s", Meta: map[string]string{}, Clock: "c", Alive: 7, PIDNamespace: "pid:[1]", Started: "123"},
		{InstanceID: uuid.NewString(), PID: -1, TTL: "1m0s", Meta: map[string]string{"a": "", "": "b", "c": "d"}, Started: "\"", Revoked: true},
	} {
		enc, err := newEncoder(head)
		must(tb, err)
		for _, tail := range []diskTail{
			{}, {RenewedAt: time.Unix(1<<33, 100), Heartbeat: -maxNumber},
			{RenewedAt: time.Now(), Heartbeat: maxNumber, Released: true},
		} {
			all = append(all, bytes.Clone(enc.encode(tail)))
		}
	}
	return all
}

// slowly is what encoding/json makes of a record.
func slowly(b []byte) (*diskRecord, error) {
	r := new(diskRecord)
	return r, json.Unmarshal(b, r)
}

// The usual records need no encoding/json: no other test would notice the cost.
func TestUsualRecordsAreReadFast(t *testing.T) {
	for _, b := range written(t) {
		r, ok := readRecord(b)
		if escaped := bytes.ContainsRune(b, '\\'); ok == escaped {
			t.Errorf("read is %v:\n%s", ok, b)
		}
		if want, err := slowly(b); ok && (err != nil || !reflect.DeepEqual(r, want)) {
			t.Errorf("got %+v, not %+v, %v", r, want, err)
		}
	}
}

// Each field of the record has its row: a forgotten one would cost the speed.
func TestAllFieldsAreReadFast(t *testing.T) {
	var keys []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[diskRecord]()) {
		if !f.Anonymous {
			key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			keys = append(keys, key)
		}
	}
	var rows []string
	for _, f := range recordFields {
		rows = append(rows, f.key)
	}
	if !reflect.DeepEqual(keys, rows) {
		t.Errorf("the record has %q, and read are %q", keys, rows)
	}
}

// What is read without encoding/json means the same to it.
func FuzzReadRecord(f *testing.F) {
	for _, b := range written(f) {
		f.Add(b)
		for _, change := range [][2]string{
			{`"pid": `, `"pid": 0`}, {`"pid": `, `"pid": +`}, {`"epoch": `, `"epoch": -`}, {`"epoch": `, `"epoch": 18446744073709551616`},
			{`"heartbeat": `, `"heartbeat": 1e`}, {`"heartbeat": `, `"heartbeat": --`}, {`"released": false`, `"released": null`},
			{`"meta": {`, `"meta": {"x": 1,`}, {`"meta": null`, `"meta": {},`}, {`"ttl"`, `"TTL"`}, {`Z"`, `+01:00"`}, {`Z"`, `"`},
			{`"host": "`, "\"host\": \"\xff"}, {`"host": "`, "\"host\": \"\t"}, {`"clock"`, `"pid": 7, "clock"`}, {`"clock"`, `"new": 7, "clock"`},
			{"\n}", "\n},"}, {"\n}", "\n}\t"}, {"\n}", ""}, {"  \"", " \""}, {`"alive": `, `"alive": null`},
		} {
			f.Add([]byte(strings.Replace(string(b), change[0], change[1], 1)))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, ok := readRecord(b)
		if !ok {
			return // encoding/json decides
		}
		want, err := slowly(b)
		if err != nil || !reflect.DeepEqual(r, want) {
			t.Errorf("got %+v, not %+v, %v, of\n%q", r, want, err, b)
		}
	})
}

func TestInstanceIDs(t *testing.T) {
	id := uuid.NewString()
	for s, want := range map[string]bool{
		id: true, "": false, id[:35]: false, id + "0": false, strings.ToUpper("a" + id[1:]): false,
		"g" + id[1:]: false, strings.ReplaceAll(id, "-", "0"): false, "../" + id[3:]: false, "{" + id + "}": false,
	} {
		if leasename.IsInstanceID(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}
