package ownertest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ownerlease/owner"
)

// Each broken promise is noticed by its test, run on the broken store in a separate
// process.
func TestBrokenStores(t *testing.T) {
	if name, ok := os.LookupEnv(brokenEnv); ok {
		runBroken(t, name)
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	free := make(chan struct{}, 8) // most of them only wait
	for _, tc := range cases {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			t.Run(tc.name, func(t *testing.T) { noticed(t, tc.name, tc.test, tc.says) })
		})
	}
}

// Each of the suite's tests can fail.
func TestEveryTestNoticesSomething(t *testing.T) {
	notices := map[string]bool{}
	for _, tc := range cases {
		notices[tc.test] = true
	}
	for _, tests := range []map[string]func(*check){alone, together} {
		for name := range tests {
			if !notices[name] {
				t.Errorf("%s notices none of the broken stores", name)
			}
		}
	}
}

// noticed tries three times, as a slow machine can let the moment pass.
func noticed(t *testing.T, store, test, says string) {
	for range 2 {
		if noticedOnce(t, store, test, says) == "" {
			return
		}
	}
	if missed := noticedOnce(t, store, test, says); missed != "" {
		t.Error(missed)
	}
}

// noticedOnce returns what is wrong with the suite's report on a store.
func noticedOnce(t *testing.T, store, test, says string) string {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBrokenStores$/^"+test+"$", "-test.v")
	cmd.Env = append(os.Environ(), brokenEnv+"="+store)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case !errors.As(err, &exit):
		return fmt.Sprintf("%s has not noticed: %v\n%s", test, err, out)
	case !strings.Contains(string(out), "--- FAIL: TestBrokenStores/"+test) || !strings.Contains(string(out), says):
		return fmt.Sprintf("it does not say %q:\n%s", says, out)
	}
	return ""
}

func runBroken(t *testing.T, name string) {
	for _, tc := range cases {
		if tc.name != name {
			continue
		}
		opts := []Option{Peer(brokenPeer), LostAnswers(loseBroken)}
		probe := &broken{Memory: NewMemory()}
		if tc.breaks(probe); probe.silent {
			opts = append(opts, NoHints())
		}
		switch tc.test {
		case "History": // which waits for more than what hangs
		case "HungOwner": // the moment is a quarter of it
			opts = append(opts, TTL(time.Second))
		default:
			opts = append(opts, func(s *suite) { s.patience = 2 * time.Second })
		}
		TestStore(t, func(*testing.T) owner.Store {
			s := &broken{Memory: NewMemory()}
			tc.breaks(s)
			return s
		}, opts...)
		return
	}
	t.Fatalf("no such store: %s", name)
}
