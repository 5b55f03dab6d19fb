package owner

import (
	"context"
	"os"
	"time"

	"github.com/ownerlease/owner/internal/disk"
)

// Revoke takes the lease at path away from its owner, and returns when that has
// stopped, or when the lease has run out: the zero Record if nobody owned it,
// otherwise the record of who did. The owner hears of it at once and Lost closes;
// the time that it has to stop is what is left of its lease. A successor may own
// the lease by then: those who stand by take it as after any loss.
//
// It needs to write to the lease's folder, as whoever joins does. An error other
// than the cause of ctx's end means that nothing was revoked.
func Revoke(ctx context.Context, path string) (Record, error) {
	s, err := openLease(path)
	if err != nil {
		return Record{}, err
	}
	owner, err := s.revoke(ctx)
	if err != nil || owner.InstanceID == "" {
		return Record{}, revokeError(path, err)
	}
	for view, err := range views(ctx, s) {
		if err == nil && view.Holder.InstanceID != owner.InstanceID {
			return owner, nil
		}
	}
	return owner, revokeError(path, context.Cause(ctx))
}

func revokeError(path string, err error) error {
	if err == nil {
		return nil
	}
	return &opError{"revoke " + path, err}
}

// revoke puts a record of the same owner into the place of its own, which the
// owner takes for what it is at its next renewal. It is done under the guard, so
// that no new owner's record is replaced.
func (s *fileStore) revoke(ctx context.Context) (owner Record, err error) {
	err = s.guarded(ctx, func() bool { return false }, func(g *guard) error {
		last, err := g.recall()
		if err != nil {
			return err
		}
		holder, _, err := s.judge(last)
		if err != nil || holder == nil {
			return err
		}
		owner = *holder
		seen, err := s.read()
		if err != nil || seen.rec == nil || seen.rec.InstanceID != owner.InstanceID || seen.rec.Revoked {
			return err // without its record, an owner is about to lose the lease anyway
		}
		return s.publishRevocation(seen.rec)
	})
	return owner, err
}

// publishRevocation has no heartbeat that others could judge by: the owner may
// have renewed once more between the reading of its record and its replacement. Its
// number is one that no other record of this instance has.
func (s *fileStore) publishRevocation(rec *diskRecord) error {
	temp := tempPath(s.path, "revoked")
	_ = os.Remove(temp) // of somebody who has died at this point
	file, info, err := disk.Open(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(temp) // if it has not become the record
	defer file.Close()
	h := rec.diskHead
	h.Revoked, h.Clock, h.File = true, "", disk.Number(file, info)
	enc, err := newEncoder(h)
	if err != nil {
		return err
	}
	if _, err := file.Write(enc.encode(diskTail{RenewedAt: time.Now(), Heartbeat: s.Now()})); err != nil {
		return err
	}
	return disk.Replace(temp, s.path)
}
