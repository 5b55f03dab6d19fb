package owner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/ownerlease/owner/internal/clock"
	"github.com/ownerlease/owner/internal/disk"
	"github.com/ownerlease/owner/internal/hint"
	"github.com/ownerlease/owner/internal/leasename"
)

// Acquire reads without the guard first, so that the many processes that find a live
// holder do not contend, and takes the guard only when the lease seems free.
func (s *fileStore) Acquire(ctx context.Context, claim Record) (Acquisition, error) {
	return s.acquire(ctx, claim, false)
}

// acquire spares a hung owner, if it is told to: it then returns a *hungError.
func (s *fileStore) acquire(ctx context.Context, claim Record, sparing bool) (acq Acquisition, err error) {
	if !leasename.IsInstanceID(claim.InstanceID) || claim.TTL <= 0 || claim.TTL > maxTTL {
		return Acquisition{}, fmt.Errorf("%w: a claim needs a UUID as its InstanceID, and a TTL of %v at most: it has %q and %v", ErrInvalidConfig, maxTTL, claim.InstanceID, claim.TTL)
	}
	if err := s.CheckTrusted(filepath.Dir(s.path)); err != nil {
		return Acquisition{}, explain(err)
	}
	if err := s.checkSharing(); err != nil {
		return Acquisition{}, explain(err)
	}
	err = s.guarded(ctx, claim.InstanceID, claim.TTL/2, func() (held bool, err error) {
		if sparing {
			if err := s.hangs(); err != nil {
				return false, err
			}
		}
		acq.Holder, held, err = s.liveHolder()
		return held, err
	}, func(g *guard) (err error) {
		acq, err = s.acquireGuarded(claim, g, sparing)
		return err
	})
	if err != nil {
		return s.follow(err)
	}
	return acq, nil
}

// guarded calls f under the guard, unless enough reports first that there is no need to.
// It waits for the guard no longer than patience: another process is acquiring, which
// takes less than a millisecond, and then the record shows it. id names the files that it
// makes.
func (s *fileStore) guarded(ctx context.Context, id string, patience time.Duration, enough func() (bool, error), f func(*guard) error) error {
	waited := time.Duration(0)
	for pause := 200 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		if done, err := enough(); done || err != nil {
			return explain(err)
		}
		g, err := s.lockGuard(id)
		if err == nil && g == nil && waited == 0 {
			err = s.checkGuard() // another program may hold a lock file of that name for long
		}
		if err != nil {
			return explain(err)
		}
		if g != nil {
			err := f(g)
			g.unlock()
			if !errors.Is(err, errGuardGone) {
				return explain(err)
			}
		}
		if waited >= patience {
			return unavailable{fmt.Errorf("the guard %s%s has been locked by another process for %v: it is stopped, or does not use this library", leasename.Guard(s.path), s.whoGuards(), patience)}
		}
		waited += pause
		if err := s.Sleep(ctx, jitter(pause)); err != nil {
			return fmt.Errorf("waiting for the guard %s%s: %w", leasename.Guard(s.path), s.whoGuards(), err)
		}
	}
}

// Look reads the record, and checks whether its owner is alive. A live instance without a
// record may be acquiring at this moment: Look gives it the time.
func (s *fileStore) Look(ctx context.Context) (View, error) {
	view, err := s.readView()
	if err == nil && !view.Free() && view.Holder.Epoch == 0 {
		_ = s.Sleep(ctx, 2*time.Millisecond)
		view, err = s.readView()
	}
	return view, err
}

func (s *fileStore) readView() (View, error) {
	seen, err := s.read()
	switch {
	case err != nil:
		return View{}, explain(err)
	case seen.damage != nil || seen.rec == nil:
		holder, _, err := s.findHolderWithoutRecord(seen, s.loadLast())
		return View{Holder: deref(holder)}, explain(err)
	}
	var view View
	if !s.free(seen) {
		view = View{Holder: seen.rec.public(), Until: seen.now + s.remaining(seen)}
	}
	s.showHandover(&view, seen.rec.InstanceID)
	return view, nil
}

