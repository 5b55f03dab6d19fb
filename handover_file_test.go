package owner

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/ownerlease/owner/internal/leasename"
)

// Requests to step down on real files, with real hints. The leases' TTL is longer than any
// test runs, so what comes at all comes by a hint.

func ask(t *testing.T, path, successor string) error {
	return RequestHandover(t.Context(), Config{LeasePath: path}, successor)
}

func TestFileHandover(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	p := leasePath(t)
	o := joinFile(t, p, watched)
	var standbys []*Owner
	for range 3 {
		standbys = append(standbys, joinFile(t, p, watched, standby))
	}
	for n := range 2 {
		named := standbys[2-n]
		must(t, ask(t, p, named.StandbyID()))
		<-o.HandoverRequested()
		if !o.IsOwner() {
			t.Fatal(o.Check())
		}
		must(t, o.Release())
		<-named.Elected()
		for _, s := range standbys {
			if s != named && s.IsOwner() {
				t.Error("two own")
			}
		}
		if _, err := os.Stat(leasename.Handover(p)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the request is left: %v", err)
		}
		if closed(named.HandoverRequested()) {
			t.Error("the successor is asked by the request that was for another")
		}
		o = named
	}
	for _, s := range standbys {
		release(s)
	}
	if err := ask(t, p, ""); !errors.Is(err, ErrNoHolder) {
		t.Error(err)
	}
}

// The first named successor stays named; what can be joined to that is.
func TestFileHandoverTwice(t *testing.T) {
	p := leasePath(t)
	o := joinFile(t, p, watched)
	a, b := uuid.NewString(), uuid.NewString()
	s, err := newFileStore(p)
	must(t, err)
	for _, tc := range []struct {
		successor, named string
		want             error
	}{{"", "", nil}, {"", "", nil}, {a, a, nil}, {"", a, nil}, {a, a, nil}, {b, a, ErrHandover}} {
		if err := ask(t, p, tc.successor); !errors.Is(err, tc.want) || tc.want != nil && !strings.Contains(err.Error(), a) {
			t.Errorf("%q: %v", tc.successor, err)
		}
		view, err := s.Look(t.Context())
		if err != nil || !view.HandoverRequested || view.Successor != tc.named || view.Holder.InstanceID != o.InstanceID() {
			t.Errorf("%q: %+v, %v", tc.successor, view, err)
		}
	}
	if !o.IsOwner() {
		t.Error(o.Check())
	}
}

// Of many at once, one is named, and all others are told which.
func TestFileHandoverRace(t *testing.T) {
	p := leasePath(t)
	o := joinFile(t, p, watched)
	const many = 20
	ids, errs := make([]string, many), make([]error, many)
	var wg sync.WaitGroup
	for i := range many {
		ids[i] = uuid.NewString()
		wg.Go(func() { errs[i] = ask(t, p, ids[i]) })
	}
	wg.Wait()
	s, err := newFileStore(p)
	must(t, err)
	view, err := s.Look(t.Context())
	must(t, err)
	for i := range many {
		if won := view.Successor == ids[i]; won != (errs[i] == nil) || !won && (!errors.Is(errs[i], ErrHandover) || !strings.Contains(errs[i].Error(), view.Successor)) {
			t.Errorf("%s is named, and %s got: %v", view.Successor, ids[i], errs[i])
		}
	}
	<-o.HandoverRequested()
	if !o.IsOwner() {
		t.Error(o.Check())
	}
}

// What is in the request's place and is none asks no owner. What is not the lease's is left
// as it is, and the request is refused.
func TestFileHandoverForeign(t *testing.T) {
	text := func(s string) func(t *testing.T, path, holder string) {
		return func(t *testing.T, path, holder string) {
			must(t, os.WriteFile(path, []byte(strings.ReplaceAll(s, "HOLDER", holder)), 0o600))
		}
	}
	for name, tc := range map[string]struct {
		put  func(t *testing.T, path, holder string)
		want error // of a request then
	}{
		"another program's":   {text("pid 17\n"), ErrInvalidConfig},
		"empty":               {text(""), ErrInvalidConfig},
		"zeros":               {text("\x00\x00\x00"), ErrInvalidConfig},
		"a part of the mark":  {text(handoverMark[:10]), ErrInvalidConfig},
		"of a later version":  {text("owner-lease/2 handover\n" + `{"holder":"HOLDER"}`), ErrInvalidConfig},
		"no JSON":             {text(handoverMark + "HOLDER"), nil},
		"cut":                 {text(handoverMark + `{"holder":"HOLDER"`), nil},
		"too long":            {text(handoverMark + `{"holder":"HOLDER"` + strings.Repeat(" ", maxHandover) + "}"), nil},
		"endless":             {text(handoverMark + strings.Repeat(" ", 1<<20)), nil},
		"without a holder":    {text(handoverMark + `{}`), nil},
		"to another":          {text(handoverMark + `{"holder":"` + uuid.NewString() + `"}`), nil},
		"with a bad holder":   {text(handoverMark + `{"holder":"HOLDER/.."}`), nil},
		"with a bad standby":  {text(handoverMark + `{"holder":"HOLDER","successor":"../x"}`), nil},
		"a folder":            {func(t *testing.T, p, _ string) { must(t, os.Mkdir(p, 0o700)) }, ErrInvalidConfig},
		"a link to a request": {linked(handoverMark + `{"holder":"HOLDER"}`), errors.ErrUnsupported},
		"a link to a file":    {linked("precious"), errors.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			p := leasePath(t)
			o := joinFile(t, p, watched)
			place := leasename.Handover(p)
			tc.put(t, place, o.InstanceID())
			before := stateOf(t, place)
			s, err := newFileStore(p)
			must(t, err)
			if view, err := s.Look(t.Context()); err != nil || view.HandoverRequested || view.Holder.InstanceID != o.InstanceID() {
				t.Errorf("it counts: %+v, %v", view, err)
			}
			err = ask(t, p, "")
			switch {
			case tc.want == nil:
				must(t, err)
				<-o.HandoverRequested()
			case err == nil:
				t.Error("a request was left in the place of a file that is not the lease's")
			case tc.want != errors.ErrUnsupported && !errors.Is(err, tc.want):
				t.Error(err)
			case !strings.Contains(err.Error(), place):
				t.Errorf("the error does not name the file: %v", err)
			}
			if !o.IsOwner() {
				t.Fatal(o.Check())
			}
			must(t, o.Release())
			next := joinFile(t, p, watched) // which removes what is the lease's, and nothing else
			if !next.IsOwner() || closed(next.HandoverRequested()) {
				t.Error(next.Check())
			}
			if after := stateOf(t, place); tc.want != nil && after != before {
				t.Errorf("it was %s, and is %s", before, after)
			} else if tc.want == nil && after != "nothing" {
				t.Errorf("the request is left: %s", after)
			}
		})
	}
}

