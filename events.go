package owner

import "time"

// An event moves the state machine.
type event string

const (
	evAcquire   event = "acquire"
	evAcquired  event = "acquired"
	evRefused   event = "refused"
	evFailed    event = "failed"
	evTooLate   event = "too_late"
	evGiveUp    event = "give_up"
	evRenew     event = "renew"
	evRenewed   event = "renewed"
	evRetry     event = "retry"
	evStop      event = "stop"
	evExpire    event = "expire"
	evTakenOver event = "taken_over"
	evRevoked   event = "revoked"
	evRelease   event = "release"
	evUnhealthy event = "unhealthy"
	evHung      event = "hung"
	evEvicted   event = "evicted"
)

// An input is one message in the actor's mailbox. Time is an input like any
// other: the actor reads the store's clock once for each, and the decision sees
// no other clock.
type input struct {
	kind inputKind
	at   time.Duration // the store's clock when the actor took the input up
	res  result        // of inputResult
	ad   *advertisement
	sick error // of inputHealth: what Config.Healthy has returned
}

type inputKind int

const (
	inputJoin      inputKind = iota // the caller wants the lease
	inputStandBy                    // Join has returned a follower that is a standby
	inputTick                       // the timer fired, early or late: the clock decides what is due
	inputResult                     // an operation has ended
	inputHint                       // something may have happened to the lease
	inputRelease                    // the caller releases the lease, or stops waiting for it
	inputEnd                        // Join's context has ended
	inputHealth                     // Config.Healthy has returned
	inputAdvertise                  // the caller advertises another endpoint
	inputHandover                   // a read has shown that this owner is asked to step down
)

// An op is a call of the store, made by a worker outside the actor.
type op struct {
	kind opKind
	id   uint64        // distinguishes its result from those of abandoned operations
	at   time.Duration // the store's clock when it was issued, before the call

	yields bool // an opAcquire that leaves the lease to another instance that is acquiring
	ad     *advertisement
	hung   *Status // of an opEvict, and of the opAcquire that follows it: the owner that hangs
}

// An advertisement is what Advertise wants in the record, and where it waits for the
// outcome.
type advertisement struct {
	meta    map[string]string
	outcome chan error // has room for it
}

type opKind int

const (
	opNone opKind = iota
	opAcquire
	opLook
	opRenew
	opRelease
	opAdvertise
	opAsked // reads whether this owner is asked to step down
	opEvict
)

// A result is how an op ended.
type result struct {
	op   op
	acq  *Acquisition // of an opAcquire without an error
	hung *Status      // of an opAcquire without an error: the owner that hangs, to be evicted
	view *View        // of an opLook without an error
	err  error

	behind bool // of an opLook: another instance is first in line
	far    bool // of an opLook: others follow that one in line
	hinted bool // of an opLook or an opRenew: no hint is known to be missing
	turn   turn // of an opLook: who is to own next
	asked  bool // of an opAsked: this owner is asked to step down
}

// left reports whether this instance yielded to another that was acquiring the lease.
func (r *result) left() bool { return r.acq != nil && r.acq.Holder.InstanceID == "" }

// won reports whether an acquisition has made this instance the owner.
func (r *result) won() bool { return r.acq != nil && r.acq.Lease != nil }

// String returns the input's name, as in docs/state-diagram.md.
func (k inputKind) String() string {
	return [...]string{"join", "standby", "tick", "result", "hint", "release", "end of context", "health", "advertise", "handover"}[k]
}
