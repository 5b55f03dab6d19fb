package reach

import "net/http"

// An outcome is what an attempt has come to, as far as its end tells.
type outcome int

const (
	// answered: there is a response for the caller.
	answered outcome = iota
	// notBegun: no handler has seen the request, and none will.
	notBegun
	// unknown: a handler may have.
	unknown
	// broken: unknown, and by no fault of a connection: to try again does not help.
	broken
)

// outcome tells what the attempt has come to. That nothing has begun needs proof: the
// owner's own word; or that nothing was sent; or that all that the owner has written
// was read, and is nothing.
func (a *attempt) outcome() outcome {
	if a.err == nil {
		if a.refused() {
			return notBegun
		}
		return answered
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.conn == nil && (a.revoked || a.unsent || isDialError(a.err)):
		return notBegun
	case a.conn == nil:
		return broken // net/http refuses to send it
	case isClosed(a.accepted):
		if a.revoked || a.conn.endedByPeer() {
			return unknown
		}
		return broken
	case a.conn.endedIntact() && a.conn.got.Load() == a.before:
		return notBegun
	case a.conn.endedByPeer() || a.revoked:
		return unknown // half an answer, or it can be on its way
	}
	return broken
}

// refused reports whether the answer is a server's word that no handler has seen the
// request. A 403 is from the server of another lease, which listens at the port where the
// owner did: the secret is not its own. A handler's 403 comes after an acknowledgement.
func (a *attempt) refused() bool {
	if a.resp.Header.Get(headerBegun) != "no" {
		return false
	}
	switch a.resp.StatusCode {
	case http.StatusMisdirectedRequest:
		return true
	case http.StatusForbidden:
		return !isClosed(a.accepted)
	}
	return false
}