// liveHolder reports a healthy record of a live holder. Any other state needs another
// read under the guard. What is not a lease's is an error at once: no file is made beside
// it.
func (s *fileStore) liveHolder() (holder Record, held bool, err error) {
	seen, err := s.read()
	if err != nil || seen.damage != nil || s.free(seen) {
		return Record{}, false, err
	}
	if !s.comparable(seen) && s.unsaved(seen, s.loadLast().FirstSeen) {
		return Record{}, false, nil
	}
	return seen.rec.public(), true, nil
}

// acquireGuarded takes the lease if it is free. The guard is held: no other process
// acquires meanwhile, but the owner may renew.
func (s *fileStore) acquireGuarded(claim Record, g *guard, sparing bool) (Acquisition, error) {
	last, err := g.loadLast()
	if err != nil {
		return Acquisition{}, err
	}
	holder, leftovers, err := s.findHolder(last)
	if sparing && leftovers.rec != nil && s.holds(leftovers.rec) {
		err = &hungError{leftovers.rec}
	}
	shared := unshared
	if err == nil { // else what is there is not ours to share
		shared, err = s.share(g)
	}
	if err != nil || holder != nil {
		s.saveFirstSeen(g, last)
		return Acquisition{Holder: deref(holder)}, err
	}
	claim.AcquiredAt = s.Wall()
	claim.RenewedAt = claim.AcquiredAt
	claim.Epoch = nextEpoch(max(last.Epoch, leftovers.epoch), claim.AcquiredAt)

	// The guard names the instance that is about to make files before they exist: what a
	// crash leaves behind can be found without searching the folder.
	s.removeDead(without(append(last.Left, leftovers.crashed...), leftovers.holder, claim.InstanceID))
	if err := g.saveLast(lastAcquirer{InstanceID: claim.InstanceID, PID: claim.PID, Epoch: claim.Epoch, Left: leftovers.holder}); err != nil {
		return Acquisition{}, err
	}
	lease, from, err := s.publish(claim, shared)
	if err != nil {
		return Acquisition{}, err
	}
	// If the guard was removed meanwhile, a second challenger may hold another, and may
	// not have seen this record. If the guard is still in place, its next holder will see
	// the record.
	if same, err := g.inPlace(); err != nil || !same {
		_ = lease.Release(context.Background())
		return Acquisition{}, errors.Join(errGuardGone, err)
	}
	lease.letFollow()
	// The old holder's alive file goes last. Without it, the old holder's death could not
	// be detected if this process died before it has published.
	s.remove(without(leftovers.holder, nil, claim.InstanceID))
	s.removeRequest()
	return Acquisition{Holder: claim, Lease: lease, From: from}, nil
}

// without leaves out the ids that are still needed: a second try finds its own id.
func without(ids, needed []string, own string) (rest []string) {
	for _, id := range ids {
		if id != own && !slices.Contains(needed, id) && !slices.Contains(rest, id) {
			rest = append(rest, id)
		}
	}
	return rest
}

// saveFirstSeen keeps in the guard what this process has seen of another clock, so that
// the next process need not start observing anew. A failure does no harm.
func (s *fileStore) saveFirstSeen(g *guard, last lastAcquirer) {
	v, ok := s.firstSeens.Load(s.path)
	if !ok {
		return
	}
	first := v.(firstSeen)
	if first.Clock == "" || s.counts(last.FirstSeen, first.heartbeat) {
		return
	}
	last.FirstSeen = &first
	_ = g.saveLast(last)
}

// errGuardGone: start again, with the guard that is there now.
var errGuardGone = errors.New("the guard was removed while it was held")

func deref(r *Record) Record {
	if r == nil {
		return Record{}
	}
	return *r
}

// nextEpoch is above every epoch before it. The wall clock covers the case in which both
// files that store the last epoch are gone.
func nextEpoch(last uint64, now time.Time) uint64 {
	return max(last+1, uint64(max(0, now.UnixMilli())))
}

// leftovers is what earlier instances have left behind.
type leftovers struct {
	epoch   uint64      // the highest epoch known from the record
	holder  []string    // the ids of instances that owned
	crashed []string    // the ids of instances that died while they acquired
	rec     *diskRecord // of the owner whose lease is free, unless that has released it
}

