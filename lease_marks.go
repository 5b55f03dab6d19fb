package owner

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/ownerlease/owner/internal/disk"
	"github.com/ownerlease/owner/internal/leasename"
)

// A file beside the record is written, kept locked or removed only if it is known to be
// this lease's: package managers have lock files of such names, and the path of another
// lease can be that of a companion of this one. The mark at the file's beginning shows
// it. A guard's first byte is not part of the mark: other processes cannot read it on
// Windows while the guard is locked.
const (
	guardMark = leasename.GuardMark
	aliveMark = "owner-lease/1 alive\n"
)

// A kind says what a file in a companion's place is.
type kind int

const (
	absent  kind = iota
	marked       // a companion of a lease
	blank        // empty, or zeros, and not longer than ours: truncated, or what a power loss leaves of a new file
	foreign      // another program's, or another lease's record
)

// A companion is what is known of the files of a kind: their mark, the most bytes that one
// has, and from where on other processes can read it.
type companion struct {
	mark string
	size int
	from int
}

var (
	guardFile   = companion{guardMark, guardSize, 1}
	aliveFile   = companion{aliveMark, len(aliveMark), 0}
	requestFile = companion{handoverMark, maxHandover, 0}
)

// kindOf compares a file with a companion.
func (p *process) kindOf(path string, c companion) (kind, error) {
	f, err := p.Open(path, os.O_RDONLY)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return absent, nil
	case err != nil:
		return foreign, err
	}
	defer f.Close()
	k, _, err := c.read(f)
	return k, err
}

// read also returns what the file has, from c.from on, and one byte more than it may have.
func (c companion) read(f disk.File) (k kind, b []byte, err error) {
	b = make([]byte, c.size-c.from+1)
	n, err := f.ReadAt(b, int64(c.from))
	if err != nil && err != io.EOF {
		return foreign, nil, err
	}
	b = b[:n]
	if k = c.kindOf(b); k == blank && c.from > 0 && c.beginsOtherwise(f) {
		k = foreign
	}
	return k, b, nil
}

// kindOf is that of a file with these bytes. Zeros are ours only if there are no more of
// them than we write.
func (c companion) kindOf(b []byte) kind {
	switch {
	case isMarked(b, c.mark[c.from:]):
		return marked
	case len(b) <= c.size-c.from && isBlank(b):
		return blank
	}
	return foreign
}

// beginsOtherwise reports whether the first byte, as far as it can be read, is not ours.
func (c companion) beginsOtherwise(f disk.File) bool {
	var first [1]byte
	n, err := f.ReadAt(first[:], 0)
	return n == 1 && (err == nil || err == io.EOF) && first[0] != 0 && first[0] != c.mark[0]
}

func isBlank(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

func isMarked(b []byte, mark string) bool { return strings.HasPrefix(string(b), mark) }

// notOurs refuses a file in a companion's place.
func notOurs(path string) error {
	return fmt.Errorf("%w: %s is not a file of this lease, and is left as it is: remove it if it may go, or choose another path for the lease", ErrInvalidConfig, path)
}

// checkGuard returns an error if another program's file is in the guard's place.
func (s *fileStore) checkGuard() error {
	path := leasename.Guard(s.path)
	k, err := s.kindOf(path, guardFile)
	if err != nil {
		return err
	}
	return s.accept(path, k)
}

// accept decides about a file in the guard's place. A blank one may be a truncated guard,
// or another program's lock file, which is often empty: it is a guard if there are other
// files of the lease beside it.
func (s *fileStore) accept(guard string, k kind) error {
	switch {
	case k == foreign:
		return notOurs(guard)
	case k != blank:
		return nil
	}
	if s.hasRecord() {
		return nil
	}
	if ids, err := s.instances(-1); err != nil || len(ids) > 0 {
		return err
	}
	return notOurs(guard)
}

// hasRecord reports whether there is a record of ours, damaged or not.
func (s *fileStore) hasRecord() bool {
	var corrupt *corruptError
	_, err := s.readFile()
	return err == nil || errors.As(err, &corrupt) && corrupt.ours
}

// checkLast returns an error if another program's file has the name that is to
// become the alive file's second one. A full disk has room for an alive file without its
// mark, so a file that is blank can be ours or another program's: it is ours if it is an
// alive file's second name, if the guard remembers an owner, or if there is a record. So
// it is recognized whichever two of the other files a user has removed.
func (s *fileStore) checkLast() error {
	last := leasename.Last(s.path)
	k, err := s.kindOf(last, aliveFile)
	if err != nil {
		return err
	}
	if k == foreign || k == blank && s.loadLast().InstanceID == "" && !s.hasRecord() && !s.linksAlive(last) {
		return notOurs(last)
	}
	return nil
}

// linksAlive reports whether a file is one of this lease's alive files.
func (s *fileStore) linksAlive(path string) bool {
	f, err := s.Open(path, os.O_RDONLY)
	if err != nil {
		return false
	}
	defer f.Close()
	ids, _ := s.instances(-1)
	for _, id := range ids {
		if same, _, err := f.At(leasename.Alive(s.path, id)); err == nil && same {
			return true
		}
	}
	return false
}

// lastAlive is the liveness that the alive file's second name shows. Another program's
// file of that name shows nothing.
func (s *fileStore) lastAlive() liveness {
	last := leasename.Last(s.path)
	if k, err := s.kindOf(last, aliveFile); err == nil && (k == absent || k == foreign) {
		return noFile
	}
	return s.aliveAt(last, 0)
}

// markAlive writes the mark into an alive file that has just been made. A full disk can
// have room for a file and none for its content: the name, which has a UUID in it, then
// has to do.
func (p *process) markAlive(path string, alive disk.Lock) {
	f, err := p.Open(path, os.O_RDWR)
	if err != nil {
		return
	}
	defer f.Close()
	// What is not empty was not made just now: a link to another file, perhaps.
	if size, err := f.Size(); err == nil && size == 0 && alive.Is(f) {
		_, _ = f.WriteAt([]byte(aliveMark), 0)
	}
}

// remove removes what dead instances have left, if it is theirs. It must be called under
// the guard. It reports no error: what stays does no harm.
func (s *fileStore) remove(ids []string) {
	for _, id := range ids {
		if temp := leasename.Temp(s.path, id); s.leftBy(id, temp) {
			_ = s.Remove(temp)
		}
		alive := leasename.Alive(s.path, id)
		if k, err := s.kindOf(alive, aliveFile); err == nil && (k == marked || k == blank) {
			_ = s.Remove(alive)
		}
	}
}

// removeDead is remove for the instances that are still not alive: where the guard was
// removed while it was held, one that had no alive file a moment ago can be about to own.
func (s *fileStore) removeDead(ids []string) {
	s.remove(slices.DeleteFunc(ids, s.mayLive))
}

// leftBy reports whether a temporary file was left by an instance: a record or an
// alive file that was not put in its place, or a guard.
func (s *fileStore) leftBy(id, temp string) bool {
	f, err := s.Open(temp, os.O_RDONLY)
	if err != nil {
		return false
	}
	defer f.Close()
	b := make([]byte, maxRecord+1)
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return false
	}
	b = b[:n]
	rec, err := decodeRecord(b)
	if err == nil { // another lease can have this path
		return rec.InstanceID == id || rec.Revoked
	}
	var corrupt *corruptError
	return errors.As(err, &corrupt) && corrupt.ours || isMarked(b, aliveMark) || isMarked(b, guardMark) || isMarked(b, handoverMark)
}
