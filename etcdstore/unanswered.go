package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/status"
)

// An unanswered request is what its routes have said instead.
type unanswered struct {
	within time.Duration
	said   []said
}

// said is what was said on one route.
type said struct {
	endpoint string // "" for the client's own route
	reason   string // "" for nothing
	err      error
}

func (u *unanswered) add(endpoint string, err error) {
	u.said = append(u.said, said{endpoint, reasonOf(err), err})
}

// An unansweredError says why there was no answer, as far as that is known.
type unansweredError struct {
	reasons string // "" where none is known
	within  time.Duration
	errs    []error
}

func (e *unansweredError) Error() string {
	if e.reasons == "" {
		return fmt.Sprintf("%v within %v", errSilent, round(e.within))
	}
	return e.reasons
}

func (e *unansweredError) Unwrap() []error { return e.errs }

// err says each reason once. What was said by one endpoint counts more than what the
// client's own route has said last of any of them.
func (u *unanswered) err() error {
	e := &unansweredError{within: u.within}
	for _, s := range u.said {
		e.errs = append(e.errs, s.err)
	}
	single := slices.DeleteFunc(slices.Clone(u.said), func(s said) bool { return s.endpoint == "" || s.reason == "" })
	if len(single) == 0 {
		single = slices.DeleteFunc(slices.Clone(u.said), func(s said) bool { return s.reason == "" })
	}
	slices.SortFunc(single, func(a, b said) int { return strings.Compare(a.endpoint, b.endpoint) })
	single = slices.CompactFunc(single, func(a, b said) bool { return a.endpoint == b.endpoint })
	var reasons []string
	for _, s := range single {
		if !slices.Contains(reasons, s.reason) {
			reasons = append(reasons, s.reason)
		}
	}
	if len(reasons) > 1 {
		for i := range reasons {
			j := slices.IndexFunc(single, func(s said) bool { return s.reason == reasons[i] })
			reasons[i] = single[j].endpoint + ": " + reasons[i]
		}
	}
	if e.reasons = strings.Join(reasons, "; "); e.reasons == "" {
		e.errs = append(e.errs, errSilent)
	}
	return e
}

// errSilent is the reason where none is known.
var errSilent = errors.New("no answer")

// round makes a duration readable.
func round(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(10 * time.Millisecond)
}

// reasonOf returns what an error of gRPC says about a connection or of etcd, "" where it
// says only that the time is up.
func reasonOf(err error) string {
	text := err.Error()
	if s, ok := status.FromError(err); ok {
		text = s.Message()
	}
	if _, of, ok := strings.Cut(text, "latest balancer error: "); ok {
		text = of
	} else if errors.Is(err, errSilent) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		strings.HasPrefix(text, "context deadline exceeded") || strings.HasPrefix(text, "context canceled") {
		return ""
	}
	text = plainly(text)
	for _, c := range causes {
		if strings.Contains(text, c.says) {
			return text + " (" + c.means + ")"
		}
	}
	return text
}

// causes are what is likely behind errors that do not say so.
var causes = []struct{ says, means string }{
	{"unknown authority", "the client has to trust the authority that has signed etcd's certificate"},
	{"certificate required", "etcd expects a certificate of the client"},
	{"handshake failed: EOF", "etcd may not use TLS at this endpoint"},
	{"does not look like a TLS handshake", "etcd may not use TLS at this endpoint"},
	{"server preface", "etcd may expect TLS at this endpoint, or a certificate of the client"},
	{"broken pipe", "etcd may expect TLS at this endpoint, or a certificate of the client"},
}

// plainly removes what gRPC puts around an error of a connection, and its local port, which is
// another one each time: the error would always be a new one.
func plainly(text string) string {
	if _, quoted, ok := strings.Cut(text, "connection error: desc = "); ok {
		if desc, err := strconv.Unquote(quoted); err == nil {
			text = desc
		}
	}
	text = strings.TrimPrefix(text, "transport: ")
	text = strings.TrimPrefix(text, "Error while dialing: ")
	return localPort.ReplaceAllString(text, "$1 tcp ")
}

var localPort = regexp.MustCompile(`(read|write) tcp \S+->`)
