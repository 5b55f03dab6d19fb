package etcdstore

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/ownerlease/owner"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const format = "owner-lease-etcd/1"

// maxEpochAbove bounds what the epoch is computed from, so that it cannot overflow.
const maxEpochAbove = 1 << 62

// A head is in the value beside the record, in the same JSON object. The
// record's own epoch is 0 there: it is not known before etcd has put the keys. It is
// EpochAbove and the keys' create_revision, for all readers.
type head struct {
	Format     string `json:"format"`
	EpochAbove uint64 `json:"epoch_above"`

	// Process names the owner's process for witnesses, see witness.Self. It is empty where
	// there are to be none, and in the values of earlier versions, which ignore it.
	Process string `json:"process,omitempty"`
}

// A value is what a key holds.
type value struct {
	owner.Record
	process string
}

// encode returns the value of both keys, human-readable.
func (s *store) encode(rec owner.Record) (string, error) {
	h, err := json.Marshal(head{format, s.above, s.process()})
	if err != nil {
		return "", err
	}
	r, err := json.Marshal(rec)
	if err != nil {
		return "", err
	}
	h[len(h)-1] = ',' // one object of two
	var text bytes.Buffer
	err = json.Indent(&text, append(h, r[1:]...), "", "  ")
	return text.String(), err
}

// decode reads the value of a key. A value that is not a record of this package is left
// as it is: the error matches owner.ErrCorruptRecord.
func decode(kv *mvccpb.KeyValue) (value, error) {
	corrupt := func(why string, args ...any) (value, error) {
		return value{}, fmt.Errorf("%w: the value of the etcd key %q %s; it is left as it is: delete it if it is not needed, or choose another key",
			owner.ErrCorruptRecord, kv.Key, fmt.Sprintf(why, args...))
	}
	var h head
	var rec owner.Record
	if err := json.Unmarshal(kv.Value, &h); err != nil {
		return corrupt("is not a lease record: %v", err)
	}
	if h.Format != format {
		return corrupt("has the format %q, and this program knows %q", h.Format, format)
	}
	if err := json.Unmarshal(kv.Value, &rec); err != nil {
		return corrupt("is not a lease record: %v", err)
	}
	switch {
	case rec.InstanceID == "" || rec.TTL <= 0 || h.EpochAbove > maxEpochAbove:
		return corrupt("is not a whole lease record")
	case kv.Lease == 0:
		return corrupt("was put there under no etcd lease, so that it would never expire")
	}
	rec.Epoch = h.EpochAbove + uint64(kv.CreateRevision)
	return value{rec, h.Process}, nil
}

// keyPair are the two keys of a lease at one revision.
type keyPair struct {
	rev  int64
	term uint64              // of the leader that the reading was confirmed by, or a later one
	kvs  [2]*mvccpb.KeyValue // nil for one that does not exist

	request *mvccpb.KeyValue // to the owner to step down; nil: none
}

// keyPairIn returns the legs that a transaction has read.
func keyPairIn(resp *clientv3.TxnResponse) keyPair {
	l := keyPair{rev: resp.Header.Revision, term: resp.Header.RaftTerm}
	for i, kv := range []**mvccpb.KeyValue{&l.kvs[0], &l.kvs[1], &l.request} {
		if kvs := resp.Responses[i].GetResponseRange().Kvs; len(kvs) > 0 {
			*kv = kvs[0]
		}
	}
	return l
}

// holder returns the value of the instance that owns the lease, the zero value if none
// does. A key that cannot be read is an error, also beside one that can: its owner will
// lose the lease because of it, and the key will stay.
func (l *keyPair) holder() (value, error) {
	var holder value
	for _, kv := range l.kvs {
		if kv == nil {
			continue
		}
		v, err := decode(kv)
		if err != nil {
			return value{}, err
		}
		if holder.InstanceID == "" {
			holder = v
		}
	}
	return holder, nil
}

// free reports whether neither leg exists.
func (l *keyPair) free() bool { return l.kvs[0] == nil && l.kvs[1] == nil }

// leases returns the etcd leases of the legs that exist.
func (l *keyPair) leases() (ids []clientv3.LeaseID) {
	for _, kv := range l.kvs {
		if kv != nil {
			ids = append(ids, clientv3.LeaseID(kv.Lease))
		}
	}
	return ids
}

// under reports whether both legs exist under these etcd leases.
func (l *keyPair) under(ids []clientv3.LeaseID) bool {
	for i, kv := range l.kvs {
		if kv == nil || clientv3.LeaseID(kv.Lease) != ids[i] {
			return false
		}
	}
	return true
}
