package owner

// Role says whether an instance owns the lease at this instant.
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

// State is an instance's state in the state machine. docs/state-diagram.md shows the
// machine, and says what a caller may do in each state.
type State string

// The states. Lost and Released are final: an Owner never comes back from them.
const (
	StateFollower  State = "follower"
	StateAcquiring State = "acquiring"
	StateEvicting  State = "evicting"
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
		"Another instance owns the lease, or this one could not be made its owner. A standby polls the lease, at once when a hint comes, and tries to acquire it when it is free.",
		"Must not touch the resource. May read who owns it (`Holder`, `Endpoint`, `Epoch`) and send its work there; may join again at any time, or be a standby and wait for `Elected`."},
	{StateAcquiring,
		"An attempt to acquire the lease is under way. It ends by itself: won, refused, failed, or given up.",
		"Must not touch the resource."},
	{StateEvicting,
		"The lease has expired, its owner's process still exists, and `Config.Evict` was called to end it. This instance does not take the lease before that process has gone.",
		"Must not touch the resource: the hung owner still has it."},
	{StateOwner,
		"This instance owns the lease and no renewal is under way.",
		"May use the resource while `IsOwner` says true, which also asks the clock; should pass `Epoch` along with every effect. Must stop when `Lost` closes or `Context` ends."},
	{StateRenewing,
		"This instance owns the lease and a renewal is under way. However long the disk takes, the fence deadline does not move.",
		"The same as in owner: a caller need not distinguish the two."},
	{StateLost,
		"The ownership has ended against this instance's will: it expired, was taken over, or was revoked. Final.",
		"Must have stopped using the resource; `Release` says so, and a successor can own the lease before it has expired. May read why (`LostErr`); may join again, as a new instance."},
	{StateReleased,
		"The caller has released the lease, or stopped the standby. Final.",
		"Must not touch the resource: a successor may own it already. May join again, as a new instance."},
}
