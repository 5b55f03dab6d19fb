// Package owner elects one process on a machine to own a shared resource: a model in GPU
// memory, a SQLite file, a device, a socket. The processes share a lease file; one owns
// it, and the others are followers, which know who the owner is and at which endpoint to
// reach it. There is no daemon, and no privilege is needed.
//
//	o, err := owner.Join(ctx, owner.Config{LeasePath: path, TTL: 10 * time.Second, Endpoint: addr})
//	if err != nil { … }
//	defer o.Release()
//	if !o.IsOwner() {
//		return forwardTo(o.Endpoint())
//	}
//	return serve(o.Context()) // ends when the ownership does
//
// # What it is
//
// Three functions acquire the lease. [Run] calls a function while this process owns,
// never twice at once. [Campaign] waits until this process owns, and returns the [Owner].
// [Join] never waits: the Owner that it returns is the owner or a follower, and with
// [Config.Standby] a follower takes over when it can.
//
// An Owner renews the lease in the background and fences itself: [Owner.IsOwner] asks the
// clock at every call, and [Owner.Lost] closes when the ownership is over. It is an actor
// with an explicit state machine, which [Diagram] draws.
//
// Without joining, [Probe] and [Inspect] read who owns, [Watch] reports every change,
// and [Revoke] takes the lease away.
//
// # Guarantees
//
//   - Exclusion: there are never two valid owners. From the moment at which IsOwner turns
//     false for one, at least [Config.SafetyMargin] passes before it can turn true for
//     another, unless the first has released the lease or its process is dead. Lost closes
//     by then.
//   - Failover: the lease of a dead owner is free at once, as the kernel frees its lock,
//     and a standby owns within milliseconds; without file notifications, within a second.
//     The lease of a hung owner is free when it has expired.
//   - Fencing tokens: [Owner.Epoch] grows with every change of owner.
//   - Isolation: what is not a file of the lease is never written or removed.
//
// # Faults
//
// The guarantees hold while
//
//   - the disk hangs, is full, read-only, or fails;
//   - processes are killed, stopped and resumed, or starved, at any point;
//   - the wall clock is set, and the machine is suspended and resumed;
//   - lease files are removed, any two at once, truncated, or exchanged for older ones;
//   - any number of processes and goroutines contend.
//
// # What it does not do
//
// An owner that is paused between asking IsOwner and acting on the answer acts late: no
// lease can prevent that. Pass the epoch along with every effect, and have the receiver
// refuse a lower one than it has seen; or act only through something that ends with the
// process.
//
// The processes must trust each other: one that may write the lease's folder can break
// the guarantees, most easily by removing all files of a live lease at once. The owner
// notices that in a moment, but another may acquire the lease before.
//
// A lease file is for one machine: network file systems are refused. There is no fairness
// among standbys.
//
// # Clocks and stores
//
// A lease is timed by a clock that all processes of the machine share and that neither
// steps nor counts the time in which the machine sleeps: CLOCK_MONOTONIC on Linux,
// CLOCK_UPTIME_RAW on macOS, unbiased interrupt time on Windows. Where a holder's clock
// cannot be compared, as in another time namespace, a lease has expired when it has been
// seen unchanged for its whole TTL. Wall-clock times are for display only.
//
// [Config.Store] keeps the lease elsewhere than in a file: in etcd, with the module
// etcdstore, for several machines. [Store] says what a store must promise; the guarantees
// hold on every store that keeps that. Package ownertest tests stores, and has one in
// memory for the tests of what is built on this package. Store, [Lease], [Acquisition] and
// [View] are for the authors of stores: a service needs none of them.
package owner