// findHolder decides under the guard whether the lease is free. If not, it returns
// the holder, or an error where it cannot be named.
func (s *fileStore) findHolder(last lastAcquirer) (*Record, leftovers, error) {
	seen, err := s.read()
	if err != nil {
		return nil, leftovers{}, err
	}
	if seen.damage != nil || seen.rec == nil {
		return s.findHolderWithoutRecord(seen, last)
	}
	rec := seen.rec
	left := leftovers{epoch: rec.Epoch, holder: []string{rec.InstanceID}}
	if last.InstanceID == "" {
		// Where the guard names no acquirer, only another live instance shows that the
		// record was exchanged.
		if other, err := s.liveBeside(rec.InstanceID); err != nil || other != "" {
			return &Record{InstanceID: other}, left, err
		}
	} else if last.InstanceID != rec.InstanceID {
		// The instance that acquired last either published its record or is dead. If it
		// is alive and another's record is here, the file was exchanged.
		if s.mayLive(last.InstanceID) {
			return &Record{InstanceID: last.InstanceID, PID: last.PID, Epoch: last.Epoch}, left, nil
		}
		left.crashed = []string{last.InstanceID}
	}
	if !s.free(seen) {
		holder := rec.public()
		return &holder, left, nil
	}
	if !rec.Released {
		left.rec = rec
	}
	return nil, left, nil
}

// findHolderWithoutRecord decides where there is no record, or only a damaged one. An
// owner may be alive all the same. Three things show it: its alive file, that file's
// second name, and the guard's content, which says whose alive file to check.
func (s *fileStore) findHolderWithoutRecord(seen observation, last lastAcquirer) (*Record, leftovers, error) {
	trace := s.lastAlive()
	most := -1
	if seen.damage == nil && last.InstanceID == "" && trace == noFile {
		most = firstSearch
	}
	ids, err := s.instances(most)
	if err != nil {
		return nil, leftovers{}, err
	}
	for _, id := range ids {
		if s.mayLive(id) {
			return s.holderWithoutRecord(seen, id)
		}
	}
	if trace.maybe() { // its first name was removed with the record
		return s.holderWithoutRecord(seen, last.InstanceID)
	}
	return nil, leftovers{crashed: ids}, nil
}

// firstSearch is how many files are searched for an owner of which there is no other
// trace: most likely, the lease has never had one. Without the bound, thousands of new
// leases in one folder would take a time that grows with their square.
const firstSearch = 500

// holderWithoutRecord names the owner of a lease whose record cannot be read.
func (s *fileStore) holderWithoutRecord(seen observation, id string) (*Record, leftovers, error) {
	switch {
	case seen.damage != nil:
		// Its next renewal repairs it.
		return nil, leftovers{}, unavailable{fmt.Errorf("instance %s is alive: %w", cmp.Or(id, "(unknown)"), seen.damage)}
	case id == "":
		// It loses the lease at its next renewal.
		return nil, leftovers{}, unavailable{fmt.Errorf("%s is locked by an instance whose other files were removed, or cannot be read: if no process uses this lease, remove it", leasename.Last(s.path))}
	}
	return &Record{InstanceID: id}, leftovers{}, nil
}

// liveBeside returns the id of a live instance other than the one that the record names,
// "" if there is none.
func (s *fileStore) liveBeside(holder string) (string, error) {
	ids, err := s.instances(-1)
	for _, id := range ids {
		if id != holder && s.mayLive(id) {
			return id, nil
		}
	}
	return "", err
}

// mayLive reports whether an instance is not known to have ended.
func (s *fileStore) mayLive(id string) bool { return s.alive(id, 0).maybe() }

// free reports whether the lease of a record that is not damaged, or of none, is
// free.
func (s *fileStore) free(seen observation) bool {
	return seen.rec == nil ||
		seen.rec.Released ||
		s.ended(seen.rec) ||
		s.remaining(seen) <= 0
}

// ended reports whether the process of a record's owner is known to have ended: its
// alive lock is free; or it was of another boot of this machine, and no process locks
// what a cleaner has left of its alive file.
func (s *fileStore) ended(rec *diskRecord) bool {
	switch s.alive(rec.InstanceID, rec.Alive) {
	case dead:
		return true
	case noFile:
		return clock.OtherBoot(rec.Clock, s.Clock()) && !s.lastAlive().maybe()
	}
	return false
}

