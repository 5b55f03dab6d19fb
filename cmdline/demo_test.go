package cmdline

import (
	"errors"
	"testing"

	"github.com/ownerlease/owner/internal/demo"
)

func TestDemoExit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		code int
	}{
		{nil, 0},
		{&demo.OverlapError{}, 1},
		{errors.New("other"), codeFailed},
		{&exit{code: 130}, 130},
	} {
		e := &exit{}
		if err := demoExit(c.err); err != nil && !errors.As(err, &e) {
			t.Fatal(err)
		}
		if e.code != c.code {
			t.Errorf("%v: exit %d, want %d", c.err, e.code, c.code)
		}
	}
}
