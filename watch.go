package owner

import (
	"context"
	"iter"
	"maps"
	"time"
)

// Watch yields who owns the lease at path: first as it is, and then every change,
// until ctx ends or the caller leaves the loop. A zero Record says that no instance
// owns it, and stands between any two owners. Nothing is yielded twice in a row;
// who takes long to come back gets the newest, and may miss owners in between.
//
// An error says that the lease cannot be read. It is yielded once, and the
// watching goes on: what comes next is what can be read again, or another error.
func Watch(ctx context.Context, path string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		s, err := FileStore(path)
		if err != nil {
			yield(Record{}, &opError{"watch " + path, err})
			return
		}
		WatchStore(ctx, s)(yield)
	}
}

// WatchStore is Watch for the lease that s keeps. It looks when s gives a hint,
// and at least once a second.
func WatchStore(ctx context.Context, s Store) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for rec, err := range changes(ctx, s) {
			if err != nil {
				err = &opError{"watch " + storeName(s), err}
			}
			if !yield(rec, err) {
				return
			}
		}
	}
}

// changes yields what is new to a caller that has seen what it has yielded before.
func changes(ctx context.Context, s Store) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		var last Record // without an epoch where the owner's record was missing
		told, trouble := false, ""
		for view, err := range views(ctx, s) {
			next := standIn(view.Holder)
			switch {
			case err != nil && err.Error() == trouble:
				continue
			case err != nil:
				trouble = err.Error()
				if !yield(Record{}, err) {
					return
				}
				continue
			case told && trouble == "" && next.InstanceID == last.InstanceID && (last.Epoch != 0 || next.Epoch == 0) && maps.Equal(next.Meta, last.Meta):
				continue
			case told && last.InstanceID != "" && next.InstanceID != last.InstanceID:
				next = Record{} // the lease was free in between; the next look tells who does now
			}
			last, told, trouble = next, true, ""
			if !yield(next, nil) {
				return
			}
		}
	}
}

// views looks at a lease whenever it may have changed, until ctx ends.
func views(ctx context.Context, s Store) iter.Seq2[View, error] {
	return func(yield func(View, error) bool) {
		h := hints{store: s, given: make(chan struct{}, 1)}
		defer h.end()
		p := pacing{backoff: minPollGap}
		holder := ""
		for {
			p.looked = s.Now()
			view, err, ok := readAsync(ctx, &h)
			if !ok || !yield(view, err) {
				return
			}
			p.until = view.Until
			if view.Holder.InstanceID != holder {
				holder = view.Holder.InstanceID
				p.hurry()
			} else {
				p.slowDown(time.Second)
			}
			if !h.wait(ctx, &p) {
				return
			}
		}
	}
}

// readAsync looks in a goroutine of its own, so that a disk that hangs does not
// keep the caller beyond ctx's end: ok is false then.
func readAsync(ctx context.Context, h *hints) (view View, err error, ok bool) {
	type look struct {
		view View
		err  error
	}
	looks := make(chan look, 1)
	go func() {
		v, err := h.readLease(ctx)
		looks <- look{v, err}
	}()
	select {
	case l := <-looks:
		return l.view, l.err, ctx.Err() == nil
	case <-ctx.Done():
		return View{}, nil, false
	}
}

// wait returns when the next look is due, false when ctx has ended.
func (h *hints) wait(ctx context.Context, p *pacing) bool {
	given := h.given
	for {
		due := time.NewTimer(min(2*time.Millisecond, p.nextPoll()-h.store.Now()))
		select {
		case <-due.C:
			return true
		case <-given:
			p.hurry()
			given = nil
		case <-ctx.Done():
			due.Stop()
			return false
		}
		due.Stop()
	}
}