// publish makes the record of a new ownership: in a new file, which replaces the old one.
// A resumed old owner thus writes into a file that no process reads.
func (s *fileStore) publish(claim Record, shared sharing) (_ *fileLease, from time.Duration, err error) {
	alive, err := s.makeAlive(claim.InstanceID, shared.guard)
	if err != nil {
		return nil, 0, err
	}
	l := &fileLease{store: s, instance: claim.InstanceID, alive: alive, shared: shared}
	temp := leasename.Temp(s.path, claim.InstanceID)
	defer func() {
		if err != nil {
			_ = l.free(claim.RenewedAt, from)
			_ = s.Remove(temp)
		}
	}()
	if err = s.markLast(claim.InstanceID); err != nil {
		return nil, 0, err
	}
	if l.file, err = s.Open(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL); err != nil {
		return nil, 0, err
	}
	if err = s.allow(l.file, shared.files, 1); err != nil {
		return nil, 0, err
	}
	l.enc, err = newEncoder(diskHead{
		InstanceID: claim.InstanceID, PID: claim.PID, Host: claim.Host, Epoch: claim.Epoch,
		AcquiredAt: claim.AcquiredAt.UTC(), TTL: claim.TTL.String(), Meta: claim.Meta,
		Clock: s.Clock(), File: l.file.Number(), Alive: alive.Number(),
		PIDNamespace: hint.PIDNamespace(), Started: s.startOf(claim.PID),
	})
	if err != nil {
		return nil, 0, err
	}
	from = s.Now()
	if err := l.write(diskTail{RenewedAt: claim.RenewedAt, Heartbeat: from}); err != nil {
		return nil, 0, err
	}
	return l, from, s.Replace(temp, s.path)
}

// fileLease is one ownership of a lease file.
type fileLease struct {
	store    *fileStore
	instance string
	file     disk.File // the record that this ownership made, still linked or not
	enc      *encoder
	alive    disk.Lock
	shared   sharing
}

// Renew rewrites its own record in place, and then checks whether it is still the one at
// the lease's path. No lock is taken, so that no stopped or slow challenger can keep the
// owner from renewing; and no block is allocated. That the old validity has not ended
// meanwhile is checked by decide, for every store alike.
func (l *fileLease) Renew(_ context.Context, at time.Duration) error {
	if err := l.write(diskTail{RenewedAt: l.store.Wall(), Heartbeat: at}); err != nil {
		return err
	}
	ours, size, err := l.file.At(l.store.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: the record was removed: %w", ErrRevoked, err)
	case err != nil:
		return err
	case !ours:
		return l.replaced()
	case size != l.enc.size():
		return l.file.Truncate(l.enc.size()) // something was appended to the record
	}
	// If this fails, the next renewal tries again; this one counts all the same.
	if l.aliveGone(leasename.Alive(l.store.path, l.instance)) {
		_ = l.restoreAlive(at)
	}
	if l.aliveGone(leasename.Last(l.store.path)) {
		_ = l.store.markLast(l.instance)
	}
	return nil
}

// aliveGone reports whether the alive file or its second name was removed or exchanged,
// as by a cleaner of old temporary files. If the record went, too, little else would show
// that this owner is alive.
func (l *fileLease) aliveGone(name string) bool {
	same, err := l.alive.At(name)
	return err == nil && !same
}

// restoreAlive puts another alive file in place, and has the record name it. It
// is locked before it gets its name: were this process stopped in between, an alive file
// that no process locks would mean that it is dead.
func (l *fileLease) restoreAlive(at time.Duration) error {
	s := l.store
	temp := leasename.Temp(s.path, l.instance)
	alive, err := s.lockAlive(temp)
	if err != nil {
		return err
	}
	enc, err := l.encoderFor(alive)
	if err == nil {
		err = s.allowLocked(temp, alive, l.shared.guard, 1)
	}
	if err == nil {
		err = s.Replace(temp, leasename.Alive(s.path, l.instance))
	}
	if err != nil {
		return errors.Join(err, alive.Unlock(), s.Remove(temp))
	}
	// In place: from here on its lock must be kept.
	old := l.alive
	l.enc, l.alive = enc, alive
	err = l.write(diskTail{RenewedAt: l.store.Wall(), Heartbeat: at})
	l.letFollow()
	// The number may have fewer digits than before.
	return errors.Join(err, l.file.Truncate(l.enc.size()), old.Unlock())
}

