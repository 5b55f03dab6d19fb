package owner

import (
	"context"
	"errors"

	"github.com/ownerlease/owner/internal/leasename"
)

// Advertise rewrites the own record in place, as a renewal does, with the heartbeat that
// stands there: so no lock is needed, and what is written into a record that was replaced
// meanwhile no process reads. The record never gets shorter, so that no moment shows a
// whole record with the rest of the old one behind it; within its block it can become longer
// on a full disk, too.
func (l *fileLease) Advertise(_ context.Context, meta map[string]string) error {
	rec, err := decodeRecord(l.enc.buf)
	if err != nil {
		return err
	}
	rec.Meta = meta
	enc, err := newEncoder(rec.diskHead)
	if err != nil {
		return err
	}
	old := l.enc
	enc.pad(old.size())
	l.enc = enc
	if err := l.write(rec.diskTail); err != nil {
		return errors.Join(err, l.restore(old, rec.diskTail))
	}
	ours, _, err := l.file.At(l.store.path)
	if err != nil {
		return err
	}
	if !ours {
		return l.replaced()
	}
	// Touching the alive file gives the others a hint: heartbeats give none.
	_ = l.store.Touch(leasename.Alive(l.store.path, l.instance), rec.RenewedAt)
	return nil
}

// restore writes the record again that was there before a write that has failed. That may
// have had its effect, so the old record is first tried at the new length, and only where
// the disk has no room for that, cut to its own.
func (l *fileLease) restore(old *encoder, t diskTail) error {
	size := old.size()
	old.pad(l.enc.size())
	l.enc = old
	if l.write(t) == nil {
		return nil
	}
	old.buf = old.buf[:size]
	return errors.Join(l.write(t), l.file.Truncate(size))
}
