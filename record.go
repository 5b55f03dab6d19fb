package owner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"

	"github.com/ownerlease/owner/internal/leasename"
)

// Record names the owner of a lease. Its times are wall-clock times, for display only: no
// decision is made by them.
//
// Its JSON is an object with the keys instance_id, pid, host, epoch, acquired_at,
// renewed_at, ttl (a string such as "30s"), released and meta, in which the times are
// UTC. Reading it ignores other keys, takes what is missing for zero, and refuses a
// ttl that is not a duration. The record of a lease file has these keys, and others.
type Record struct {
	InstanceID string            // a UUID, new for every ownership
	PID        int               // the owner's process; only for display and hints, as pids are reused
	Host       string            // the owner's host name
	Epoch      uint64            // the fencing token: grows with every change of owner
	AcquiredAt time.Time         // when the ownership began
	RenewedAt  time.Time         // when it was last renewed
	TTL        time.Duration     // how long it outlives its last renewal
	Released   bool              // the owner has released it
	Meta       map[string]string // the owner's facts for followers, its endpoint among them
}

// A jsonRecord is a Record's JSON.
type jsonRecord struct {
	InstanceID string            `json:"instance_id"`
	PID        int               `json:"pid"`
	Host       string            `json:"host"`
	Epoch      uint64            `json:"epoch"`
	AcquiredAt time.Time         `json:"acquired_at"`
	RenewedAt  time.Time         `json:"renewed_at"`
	TTL        string            `json:"ttl"`
	Released   bool              `json:"released"`
	Meta       map[string]string `json:"meta"`
}

// ExpiresAt returns when the lease expires unless it is renewed: RenewedAt and the
// TTL, by the wall clock; the zero time for a released record and for one that does not
// say when it was renewed.
//
// It is for display, and promises nothing: no decision is made by it, and
// the lease may be taken before it, as after a release, a revocation or its owner's
// death. Clocks are set, and those of two machines differ. A follower's record is as old
// as its last read of the lease, and the owner has probably renewed since; an owner's own
// is current, see [Owner.Holder]. To know whether this instance owns, ask
// [Owner.IsOwner]; for the remaining time of another's lease, [Probe].
func (r Record) ExpiresAt() time.Time {
	if r.Released || r.RenewedAt.IsZero() {
		return time.Time{}
	}
	return r.RenewedAt.Add(r.TTL)
}

// MarshalJSON returns the record's JSON.
func (r Record) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonRecord{
		InstanceID: r.InstanceID, PID: r.PID, Host: r.Host, Epoch: r.Epoch,
		AcquiredAt: r.AcquiredAt.UTC(), RenewedAt: r.RenewedAt.UTC(), TTL: r.TTL.String(),
		Released: r.Released, Meta: r.Meta,
	})
}

// UnmarshalJSON reads a record's JSON. An error leaves r as it was.
func (r *Record) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	in := jsonRecord{TTL: "0s"}
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	ttl, err := time.ParseDuration(in.TTL)
	if err != nil {
		return fmt.Errorf("the ttl of the record: %w", err)
	}
	*r = Record{
		InstanceID: in.InstanceID, PID: in.PID, Host: in.Host, Epoch: in.Epoch,
		AcquiredAt: in.AcquiredAt, RenewedAt: in.RenewedAt, TTL: ttl,
		Released: in.Released, Meta: in.Meta,
	}
	return nil
}

const (
	formatName   = "owner-lease/"
	formatPrefix = "{\n  \"format\": \"" + formatName
	format       = formatName + "1"

	// maxRecord is one page: a record is written and read in one piece, and a
	// file that is larger was not written by this package.
	maxRecord = 4096
	// maxMeta leaves room for the rest of the record.
	maxMeta = 3072

	checksumZero = "crc32c:00000000"
	// maxNumber bounds the numbers of a record, so that no arithmetic on them
	// can overflow.
	maxNumber = 1 << 61
)

// A diskRecord is a Record as it is in the file, with the fields that the protocol needs.
type diskRecord struct {
	diskHead
	diskTail
}

// The head of a record stays the same for the life of an ownership.
type diskHead struct {
	Format     string            `json:"format"`
	InstanceID string            `json:"instance_id"`
	PID        int               `json:"pid"`
	Host       string            `json:"host"`
	Epoch      uint64            `json:"epoch"`
	AcquiredAt time.Time         `json:"acquired_at"`
	TTL        string            `json:"ttl"`
	Meta       map[string]string `json:"meta"`
	Clock      string            `json:"clock"` // the clock domain of heartbeat
	File       uint64            `json:"file"`  // the number of this file: a copy's differs
	Alive      uint64            `json:"alive"` // the number of the alive file, 0 where it is not known

	// PIDNamespace is the one in which PID means something; for hints only. It is empty
	// where there are no namespaces, where it is not known, and in the records of earlier
	// versions.
	PIDNamespace string `json:"pid_namespace,omitempty"`

	// Started tells the process from others that have had its pid: see proc.Started. It is
	// empty where that is not known, and in the records of earlier versions.
	Started string `json:"process_started,omitempty"`

	// Revoked: this is not the owner's file, but has replaced it since the lease was
	// revoked. The owner does not renew it.
	Revoked bool `json:"revoked,omitempty"`
}

// The tail is rewritten by each renewal.
type diskTail struct {
	RenewedAt time.Time     `json:"renewed_at"`
	Heartbeat time.Duration `json:"heartbeat"` // the shared clock, in nanoseconds
	Released  bool          `json:"released"`
	Checksum  string        `json:"checksum"` // of all bytes of the file, with these digits as zeros
}

