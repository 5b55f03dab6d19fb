package owner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/ownerlease/owner/internal/disk"
	"github.com/ownerlease/owner/internal/leasename"
)

// A request to the owner to step down is a small file beside the record. It names the
// instance that it asks, so that one which is left over asks no other. The next acquirer
// removes it.
const (
	handoverMark = "owner-lease/1 handover\n"
	maxHandover  = 512
	// handoverPatience bounds the wait for the guard: others hold it for less than a
	// millisecond.
	handoverPatience = 2 * time.Second
)

type handoverRequest struct {
	Holder    string `json:"holder"`
	Successor string `json:"successor,omitempty"`
}

// RequestHandover: see HandoverStore.
func (s *fileStore) RequestHandover(ctx context.Context, holder, successor string) error {
	if !leasename.IsInstanceID(holder) || successor != "" && !leasename.IsInstanceID(successor) {
		return fmt.Errorf("%w: %q or %q is not the id of an instance", ErrInvalidConfig, holder, successor)
	}
	return s.denied(s.request(ctx, uuid.NewString(), handoverRequest{holder, successor}))
}

// request writes the request under the guard: so no other instance acquires the lease
// meanwhile, and of two requests the second sees the first. id names the file until it is
// in its place.
func (s *fileStore) request(ctx context.Context, id string, req handoverRequest) error {
	isOwned := func() (bool, error) {
		view, err := s.readView()
		if err == nil && view.Holder.InstanceID != req.Holder {
			err = ErrNoHolder // no file is made beside what is no lease
		}
		return false, err
	}
	return s.guarded(ctx, id, handoverPatience, isOwned, func(g *guard) error {
		return s.leaveRequest(g, id, req)
	})
}

// leaveRequest replaces the request, whose file appears as a whole: that is also the hint.
func (s *fileStore) leaveRequest(g *guard, id string, req handoverRequest) error {
	last, err := g.loadLast()
	if err != nil {
		return err
	}
	holder, _, err := s.findHolder(last)
	if err != nil {
		return err
	}
	if holder == nil || holder.InstanceID != req.Holder {
		return ErrNoHolder
	}
	if req.Successor, err = s.successorBeside(req); err != nil {
		return err
	}
	shared, err := s.share(g)
	if err != nil {
		return err
	}
	last.Left = append(last.Left, id) // should this process die half way
	if err := g.saveLast(last); err != nil {
		return err
	}
	temp := leasename.Temp(s.path, id)
	if err := s.writeRequest(temp, req, shared.files); err != nil {
		return err
	}
	if err := s.Replace(temp, leasename.Handover(s.path)); err != nil {
		_ = s.Remove(temp)
		return err
	}
	return nil
}

func (s *fileStore) writeRequest(path string, req handoverRequest, access disk.Access) error {
	b, err := json.Marshal(req)
	if err != nil {
		return err
	}
	f, err := s.Open(path, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	if err = s.allow(f, access, 1); err == nil {
		_, err = f.WriteAt(append([]byte(handoverMark), b...), 0)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = s.Remove(path)
	}
	return err
}

// successorBeside returns the successor of a request beside the one that was left before.
func (s *fileStore) successorBeside(req handoverRequest) (string, error) {
	path := leasename.Handover(s.path)
	before, k, err := s.readRequest()
	switch {
	case err != nil:
		return "", err
	case k == foreign || k == blank:
		return "", notOurs(path)
	case k == absent || before.Holder != req.Holder || before.Successor == "":
		return req.Successor, nil
	case req.Successor == "" || req.Successor == before.Successor:
		return before.Successor, nil
	}
	return "", fmt.Errorf("%w: by a request that names %s as the successor: let that handover end first", ErrHandover, before.Successor)
}

// readRequest reads the file of a request. What is not one, or was put there by a user who
// cannot take part, is foreign.
func (s *fileStore) readRequest() (req handoverRequest, k kind, err error) {
	path := leasename.Handover(s.path)
	f, err := s.Open(path, os.O_RDONLY)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return req, absent, nil
	case err != nil:
		return req, foreign, err
	}
	defer f.Close()
	k, b, err := requestFile.read(f)
	if err != nil || k != marked {
		return req, k, err
	}
	if !s.byParticipant(f, path) {
		return req, foreign, nil
	}
	if len(b) <= maxHandover && json.Unmarshal(b[len(handoverMark):], &req) == nil && req.valid() {
		return req, marked, nil
	}
	return handoverRequest{}, marked, nil // damaged: it asks no instance
}

func (r *handoverRequest) valid() bool {
	return leasename.IsInstanceID(r.Holder) && (r.Successor == "" || leasename.IsInstanceID(r.Successor))
}

// byParticipant reports whether the file was made by a user who may take part in the
// lease. In a folder with the sticky bit every user can make files, and only the user of
// the lease's files, or root, takes part. In others, a user who can make a file can
// replace the record as well.
func (s *fileStore) byParticipant(f disk.File, path string) bool {
	folder, err := s.Access(filepath.Dir(path))
	if err != nil {
		return false
	}
	if folder.Perm&fs.ModeSticky == 0 {
		return true
	}
	whose, err := s.Access(path)
	if err != nil {
		return false
	}
	rec, err := s.Access(s.path)
	if err != nil {
		return false
	}
	if same, _, err := f.At(path); err != nil || !same { // the access is another file's
		return false
	}
	return whose.UID == rec.UID || whose.UID == 0
}

// showHandover adds the request to what a read of the lease has shown. holder owns it, or
// has owned it last.
func (s *fileStore) showHandover(v *View, holder string) {
	req, k, err := s.readRequest()
	if err == nil && k == marked && req.Holder == holder {
		v.HandoverRequested, v.Successor = true, req.Successor
	}
}

// removeRequest removes a request to an earlier owner. The guard is held. What stays does no
// harm.
func (s *fileStore) removeRequest() {
	path := leasename.Handover(s.path)
	if k, err := s.kindOf(path, requestFile); err == nil && k == marked {
		_ = s.Remove(path)
	}
}
