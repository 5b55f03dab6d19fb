package owner

import (
	"context"
	"errors"
	"fmt"
	"maps"
)

// Advertise replaces the endpoint and the metadata that this owner has in the lease's
// record: when it has begun to listen, has loaded, or has moved. It returns when the record
// has them. [Watch] and standbys show them within milliseconds, a few of many standbys
// within 50, and where there are no hints at their next poll. Other followers keep what
// they had when they joined. Renewals keep them, and the next owner
// begins with its own. Of concurrent calls, the last one counts.
//
// meta may be nil. Together with the endpoint it is limited as [Config.Meta] is.
//
// Errors match [ErrInvalidConfig]; what [Owner.Check] says of an instance that does not
// own; the cause of ctx's end, or of the end of Join's context, after which nothing is
// written any more; or are the store's. The ownership lasts all the same, and others may
// see the old facts or the new ones.
func (o *Owner) Advertise(ctx context.Context, endpoint string, meta map[string]string) error {
	facts, err := resolveMeta(endpoint, meta)
	if err != nil {
		return fmt.Errorf("owner: advertise: %w: %w", ErrInvalidConfig, err)
	}
	if err := o.a.advertise(ctx, facts); err != nil {
		return fmt.Errorf("owner: advertise %q: %w", endpoint, err)
	}
	return nil
}

// advertise has the actor write the record, and waits for the outcome.
func (a *actor) advertise(ctx context.Context, meta map[string]string) error {
	ad := &advertisement{meta, make(chan error, 1)}
	select {
	case a.mailbox <- input{kind: inputAdvertise, ad: ad}:
	case <-a.done:
		return a.whyNotAdvertised()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-ad.outcome:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// whyNotAdvertised says why the actor does not write the record.
func (a *actor) whyNotAdvertised() error {
	if err := a.check(); err != nil {
		return err
	}
	return fmt.Errorf("the context of Join has ended, and the record is not written any more: %w", context.Cause(a.parent))
}

// settleAdvertisement tells the caller what has come of it, and readers what the record
// has now.
func (a *actor) settleAdvertisement(in *input) {
	switch ad := in.res.op.ad; {
	case in.kind == inputAdvertise && !a.core.owns():
		in.ad.outcome <- a.whyNotAdvertised()
	case ad == nil:
	default:
		if in.res.err == nil {
			a.advertised(ad.meta)
		}
		ad.outcome <- in.res.err
	}
}

// advertised publishes the record with other facts. A reader may find at this moment that
// the fence has passed, which must not be undone.
func (a *actor) advertised(meta map[string]string) {
	holder := *a.holder
	holder.Meta = meta
	a.holder = &holder
	for {
		published := a.snap.Load()
		next := *published
		next.holder = a.holder
		if a.snap.CompareAndSwap(published, &next) {
			a.published.send()
			return
		}
	}
}

// writeAdvertisement makes the call of the store. It ends early enough for the renewals behind it.
func (a *actor) writeAdvertisement(meta map[string]string) error {
	ctx, cancel := context.WithTimeoutCause(a.ctx, a.ttl/4, errors.New("the store has not answered within a quarter of the TTL"))
	defer cancel()
	return a.lease.Advertise(ctx, maps.Clone(meta))
}
