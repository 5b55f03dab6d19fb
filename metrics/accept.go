package metrics

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// negotiate returns the format that the client prefers, OpenMetrics where it does not
// matter. A client that accepts neither gets OpenMetrics, too: the text can still help.
func negotiate(h http.Header) *format {
	accept := strings.Join(h.Values("Accept"), ",")
	if quality(accept, "text", "plain") > quality(accept, "application", "openmetrics-text") {
		return &plainText
	}
	return &openMetrics
}

// quality returns how much the client wants a media type, from 0 to 1, by the most
// specific of the ranges that match it (RFC 9110, section 12.5.1). Parameters other than q
// are ignored: there is one version of each format to offer.
func quality(accept, typ, subtype string) float64 {
	best, specific := 0.0, -1
	for part := range strings.SplitSeq(accept, ",") {
		media, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		rank := -1
		switch media {
		case typ + "/" + subtype:
			rank = 2
		case typ + "/*":
			rank = 1
		case "*/*":
			rank = 0
		}
		switch q := weight(params); {
		case rank < 0 || rank < specific:
		case rank > specific:
			best, specific = q, rank
		default:
			best = max(best, q) // another version of the same type
		}
	}
	return best
}

// weight is the parameter q, 1 if there is none. A malformed one does not count.
func weight(params map[string]string) float64 {
	s, ok := params["q"]
	if !ok {
		return 1
	}
	q, err := strconv.ParseFloat(s, 64)
	if err != nil || !(q >= 0 && q <= 1) {
		return 0
	}
	return q
}
