package main

import (
	"context"
	"fmt"
	"time"
)

// The peers, as the tables call them.
const (
	peerOwner    = "owner"
	peerEtcd     = "etcd"
	peerClientGo = "client-go"
	peerLock     = "flock `Lock`"
	peerTryLock  = "flock `TryLockContext`"
)

var peers = []string{peerOwner, peerEtcd, peerClientGo, peerLock, peerTryLock}

// A spec configures a child.
type spec struct {
	Peer string
	Name string // of the lease: a path for peers that use files
	Addr string // of the server, for peers that use one

	Register bool // owner: a Store in the register, which can hang, instead of the file
	Deaf     bool // of a user of the register: it ignores contexts
	Release  bool // client-go: ReleaseOnCancel
	Keep     bool // etcd: a release keeps the session
	Renewals bool // renew as often as is needed to measure renewals
	Observed bool // ask every view all the time
}

// variant distinguishes one peer's views in the same job.
func (s spec) variant() string {
	switch {
	case s.Deaf:
		return variantDeaf
	case s.Release:
		return variantRelease
	}
	return ""
}

const (
	variantDeaf    = " (a store that ignores contexts)"
	variantRelease = " (with ReleaseOnCancel)"
)

// A contender is a peer's way to own a lease, in its own process.
type contender interface {
	// campaign returns when this process owns.
	campaign(ctx context.Context) error
	// release releases the lease; campaign may be called again.
	release(ctx context.Context) error
	// views are the API's ways to ask whether this process owns.
	views() []view
}

// What only some of them can do.
type (
	renewer interface {
		// renew measures n renewals.
		renew(ctx context.Context, n int) ([]time.Duration, error)
	}
	hanger interface {
		// hang makes the store hang for this process, or ends that.
		hang(on bool)
	}
	renewed interface {
		// renewedAt is when the last renewal that succeeded was begun.
		renewedAt() time.Duration
	}
	keyed interface {
		// key is under which the lease is stored.
		key() string
	}
)

// A view is one thing that can be asked.
type view struct {
	name string
	owns func() bool
}

// The views, as the tables call them.
const (
	viewIsOwner  = "owner `IsOwner`"
	viewLost     = "owner `Lost`"
	viewSession  = "etcd `Session.Done`"
	viewObserve  = "etcd `Session.Done` and `Observe`"
	viewContext  = "client-go `OnStartedLeading`'s context"
	viewIsLeader = "client-go that context and `IsLeader`"
	viewLocked   = "flock `Locked`"
)

var views = []string{viewIsOwner, viewLost, viewSession, viewObserve, viewContext, viewIsLeader, viewLocked}

// open makes the contender of a spec.
func open(s spec) (contender, error) {
	switch s.Peer {
	case peerOwner:
		return openOwner(s)
	case peerEtcd:
		return openEtcd(s)
	case peerClientGo:
		return openClientGo(s)
	case peerLock, peerTryLock:
		return openFlock(s), nil
	}
	return nil, fmt.Errorf("no peer is called %q", s.Peer)
}
