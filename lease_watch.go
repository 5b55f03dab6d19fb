package owner

import (
	"errors"
	"fmt"
	"os"

	"github.com/ownerlease/owner/internal/hint"
)

// Watch gives a hint of three things: the record is replaced or removed; an alive file
// is removed or, at its owner's end, closed; the holder's process has ended.
func (s *fileStore) Watch(holder Record, given func()) (stop func(), err error) {
	stop, _, err = s.watchUntil(holder, false, func() bool { given(); return false })
	return stop, err
}

// watchUntil needs no pid where the folder's hints report a process's end.
func (s *fileStore) watchUntil(holder Record, successors bool, hinted func() (last bool)) (stop func(), steady bool, err error) {
	stopFile, err := hint.FileUntil(s.path, successors && hint.FileTellsEnd, hinted)
	if err == nil && hint.FileTellsEnd {
		return stopFile, true, nil
	}
	if !s.pidIsKnown(holder) {
		return stopFile, false, missing(err)
	}
	stopProcess, perr := hint.Process(holder.PID, func() { hinted() })
	return func() { stopFile(); stopProcess() }, false, missing(err, perr)
}

// pidIsKnown reports whether the holder's pid is that of a process here. In another pid
// namespace it may be that of an unrelated process, which lives on. Where a record does
// not name its namespace, as those of earlier versions do not, the pid is not used: the
// close of the alive file is the same hint.
func (s *fileStore) pidIsKnown(holder Record) bool {
	if !hint.PIDNamespaces {
		return true
	}
	if holder.PID == 0 || holder.PID == os.Getpid() {
		return false // without reading the record: there is nothing to watch
	}
	rec, err := s.retryTornRead(s.readFile)
	return err == nil && rec.InstanceID == holder.InstanceID &&
		rec.PIDNamespace != "" && rec.PIDNamespace == hint.PIDNamespace()
}

// missing says what missing hints cost; it returns nil if none is missing.
func missing(errs ...error) error {
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("a takeover can take up to a second, until the next poll: %w", err)
	}
	return nil
}
