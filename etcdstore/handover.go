package etcdstore

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/ownerlease/owner"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	requestFormat = "owner-handover-etcd/1"
	maxRequest    = 1024 // bytes of its value
)

// A handoverRequest is the value of the key of a request to step down. It names the
// instance that it asks, so that it asks no other.
type handoverRequest struct {
	Format    string `json:"format"`
	Holder    string `json:"holder"`
	Successor string `json:"successor,omitempty"`
}

// decodeRequest reads a request. ours is false where there is none, or another program's
// value.
func decodeRequest(kv *mvccpb.KeyValue) (req handoverRequest, ours bool) {
	if kv == nil || len(kv.Value) > maxRequest || json.Unmarshal(kv.Value, &req) != nil || req.Format != requestFormat {
		return handoverRequest{}, false
	}
	return req, true
}

// RequestHandover: see owner.HandoverStore. The request is put only where both keys of the
// owner are as they were read, and under an etcd lease of that owner: it goes away with
// the ownership.
func (s *store) RequestHandover(ctx context.Context, holder, successor string) error {
	if err := s.usable(); err != nil {
		return err
	}
	for {
		found, err := s.read(ctx, readPatience)
		if err != nil {
			return err
		}
		switch rec, err := s.holder(found); {
		case err != nil:
			return err
		case rec.InstanceID != holder:
			return owner.ErrNoHolder
		case found.kvs[0] == nil || found.kvs[1] == nil:
			return fmt.Errorf("%w: it was revoked, and is about to stop", owner.ErrNoHolder)
		}
		req := handoverRequest{requestFormat, holder, successor}
		if req.Successor, err = s.successorBeside(found.request, req); err != nil {
			return err
		}
		if done, err := s.putRequest(ctx, found, req); done || err != nil {
			return err
		}
	}
}

// successorBeside returns the successor of a request beside the one that was put before.
func (s *store) successorBeside(kv *mvccpb.KeyValue, req handoverRequest) (string, error) {
	before, ours := decodeRequest(kv)
	switch {
	case kv != nil && !ours:
		return "", fmt.Errorf("%w: the etcd key %q has a value of another program, and is left as it is: delete it if it is not needed, or choose another key for the lease",
			owner.ErrInvalidConfig, s.handover)
	case kv == nil || before.Holder != req.Holder || before.Successor == "":
		return req.Successor, nil
	case req.Successor == "" || req.Successor == before.Successor:
		return before.Successor, nil
	}
	return "", fmt.Errorf("%w: by a request that names %s as the successor: let that handover end first", owner.ErrHandover, before.Successor)
}

// putRequest puts the request if all keys are as they were found.
func (s *store) putRequest(ctx context.Context, found keyPair, req handoverRequest) (done bool, err error) {
	value, err := json.Marshal(req)
	if err != nil {
		return false, err
	}
	resp, err := call(ctx, s, readPatience, func(ctx context.Context, r route) (*clientv3.TxnResponse, error) {
		return r.commit(ctx,
			[]clientv3.Cmp{asFound(s.key, found.kvs[0]), asFound(s.alive, found.kvs[1]), asFound(s.handover, found.request)},
			[]clientv3.Op{clientv3.OpPut(s.handover, string(value), clientv3.WithLease(clientv3.LeaseID(found.kvs[1].Lease)))}, nil)
	})
	if err != nil {
		return false, s.failed(ctx, "request a handover", err)
	}
	return resp.Succeeded, nil
}

// asFound compares a key with what was read; nil: it did not exist.
func asFound(key string, kv *mvccpb.KeyValue) clientv3.Cmp {
	if kv == nil {
		return clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
	}
	return clientv3.Compare(clientv3.ModRevision(key), "=", kv.ModRevision)
}
