package owner

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A record is read far more often than it is written, and encoding/json takes longer
// for it than the kernel takes to read it. A record that is in exactly the form in
// which this package writes it, as nearly all are, is read here. Anything else is left to
// encoding/json, so that what is accepted, and what it means, is the same with and
// without this file.

// recordFields are the fields in the order of the file. A field that is added to the
// record without a row here costs only the speed.
var recordFields = []struct {
	key      string
	optional bool // not always written
	read     func(*reader, *diskRecord) bool
}{
	{"format", false, func(in *reader, r *diskRecord) bool { return in.text(&r.Format) }},
	{"instance_id", false, func(in *reader, r *diskRecord) bool { return in.text(&r.InstanceID) }},
	{"pid", false, func(in *reader, r *diskRecord) bool {
		n, ok := in.signed()
		r.PID = int(n)
		return ok && int64(r.PID) == n
	}},
	{"host", false, func(in *reader, r *diskRecord) bool { return in.text(&r.Host) }},
	{"epoch", false, func(in *reader, r *diskRecord) bool { return in.unsigned(&r.Epoch) }},
	{"acquired_at", false, func(in *reader, r *diskRecord) bool { return in.time(&r.AcquiredAt) }},
	{"ttl", false, func(in *reader, r *diskRecord) bool { return in.text(&r.TTL) }},
	{"meta", false, func(in *reader, r *diskRecord) bool { return in.texts(&r.Meta) }},
	{"clock", false, func(in *reader, r *diskRecord) bool { return in.text(&r.Clock) }},
	{"file", false, func(in *reader, r *diskRecord) bool { return in.unsigned(&r.File) }},
	{"alive", false, func(in *reader, r *diskRecord) bool { return in.unsigned(&r.Alive) }},
	{"pid_namespace", true, func(in *reader, r *diskRecord) bool { return in.text(&r.PIDNamespace) }},
	{"process_started", true, func(in *reader, r *diskRecord) bool { return in.text(&r.Started) }},
	{"revoked", true, func(in *reader, r *diskRecord) bool { return in.flag(&r.Revoked) }},

	{"renewed_at", false, func(in *reader, r *diskRecord) bool { return in.time(&r.RenewedAt) }},
	{"heartbeat", false, func(in *reader, r *diskRecord) bool {
		n, ok := in.signed()
		r.Heartbeat = time.Duration(n)
		return ok
	}},
	{"released", false, func(in *reader, r *diskRecord) bool { return in.flag(&r.Released) }},
	{"checksum", false, func(in *reader, r *diskRecord) bool { return in.text(&r.Checksum) }},
}

// readRecord reads a record that is in the form in which an encoder writes it, and
// reports whether it is.
func readRecord(b []byte) (*diskRecord, bool) {
	in := &reader{rest: strings.TrimRight(string(b), " \n")} // one copy, which all texts share
	r := new(diskRecord)
	between := "{\n  \""
	for i := range recordFields {
		f := &recordFields[i]
		if f.optional && !in.at(between, f.key) {
			continue
		}
		if !in.skip(between) || !in.skip(f.key) || !in.skip("\": ") || !f.read(in, r) {
			return nil, false
		}
		between = ",\n  \""
	}
	return r, in.rest == "\n}"
}

// A reader takes what it knows from the front of a record.
type reader struct{ rest string }

func (in *reader) at(between, key string) bool {
	rest, ok := strings.CutPrefix(in.rest, between)
	return ok && strings.HasPrefix(rest, key) && strings.HasPrefix(rest[len(key):], "\"")
}

func (in *reader) skip(what string) (ok bool) {
	in.rest, ok = strings.CutPrefix(in.rest, what)
	return ok
}

// text takes a string without escapes.
func (in *reader) text(to *string) bool {
	if !in.skip(`"`) {
		return false
	}
	end := strings.IndexByte(in.rest, '"')
	if end < 0 || !plain(in.rest[:end]) {
		return false
	}
	*to, in.rest = in.rest[:end], in.rest[end+1:]
	return true
}

// plain reports whether a string means itself.
func plain(s string) bool {
	ascii := true
	for i := range len(s) {
		if s[i] < ' ' || s[i] == '\\' {
			return false
		}
		ascii = ascii && s[i] < utf8.RuneSelf
	}
	return ascii || utf8.ValidString(s)
}

// texts takes an object of strings, or null.
func (in *reader) texts(to *map[string]string) bool {
	switch {
	case in.skip("null"):
		return true
	case in.skip("{}"):
		*to = map[string]string{}
		return true
	case !in.skip("{"):
		return false
	}
	*to = make(map[string]string, 1)
	for {
		var key, value string
		if !in.skip("\n    ") || !in.text(&key) || !in.skip(": ") || !in.text(&value) {
			return false
		}
		(*to)[key] = value
		if !in.skip(",") {
			return in.skip("\n  }")
		}
	}
}

// time takes a time as encoding/json does.
func (in *reader) time(to *time.Time) bool {
	var s string
	return in.text(&s) && to.UnmarshalText([]byte(s)) == nil
}

func (in *reader) flag(to *bool) bool {
	*to = in.skip("true")
	return *to || in.skip("false")
}

func (in *reader) unsigned(to *uint64) bool {
	n, err := strconv.ParseUint(in.number(), 10, 64)
	*to = n
	return err == nil
}

func (in *reader) signed() (int64, bool) {
	minus := in.skip("-")
	n, err := strconv.ParseInt(in.number(), 10, 64)
	if minus {
		n = -n
	}
	return n, err == nil
}

// number takes digits: none where they begin with a zero that JSON does not allow.
func (in *reader) number() (digits string) {
	end := 0
	for end < len(in.rest) && '0' <= in.rest[end] && in.rest[end] <= '9' {
		end++
	}
	if end > 1 && in.rest[0] == '0' {
		end = 0
	}
	digits, in.rest = in.rest[:end], in.rest[end:]
	return digits
}
