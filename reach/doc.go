// Package reach carries HTTP requests to the process that owns a lease, so that a kill,
// a handover or a hang of the owner is not seen by its clients.
//
//	err := owner.Run(ctx, cfg, (&reach.Server{Handler: h}).Serve) // the owner's side
//	c := &http.Client{Transport: &reach.Client{LeasePath: path}}  // the others'
//
// A [Server] serves while its process owns the lease, at an endpoint that it puts into
// the lease's record. A [Client] is an http.RoundTripper to the owner, whichever process
// that is; [Forward] makes a handler of it. A [Node] is all of this in one: each copy of
// a program serves its own port, and the one that owns handles the requests of all. With
// [Client.Start], a request that finds no owner has one started; [Server.Idle] ends it
// when it is not needed.
//
// # What a call promises
//
// Each request of a Client names the instance that it is meant for. The server compares
// that with its own, asks [owner.Owner.IsOwner], and writes an acknowledgement, the
// informational response 103 with the header Owner-Accepted, before the handler runs. If
// that cannot be written, the handler does not run. So the client knows, even after a
// kill -9, which requests have begun:
//
//   - Never begun: the connection was refused, the answer was "not begun" (status 421
//     with the header Owner-Begun: no), or the stream ended without an acknowledgement.
//     The request is sent to the next owner, whatever its method.
//   - Begun, without an answer: it is sent again if its method is safe (GET, HEAD,
//     OPTIONS, TRACE) or if it has an Idempotency-Key. Otherwise the error is
//     [ErrOutcomeUnknown].
//   - The owner hangs: when the lease has another holder, or none, or when the
//     request's context ends, the client revokes what has not been acknowledged. On a
//     Unix socket of Linux, an acknowledgement then fails, and the request counts as
//     never begun. Elsewhere it counts as begun.
//
// # What it does not promise
//
// A handler that is paused after the check of its ownership acts late: pass the epoch
// along with what it does. A request with an Idempotency-Key can run twice, and it is
// the handler's to make that harmless. A machine that loses its power loses
// acknowledgements, too, where an owner on another machine is reached by TCP. On Windows,
// a connection that is reset can lose what has arrived: at a handover or a kill, more
// requests have an unknown outcome there. Programs that do not use this package are served
// as plain HTTP.
//
// # Who can connect
//
// On Unix, the owner listens on a socket in a folder that only its user can enter, and
// both sides check the other's user. Where there are no Unix sockets, as on Windows, it
// listens on the loopback interface, and each request must have a secret from the
// lease's record. [Server.Listen] replaces both: who can connect then, it decides.
package reach