// linked puts a link to a file.
func linked(content string) func(t *testing.T, path, holder string) {
	return func(t *testing.T, path, holder string) {
		target := filepath.Join(t.TempDir(), "target")
		must(t, os.WriteFile(target, []byte(strings.ReplaceAll(content, "HOLDER", holder)), 0o600))
		if err := os.Symlink(target, path); err != nil {
			if runtime.GOOS == "windows" {
				t.Skip(err)
			}
			t.Fatal(err)
		}
	}
}

// stateOf is what is at a path, and where a link leads to.
func stateOf(t *testing.T, path string) string {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return "nothing"
	}
	must(t, err)
	content, _ := os.ReadFile(path)
	return fmt.Sprint(info.Mode(), info.Size(), info.ModTime(), string(content[:min(len(content), 1000)]))
}

// Where the holder is dead or its record was released, no request is left, and no file is
// made.
func TestFileHandoverWithoutAnOwner(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, p string){
		"never owned": func(*testing.T, string) {},
		"released":    func(t *testing.T, p string) { must(t, joinFile(t, p).Release()) },
		"dead":        plantDead,
	} {
		p := leasePath(t)
		prepare(t, p)
		before := names(t, filepath.Dir(p))
		if err := ask(t, p, ""); !errors.Is(err, ErrNoHolder) {
			t.Errorf("%s: %v", name, err)
		}
		if after := names(t, filepath.Dir(p)); after != before {
			t.Errorf("%s: it has made files: %s, before %s", name, after, before)
		}
	}
}

func names(t *testing.T, dir string) string {
	entries, err := os.ReadDir(dir)
	must(t, err)
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

// A request whose process has died half way leaves a file that the next acquirer removes.
func TestFileHandoverLeftover(t *testing.T) {
	p := leasePath(t)
	o := joinFile(t, p)
	s, err := newFileStore(p)
	must(t, err)
	id := uuid.NewString()
	must(t, s.guarded(t.Context(), id, time.Second, func() (bool, error) { return false, nil }, func(g *guard) error {
		last, err := g.loadLast()
		must(t, err)
		last.Left = append(last.Left, id)
		must(t, g.saveLast(last))
		return s.writeRequest(leasename.Temp(p, id), handoverRequest{Holder: o.InstanceID()}, unshared.files)
	}))
	must(t, o.Release())
	must(t, joinFile(t, p).Release())
	if left := names(t, filepath.Dir(p)); strings.Contains(left, id) {
		t.Errorf("left: %s", left)
	}
}

// A guard that is locked for long ends the request with a sentence.
func TestFileHandoverBehindAStoppedProcess(t *testing.T) {
	notOnWindows(t)
	p := leasePath(t)
	o := joinFile(t, p)
	s, err := newFileStore(p)
	must(t, err)
	g, err := s.lockGuard(uuid.NewString())
	must(t, err)
	defer g.unlock()
	if err := ask(t, p, ""); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "stopped") {
		t.Error(err)
	}
	if !o.IsOwner() {
		t.Error(o.Check())
	}
}

// The file of a request is no larger than what is read of it.
func TestRequestFits(t *testing.T) {
	p := leasePath(t)
	s, err := newFileStore(p)
	must(t, err)
	must(t, s.writeRequest(p, handoverRequest{uuid.NewString(), uuid.NewString()}, unshared.files))
	b, err := os.ReadFile(p)
	if err != nil || len(b) > maxHandover || !bytes.HasPrefix(b, []byte(handoverMark)) || !isMarked(b, handoverMark) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}
