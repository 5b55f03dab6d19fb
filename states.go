package owner

// Role is what an instance is to the lease at this instant.
type Role int

const (
	// RoleFollower: another instance owns the lease, or none does.
	RoleFollower Role = iota
	// RoleOwner: this instance owns the lease.
	RoleOwner
)

// String returns "follower" or "owner".
func (r Role) String() string {
	if r == RoleOwner {
		return "owner"
	}
	return "follower"
}

// State is where an instance stands in the state machine. docs/state-diagram.md
// shows the machine, and says what a caller may do in each state.
type State string

// The states. Lost and Released are final: an Owner never comes back from them.
const (
	StateFollower  State = "follower"
	StateAcquiring State = "acquiring"
	StateOwner     State = "owner"
	StateRenewing  State = "renewing"
	StateLost      State = "lost"
	StateReleased  State = "released"
)

// stateDocs says in plain language what each state means and what a caller may
// do in it. It is the source of that page of docs/state-diagram.md.
var stateDocs = []struct {
	state   State
	means   string
	allowed string
}{
	{StateFollower,
		"Another instance owns the lease, or this one could not be made its owner. A follower that stands by looks at the lease again at every hint, and tries to take it when it is free.",
		"Must not touch the resource. May read who owns it (`Holder`, `Endpoint`, `Epoch`) and send its work there; may join again at any time, or stand by and wait for `Elected`."},
	{StateAcquiring,
		"An attempt to take the lease is under way. It ends by itself: won, refused, failed, or given up.",
		"Must not touch the resource."},
	{StateOwner,
		"This instance owns the lease and no renewal is under way.",
		"May use the resource while `IsOwner` says true, which also asks the clock; should pass `Epoch` along with every effect. Must stop when `Lost` closes or `Context` ends."},
	{StateRenewing,
		"This instance owns the lease and a renewal is under way. However long the disk takes, the fence deadline stands.",
		"The same as in owner: a caller need not tell the two apart."},
	{StateLost,
		"The ownership has ended against this instance's will: it expired, was taken over, or was revoked. Final.",
		"Must have stopped using the resource; `Release` says so, and lets a successor in before the lease has run out. May read why (`LostErr`); may join again, as a new instance."},
	{StateReleased,
		"The ownership, or the standing by, was given up on purpose. Final.",
		"Must not touch the resource: a successor may own it already. May join again, as a new instance."},
}