// encoderFor returns the encoder of a record that names another alive file.
func (l *fileLease) encoderFor(alive disk.Lock) (*encoder, error) {
	rec, err := l.store.readFile()
	if err != nil {
		return nil, err
	}
	rec.Alive = alive.Number()
	return newEncoder(rec.diskHead)
}

// replaced says why another file is in the record's place.
func (l *fileLease) replaced() error {
	seen, err := l.store.read()
	if err == nil && seen.rec != nil && seen.rec.Revoked {
		return fmt.Errorf("%w: by a call of Revoke", ErrRevoked)
	}
	if err == nil && seen.rec != nil && seen.rec.InstanceID == l.instance {
		return fmt.Errorf("%s: cannot verify that the record is still ours", l.store.path)
	}
	if err == nil && seen.rec != nil {
		return fmt.Errorf("%w: instance %s, pid %d, epoch %d", ErrTakenOver, seen.rec.InstanceID, seen.rec.PID, seen.rec.Epoch)
	}
	if err == nil {
		err = seen.damage
	}
	if err == nil {
		return fmt.Errorf("%w: the record was removed", ErrRevoked)
	}
	return fmt.Errorf("%w: the record was replaced: %w", ErrRevoked, err)
}

// Release writes into its own record that the lease is released, and frees the alive
// lock. Each of the two is enough for a successor; if the record has been replaced, the
// first is written where no process reads.
func (l *fileLease) Release(context.Context) error {
	return l.free(l.store.Wall(), l.store.Now())
}

func (l *fileLease) free(wall time.Time, now time.Duration) error {
	var err error
	if l.file == nil || l.inPlace() {
		l.removeLast()
	}
	if l.enc != nil {
		err = l.write(diskTail{RenewedAt: wall, Heartbeat: now, Released: true})
		if size, serr := l.file.Size(); serr == nil && size != l.enc.size() {
			err = errors.Join(err, l.file.Truncate(l.enc.size()))
		}
	}
	// Again, after the write: a record that was exchanged before it does not say that the
	// lease is released.
	inPlace := l.file != nil && l.inPlace()
	if l.file != nil {
		_ = l.file.Close() // all that was to be written has been
	}
	err = errors.Join(err, l.alive.Unlock())
	name := leasename.Alive(l.store.path, l.instance)
	if err == nil && inPlace {
		_ = l.store.Remove(name) // or the next acquirer does
	} else {
		// No process can read that the lease is released. The file stays: that it is not
		// locked shows the same. Touching it gives a hint to those that watch the folder.
		_ = l.store.Touch(name, wall)
	}
	return err
}

// removeLast removes the alive file's second name. It comes before the release, while no
// other can acquire: later, the name could become a successor's between the check and the
// removal. Where another may have the lease already, the name stays, for that one to
// replace; so it does on Windows, which removes no name of an open file.
func (l *fileLease) removeLast() {
	last := leasename.Last(l.store.path)
	if ours, err := l.alive.At(last); err == nil && ours {
		_ = l.store.Remove(last)
	}
}

// inPlace reports whether this record is the one that others read.
func (l *fileLease) inPlace() bool {
	ours, _, err := l.file.At(l.store.path)
	return err == nil && ours
}

func (l *fileLease) write(t diskTail) error {
	_, err := l.file.WriteAt(l.enc.encode(t), 0)
	return err
}

// explain wraps the operating system's errors in those that the caller can test for.
func explain(err error) error {
	var untrusted *disk.UntrustedError
	var special *disk.NotRegularError
	switch {
	case errors.As(err, &untrusted):
		return fmt.Errorf("%w: %w", ErrUnsupportedFilesystem, err)
	case errors.As(err, &special):
		return fmt.Errorf("%w: %w", ErrInvalidConfig, err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w (the lease's folder must exist)", err)
	case errors.Is(err, syscall.EBUSY):
		return fmt.Errorf("%w (a file that is a mount point cannot be replaced: mount the lease's folder)", err)
	}
	return err
}
