// Package ownergrpc has gRPC calls follow the owner of a lease of package owner: a resolver
// finds the owner, each call names the owner that it is meant for, a server that is not that
// owner refuses it, and the client sends a refused call to the next owner.
//
// A client:
//
//	conn, err := grpc.NewClient(ownergrpc.Target("/run/gpu.lease"),
//		grpc.WithResolvers(ownergrpc.NewResolver()),
//		grpc.WithUnaryInterceptor(ownergrpc.UnaryClientInterceptor(ownergrpc.Retry{})),
//		grpc.WithStreamInterceptor(ownergrpc.StreamClientInterceptor()),
//		grpc.WithTransportCredentials(insecure.NewCredentials()))
//
// The owner's server, which drains before the lease is released:
//
//	err := owner.Run(ctx, cfg, func(ctx context.Context, o *owner.Owner) error {
//		server := grpc.NewServer(
//			grpc.UnaryInterceptor(ownergrpc.UnaryServerInterceptor(o)),
//			grpc.StreamInterceptor(ownergrpc.StreamServerInterceptor(o)))
//		defer context.AfterFunc(o.Context(), server.Stop)()  // at a loss
//		defer context.AfterFunc(ctx, server.GracefulStop)() // at the service's end
//		…                                                   // register, o.Advertise
//		return server.Serve(listener)
//	})
//
// GracefulStop waits for every call in progress, for as long as that takes: a service with
// streams that do not end stops the server after a while.
//
// # The protocol
//
// A call has the metadata owner-instance and owner-epoch: the instance id and the fencing
// token of the owner whose connection it was given. gRPC chooses the connection last, and
// again when it repeats a call by itself, so a balancer adds them there: gRPC's pick_first,
// with the owner's name. It is registered as owner_pick_first, which the resolver's service
// config names.
//
// The server compares them with its own, asks [owner.Owner.IsOwner], and answers what it
// refuses with Unavailable and the trailer owner-begun: no. A call without this metadata, as
// of a client in another language, is served by an owner, whichever it is.
//
// # What a client knows
//
//	it has seen                            it means                 UnaryClientInterceptor
//	no connection, no owner                not begun                waits, sends it when there is one
//	owner-begun: no                        not begun                sends it again
//	refused by HTTP/2: GOAWAY with a       not begun                gRPC itself sends it again
//	lower stream, REFUSED_STREAM
//	an answer, of any code but Unavailable begun, ended             returns it
//	anything else: a broken connection,    outcome unknown          sends it again if its method is
//	Unavailable, owner-begun: yes                                   idempotent, or ErrOutcomeUnknown
//	the end of its context, in progress,   outcome unknown          ErrOutcomeUnknown
//	or its deadline
//
// A call that gRPC has sent again by itself, and that was refused then, cannot be told here
// from one that has begun: its outcome counts as unknown.
//
// # What HTTP/2 cannot tell
//
// After an owner was killed, a client would like to know whether its call had begun. Over
// HTTP/1.1 a server can say "accepted" before it runs the handler, and have that written to
// the connection before it goes on: then no "accepted" means not begun, also after a kill.
// HTTP/2 as Go has it gives no such order. A header is handed to a writer that sends it
// later, so the handler may run, and the process die, before the client is told. In a
// prototype on Linux, whose servers were killed right behind the acknowledgement, the client
// had it in 568 of 600 runs over HTTP/2, and in 600 of 600 over HTTP/1.1. A stream that was
// reset and a connection that broke do not tell whether the handler ran, either. GOAWAY
// tells it of later streams only.
//
// So there is no "accepted" here, and a call that was in progress when its connection broke
// has an unknown outcome, although its handler may not have run. Where owners drain, as
// above, a takeover leaves no such call. After a kill or a crash, a caller of a method that
// is not idempotent gets [ErrOutcomeUnknown], and must find out, or give up. To do better,
// make the method idempotent: with a key of the caller's in the request, by which the server
// recognises a repetition in the same transaction as the effect.
//
// For the same reason give a retryPolicy of gRPC's service config to idempotent methods
// only: it repeats a call whose connection broke before the answer.
//
// # What it does not do
//
// A call in progress at an owner that hangs ends with its own deadline, or when gRPC's
// keepalive finds the connection dead, which takes more than ten seconds by default. Give
// calls a deadline.
//
// A connection that failed is tried again after gRPC's backoff, of a second and more. A new
// owner is dialled at once, so advertise the endpoint when the server listens. Where it
// cannot be so, lower it with grpc.WithConnectParams.
//
// It does not check who listens at the owner's endpoint: processes that share a lease trust
// each other. Nor does it repeat streams.
//
// A server that is paused between the check and the handler's effect acts late: pass the
// epoch along with every effect.
package ownergrpc
