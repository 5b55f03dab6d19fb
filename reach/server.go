package reach

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/ownerlease/owner"
)

// Server serves HTTP/1.1 while its process owns the lease. One Server can serve one
// ownership after another; its fields must not change while it does.
type Server struct {
	// Handler handles the requests. Their contexts end with the ownership; a handler
	// must return then. A handler that forwards can see a request that has been
	// forwarded by the header Owner-Forwarded.
	Handler http.Handler

	// Prepare, if not nil, is called after the election and before any client is told
	// of it: to load a model, to open a database. It returns the handler, nil for
	// Handler. Its context is that of Serve. Requests wait meanwhile, for as long as
	// their Client holds them.
	Prepare func(context.Context, *owner.Owner) (http.Handler, error)

	// Listen, if not nil, returns a listener and its endpoint for the record:
	// "unix:" and an absolute path, or "tcp:", a host and a port. Anyone who can
	// connect is served. nil listens on a Unix socket that only this user can connect
	// to; where there are none, on the loopback interface, with a secret in the
	// record: a user who can read the lease can connect then.
	Listen func(*owner.Owner) (net.Listener, string, error)

	// Drain is how long requests that have begun may take when the context of Serve
	// ends. What has not ended then is cut off. Default 10 s; negative: not at all.
	Drain time.Duration

	// Idle, if positive, ends Serve when no request has been under way for so long,
	// counted from the advertisement at first.
	// A connection that a handler has hijacked counts until the handler returns.
	Idle time.Duration

	listenDefault func(instance string) (*listening, error) // of tests
}

const (
	defaultDrain = 10 * time.Second
	// headerTimeout bounds how long a connection is kept for half a request.
	headerTimeout = 10 * time.Second
	// A client closes idle connections first, which saves it a try.
	serverIdle, clientIdle = 3 * time.Minute, time.Minute
)

// Serve serves while o owns the lease, and puts its endpoint into the record. It fits
// owner.Run(ctx, cfg, s.Serve), where cfg has no Endpoint: clients would come before
// Prepare has returned.
//
// It returns nil when ctx has ended or nothing has been asked for during Idle: requests
// that had begun have been answered or, after Drain, cut off; what has not begun is
// refused, and the clients send it to the next owner. Release the lease then, as Run
// does. After a loss it cuts everything off at once and returns the *owner.LostError.
// Other errors are those of Prepare, Listen and Advertise.
//
// Serve returns when each handler has: one that does not heed its context keeps the
// lease from the next owner.
func (s *Server) Serve(ctx context.Context, o *owner.Owner) error {
	h, err := s.prepare(ctx, o)
	if ctx.Err() != nil { // before any client was told: nothing has begun
		return o.LostErr()
	}
	if err != nil {
		return err
	}
	ln, err := s.listen(o)
	if err != nil {
		return err
	}
	ses := newSession(ctx, o, h, ln.token)
	defer ses.cut(nil)
	srv, failed, stop := ses.listenAndServe(ln)
	defer stop()
	// Where ctx ends meanwhile, clients may know the endpoint already: what has begun ends
	// in order.
	if err := o.Advertise(ctx, ln.endpoint, metaOf(o, ln.token)); err != nil && ctx.Err() == nil {
		ses.close()
		ses.finish(srv, err)
		return fmt.Errorf("reach: advertise the endpoint: %w", err)
	}
	if ln.tidy != nil {
		go ln.tidy() // not waited for: a folder that hangs must not keep the end of the ownership from being noticed
	}
	if err := s.await(ctx, ses, failed); err != nil {
		ses.close()
		ses.finish(srv, err)
		return err
	}
	ses.close()
	_ = ln.Close()
	srv.SetKeepAlivesEnabled(false) // idle connections are closed, others after their response
	return s.drain(ses, srv)
}

func (s *Server) drainTime() time.Duration { return cmp.Or(s.Drain, defaultDrain) }

func (s *Server) prepare(ctx context.Context, o *owner.Owner) (http.Handler, error) {
	h := s.Handler
	if s.Prepare != nil {
		prepared, err := s.Prepare(ctx, o)
		if err != nil {
			return nil, err
		}
		if prepared != nil {
			h = prepared
		}
	}
	if h == nil {
		return nil, errors.New("reach: the Server has no Handler")
	}
	return h, cmp.Or(context.Cause(ctx), o.Check())
}

// metaOf is the metadata that Join has advertised, with the secret.
func metaOf(o *owner.Owner, token string) map[string]string {
	meta := maps.Clone(o.Holder().Meta)
	delete(meta, owner.EndpointMetaKey)
	if token != "" {
		if meta == nil {
			meta = map[string]string{}
		}
		meta[metaToken] = token
	}
	return meta
}

// listenAndServe begins to serve. failed gets the error that has ended it; stop returns
// when nothing is left of it.
func (s *session) listenAndServe(ln net.Listener) (srv *http.Server, failed chan error, stop func()) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // over HTTP/2, the acknowledgement is not written when the handler begins
	srv = &http.Server{
		Handler:   s,
		Protocols: protocols,
		// "OPTIONS *" is for the Handler, and only after the checks.
		DisableGeneralOptionsHandler: true,

		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       serverIdle,
		ConnState:         stateChanged,
		ConnContext:       withConn,
		BaseContext:       func(net.Listener) context.Context { return s.work },
	}
	failed = make(chan error, 2)
	var wg sync.WaitGroup
	for _, ln := range []net.Listener{ln, s.pipes} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			failed <- srv.Serve(sessionListener{ln, s})
		}()
	}
	sessions.Store(s.to.instance, s)
	return srv, failed, func() {
		sessions.Delete(s.to.instance)
		_ = srv.Close()
		_ = ln.Close()
		wg.Wait()
	}
}

// await returns nil when it is time to step down, otherwise why serving has ended.
func (s *Server) await(ctx context.Context, ses *session, failed <-chan error) error {
	var idle <-chan time.Time
	timer := time.NewTimer(s.Idle)
	defer timer.Stop()
	if s.Idle > 0 {
		idle = timer.C
	}
	for {
		select {
		case <-ses.o.Lost():
			return ses.o.LostErr()
		case <-ctx.Done():
			if ses.o.LostErr() != nil {
				return ses.o.LostErr()
			}
			return nil
		case err := <-failed:
			return fmt.Errorf("reach: serve: %w", err)
		case <-idle:
			closed, again := ses.closeIfIdle(s.Idle)
			if closed {
				return nil
			}
			timer.Reset(again)
		}
	}
}

// drain waits for what has begun.
func (s *Server) drain(ses *session, srv *http.Server) error {
	limit := time.NewTimer(s.drainTime())
	defer limit.Stop()
	select {
	case <-ses.quiet:
	case <-limit.C:
	case <-ses.o.Lost():
	}
	ses.finish(srv, owner.ErrReleased)
	return ses.o.LostErr()
}

// finish cuts off what is left, and waits for the handlers. The connections come first:
// what a handler writes as its context has ended must not look like an answer.
func (s *session) finish(srv *http.Server, cause error) {
	s.disconnect()
	_ = srv.Close()
	s.cut(cause)
	<-s.quiet
}
