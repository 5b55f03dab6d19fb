package owner

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/google/uuid"

	"github.com/ownerlease/owner/internal/disk"
	"github.com/ownerlease/owner/internal/leasename"
)

// Revoke takes the lease at path away from its owner, and returns when that has stopped:
// it has called Release, its process has ended, or the lease has expired. It returns the
// owner's record, the zero Record if there was no owner. The owner is notified at once
// and Lost closes; it has what is left of its lease to stop. A successor may own the
// lease when Revoke returns: standbys acquire it as after any loss.
//
// It needs to write to the lease's folder, as Join does. An error other
// than the cause of ctx's end means that nothing was revoked.
func Revoke(ctx context.Context, path string) (Record, error) {
	s, err := openLease(path)
	if err != nil {
		return Record{}, err
	}
	owner, err := s.revoke(ctx, uuid.NewString())
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

// unused reports whether nothing of the lease is there: then no guard is made only to find no
// owner.
func (s *fileStore) unused() (bool, error) {
	now, err := s.read()
	if err != nil || now.rec != nil || now.damage != nil {
		return false, err
	}
	if guard, err := s.kindOf(leasename.Guard(s.path), guardFile); err != nil || guard != absent {
		return false, err
	}
	if last, err := s.kindOf(leasename.Last(s.path), aliveFile); err != nil || last != absent {
		return false, err
	}
	ids, err := s.instances(-1)
	return len(ids) == 0, err
}

// revoke replaces the owner's record with one that is marked as revoked, which the owner
// finds at its next renewal. It does so under the guard, so that no new owner's record is
// replaced. id names the files that it makes.
func (s *fileStore) revoke(ctx context.Context, id string) (owner Record, err error) {
	err = s.guarded(ctx, id, maxTTL, s.unused, func(g *guard) error {
		last, err := g.loadLast()
		if err != nil {
			return err
		}
		holder, _, err := s.findHolder(last)
		owner = deref(holder)
		shared := unshared
		if err == nil {
			shared, err = s.share(g)
		}
		if err != nil || holder == nil {
			return err
		}
		own, err := s.Open(s.path, os.O_RDONLY)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // without its record, an owner is about to lose the lease anyway
		}
		if err != nil {
			return err
		}
		defer own.Close()
		rec, err := s.retryTornRead(func() (*diskRecord, error) { return readOpen(own) })
		if err != nil {
			return s.corrupt(err)
		}
		if rec.InstanceID != owner.InstanceID || rec.Revoked {
			return nil // as above
		}
		if same, err := g.inPlace(); err != nil || !same {
			return errors.Join(errGuardGone, err)
		}
		last.Left = append(last.Left, id) // should this process die half way
		if err := g.saveLast(last); err != nil {
			return err
		}
		return s.publishRevocation(id, rec, own, shared.files)
	})
	return owner, s.denied(err)
}

// publishRevocation replaces the owner's record. The expiry that others see must be that
// of the owner's last renewal that counts, which is known only afterwards: that renewal
// has checked the path before the replacement, so it is in the owner's file by then.
// Until it is copied from there, the heartbeat is one of the future, by which no process
// can decide.
func (s *fileStore) publishRevocation(id string, rec *diskRecord, own disk.File, access disk.Access) error {
	temp := leasename.Temp(s.path, id)
	file, err := s.Open(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	defer s.Remove(temp) // if it has not become the record
	defer file.Close()
	if err := s.allow(file, access, 1); err != nil {
		return err
	}
	h := rec.diskHead
	h.Revoked, h.File = true, file.Number()
	enc, err := newEncoder(h)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(enc.encode(diskTail{RenewedAt: rec.RenewedAt, Heartbeat: maxNumber}), 0)
	if err == nil {
		err = s.Replace(temp, s.path)
	}
	if err != nil {
		return err
	}
	last, err := s.retryTornRead(func() (*diskRecord, error) { return readOpen(own) })
	if err == nil {
		_, _ = file.WriteAt(enc.encode(last.diskTail), 0) // if this fails, the lease expires a TTL after the record was first seen
	}
	return nil
}
