package reach

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
)

// Forward returns a handler that has the owner handle each request, by c: with its
// stream, its trailers and an upgrade of its protocol. Where a Server of this process
// serves the lease and c may not dial it, see [Client], the request is handled in process.
//
// A request that was forwarded to here is answered with 421 where this process is not
// the owner: two forwarders cannot send it to each other for ever. Where no owner has
// accepted the request, the answer is 503 with Retry-After and Owner-Begun: no; where its
// outcome is unknown, 502 with Owner-Outcome: unknown. The handler of the owner sees the
// client in X-Forwarded-For; what a client has sent under that name stays before it.
func Forward(c *Client) http.Handler {
	return &forwarder{c, &httputil.ReverseProxy{
		Transport:     c,
		Rewrite:       rewrite,
		FlushInterval: -1, // at once
		ErrorHandler:  answerError,
		ErrorLog:      log.New(io.Discard, "", 0), // each error is answered
	}}
}

type forwarder struct {
	c     *Client
	proxy *httputil.ReverseProxy
}

func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	watch, err := f.c.follower()
	if err != nil {
		answerError(w, r, err)
		return
	}
	if _, err := idempotencyKey(r.Header); err != nil { // whichever copy owns, and is asked
		answerError(w, r, err)
		return
	}
	if now := watch.state().now; now != nil {
		if s := now.session(); s != nil && s.serve(w, r, f.c.Local) {
			f.c.counts.count(nil, 0)
			return
		}
	}
	if len(r.Header[headerForwarded]) > 0 {
		refuse(w, http.StatusMisdirectedRequest)
		return
	}
	// Otherwise net/http keeps the answer back until it has read the request's body.
	_ = http.NewResponseController(w).EnableFullDuplex()
	f.proxy.ServeHTTP(w, r)
}

// rewrite makes the request to the owner. ReverseProxy has removed the headers that are
// for one connection only.
func rewrite(p *httputil.ProxyRequest) {
	p.Out.URL = &url.URL{Scheme: "http", Host: "owner", Path: p.In.URL.Path, RawPath: p.In.URL.RawPath, RawQuery: p.In.URL.RawQuery, ForceQuery: p.In.URL.ForceQuery}
	p.Out.Host = p.In.Host
	p.Out.Trailer = p.In.Trailer // which is filled in when the body has ended
	p.Out.Header["X-Forwarded-For"] = p.In.Header["X-Forwarded-For"]
	p.SetXForwarded()
	p.Out.Header.Set(headerForwarded, "1")
}

// answerError answers a request that has not been answered by an owner. The error's own
// words, with paths and ids in them, are not for the clients of a service.
func answerError(w http.ResponseWriter, _ *http.Request, err error) {
	status, text := http.StatusBadGateway, "reach: the owner's answer was broken, or it cannot be asked"
	switch {
	case errors.Is(err, ErrOutcomeUnknown):
		w.Header().Set(headerOutcome, "unknown")
		text = "reach: the request may have taken effect, and no answer has come"
	case errors.Is(err, ErrNoOwner):
		status, text = http.StatusServiceUnavailable, "reach: no owner has accepted the request in time: it has not begun"
		w.Header().Set("Retry-After", "1")
		w.Header().Set(headerBegun, "no")
	case errors.Is(err, errKey):
		status, text = http.StatusBadRequest, err.Error()
		w.Header().Set(headerBegun, "no")
	}
	http.Error(w, text, status)
}