// public returns the record as callers see it.
func (r *diskRecord) public() Record {
	ttl, _ := time.ParseDuration(r.TTL) // checked by decodeRecord
	return Record{
		InstanceID: r.InstanceID, PID: r.PID, Host: r.Host, Epoch: r.Epoch,
		AcquiredAt: r.AcquiredAt, RenewedAt: r.RenewedAt, TTL: ttl,
		Released: r.Released, Meta: r.Meta,
	}
}

// An encoder writes the records of one ownership. All have the same size, so
// that a renewal overwrites the one before to the last byte and allocates no
// block: a full disk cannot stop it.
type encoder struct {
	buf  []byte // the whole record
	head int    // how much of it stays the same
}

func newEncoder(h diskHead) (*encoder, error) {
	h.Format = format
	head, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return nil, err
	}
	head = append(bytes.TrimSuffix(head, []byte("\n}")), ",\n"...)
	const maxTail = 160
	size := len(head) + maxTail
	if size > maxRecord {
		return nil, fmt.Errorf("%w: metadata too large: the record would have %d bytes, and %d is the most", ErrInvalidConfig, size, maxRecord)
	}
	buf := make([]byte, size)
	return &encoder{buf: buf, head: copy(buf, head)}, nil
}

// pad makes the records at least so long.
func (e *encoder) pad(size int64) {
	if more := int(size) - len(e.buf); more > 0 {
		e.buf = append(e.buf, make([]byte, more)...)
	}
}

// size is the size of every record of the ownership.
func (e *encoder) size() int64 { return int64(len(e.buf)) }

// encode returns the record with this tail. The slice is valid until the next
// call.
func (e *encoder) encode(t diskTail) []byte {
	b := append(e.buf[:e.head], `  "renewed_at": "`...)
	b = t.RenewedAt.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, "\",\n  \"heartbeat\": "...)
	b = strconv.AppendInt(b, int64(t.Heartbeat), 10)
	b = append(b, ",\n  \"released\": "...)
	b = strconv.AppendBool(b, t.Released)
	b = append(b, ",\n  \"checksum\": \""+checksumZero...)
	digits := len(b) - 8
	b = append(b, "\"\n}"...)
	for len(b) < len(e.buf)-1 {
		b = append(b, ' ')
	}
	b = append(b, '\n')
	putChecksum(b[digits:digits+8], b)
	return b
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// putChecksum writes the checksum of b as eight digits.
func putChecksum(dst, b []byte) {
	const hex = "0123456789abcdef"
	sum := crc32.Checksum(b, castagnoli)
	for i := range dst {
		dst[i] = hex[sum>>(28-4*i)&15]
	}
}

// A corruptError says why a record cannot be read.
type corruptError struct {
	why string
	// ours: the file was begun by this package, or is empty, as after a power loss, so
	// that replacing it destroys no data of others.
	ours bool
}

func (e *corruptError) Error() string {
	if e.ours {
		return e.why
	}
	return e.why + "; it is left as it is: remove it if it is not needed, or choose another path"
}

// decodeRecord reads a record, and distinguishes a damaged one from a file that is not ours.
func decodeRecord(b []byte) (*diskRecord, error) {
	if len(b) > maxRecord {
		return nil, &corruptError{why: fmt.Sprintf("not a lease record: larger than %d bytes", maxRecord)}
	}
	if len(bytes.Trim(b, "\x00")) == 0 {
		return nil, &corruptError{why: "empty", ours: true}
	}
	// A file that was truncated, and then extended to its size again, ends in zeros.
	begun := string(bytes.TrimRight(b[:min(len(b), len(formatPrefix)+20)], "\x00"))
	if begun != "" && strings.HasPrefix(formatPrefix, begun) {
		return nil, &corruptError{why: "cut off", ours: true}
	}
	rest, isRecord := strings.CutPrefix(begun, formatPrefix)
	if !isRecord {
		return nil, &corruptError{why: "not a lease record: in another format"}
	}
	version, _, whole := strings.Cut(rest, `"`)
	if !whole && strings.HasPrefix(format, formatName+version) {
		return nil, &corruptError{why: "cut off", ours: true}
	}
	if formatName+version != format {
		return nil, &corruptError{why: fmt.Sprintf("a lease record of version %q; this program knows version 1", version)}
	}
	if !checksumHolds(b) {
		return nil, &corruptError{why: "wrong checksum", ours: true}
	}
	r, ok := readRecord(b)
	if !ok {
		r = new(diskRecord)
		if err := json.Unmarshal(b, r); err != nil {
			return nil, &corruptError{why: err.Error(), ours: true}
		}
	}
	if err := r.validate(); err != nil {
		return nil, &corruptError{why: err.Error(), ours: true}
	}
	return r, nil
}

// checksumHolds checks the digits after the last "crc32c:". They are
// zeros while the sum is taken, in the caller's slice.
func checksumHolds(b []byte) bool {
	i := bytes.LastIndex(b, []byte("crc32c:"))
	if i < 0 || i+15 > len(b) {
		return false
	}
	digits := b[i+7 : i+15]
	var have, want [8]byte
	copy(have[:], digits)
	copy(digits, "00000000")
	putChecksum(want[:], b)
	copy(digits, have[:])
	return have == want
}

// validate refuses what only an attacker can have written: paths are made from the id,
// and sums from the numbers.
func (r *diskRecord) validate() error {
	if !leasename.IsInstanceID(r.InstanceID) {
		return errors.New("instance_id is not a UUID")
	}
	if ttl, err := time.ParseDuration(r.TTL); err != nil || ttl <= 0 || ttl > maxNumber {
		return errors.New("ttl out of range")
	}
	if r.Epoch > maxNumber || r.Heartbeat > maxNumber || r.Heartbeat < -maxNumber {
		return errors.New("a number is out of range")
	}
	return nil
}
