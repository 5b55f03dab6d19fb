package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	workIfStarted() // the tests' own program plays the workers
	goleak.VerifyTestMain(m)
}

// The real thing, in small.
func TestCalls(t *testing.T) {
	if testing.Short() {
		t.Skip("takes four seconds and more: run it without -short")
	}
	o := options{seed: 1, duration: 4 * time.Second, leases: 2, clients: 6, dir: t.TempDir()}
	var out bytes.Buffer
	if err := run(t.Context(), &out, o); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if !strings.Contains(out.String(), "\nok\n") {
		t.Errorf("%s", &out)
	}
	if left, err := os.ReadDir(o.dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// One fault alone, with short requests on Unix sockets: all that is reported is of this kind.
func TestOneFault(t *testing.T) {
	if testing.Short() {
		t.Skip("takes two seconds: run it without -short")
	}
	o := options{seed: 1, duration: 2 * time.Second, leases: 2, clients: 3, fault: "kill", unix: true, short: true, dir: t.TempDir()}
	var out bytes.Buffer
	if err := run(t.Context(), &out, o); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, never := range []string{"\n  release", "\n  replace", " tcp,"} {
		if strings.Contains(out.String(), never) {
			t.Errorf("%q is in\n%s", never, &out)
		}
	}
	if !regexp.MustCompile(`(?m)^  kill +[1-9]`).MatchString(out.String()) {
		t.Errorf("no kill in\n%s", &out)
	}
	if !regexp.MustCompile(`(?m)^  post, slow body +0 +0 +0`).MatchString(out.String()) {
		t.Errorf("a long request in\n%s", &out)
	}
}

// The comparison runs, and counts what the naive forwarder loses at a kill.
func TestCompare(t *testing.T) {
	if testing.Short() {
		t.Skip("takes three seconds and more: run it without -short")
	}
	o := options{seed: 1, duration: 1200 * time.Millisecond, worker: os.Args[0]}
	rows, err := compareRows(t.Context(), o, t.TempDir(), systems, scenarios[:1])
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range rows {
		if r.system != systems[i].name || r.sent < 20 || len(r.stalls) != r.sent || r.twice > 0 {
			t.Errorf("%+v", r)
		}
		if r.system == systemReach && r.failed > 0 {
			t.Errorf("%d of %d have failed", r.failed, r.sent)
		}
	}
	var out bytes.Buffer
	printRows(&out, rows)
	if n := strings.Count(out.String(), "\n"); n != 1+len(rows) {
		t.Error(&out)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []options{
		{leases: 0, clients: 1}, {leases: 1, clients: 0},
		{leases: 1, clients: 1, think: -1}, {leases: 1, clients: 1, fault: "flood"},
	} {
		if err := run(t.Context(), &bytes.Buffer{}, o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

const ms = time.Millisecond

// A request to lease l on Unix sockets, from 10 to 20 ms, answered by instance a.
func asked(k kind, change ...func(*request)) request {
	r := request{ID: "1", Kind: k, Way: direct, Lease: "l", Start: 10 * ms, End: 20 * ms, Outcome: answered, Instance: "a", Epoch: 1}
	for _, c := range change {
		c(&r)
	}
	return r
}

func told(o outcome) func(*request) {
	return func(r *request) { r.Outcome, r.Instance, r.Epoch = o, "", 0 }
}

func onTCP(r *request) { r.TCP = true }

func relayedTo(worker string) func(*request) {
	return func(r *request) { r.Way, r.Target = relayed, worker }
}

func byAddress(r *request) { r.Way = stale }

func did(what, id, instance string, epoch uint64, at time.Duration) entry {
	return entry{What: what, ID: id, Instance: instance, Epoch: epoch, At: at, worker: "w-" + instance, lease: "l"}
}

// ran is a handler that has ended.
func ran(id, instance string, epoch uint64, at time.Duration) []entry {
	return []entry{did(begun, id, instance, epoch, at), did(ended, id, instance, epoch, at+ms)}
}

// Each rule, with a history that keeps it and one that breaks it.
func TestCheck(t *testing.T) {
	kill := []injected{{Fault: "kill", Halts: true, Loses: true, Lease: "l", Worker: "w-a", From: 15 * ms, To: 16 * ms}}
	release := []injected{{Fault: "release", Lease: "l", Worker: "w-a", From: 15 * ms, To: 16 * ms}}
	elsewhere := []injected{{Fault: "kill", Halts: true, Loses: true, Lease: "other", From: 15 * ms, To: 16 * ms}}
	once, half := ran("1", "a", 1, 12*ms), ran("1", "a", 1, 12*ms)[:1]
	twice := append(ran("1", "a", 1, 12*ms), ran("1", "b", 2, 14*ms)...)
	late := append(ran("2", "b", 2, 11*ms), once...)
	for _, x := range []struct {
		name    string
		request request
		entries []entry
		faults  []injected
		broken  rule // "" if none is
	}{
		{"answered", asked(post), once, nil, ""},
		{"answered, not begun", asked(post), nil, nil, ruleLost},
		{"answered, not ended", asked(post), half, nil, ruleLost},
		{"answered, ended twice", asked(post), append(once[:2:2], once[1]), nil, ruleLost},
		{"answered by another", asked(post, func(r *request) { r.Instance = "b" }), once, nil, ruleLost},
		{"answered by another epoch", asked(post, func(r *request) { r.Epoch = 2 }), once, nil, ruleLost},
		{"a safe request that was lost", asked(get), half, nil, ruleLost},
		{"begun twice", asked(post), twice, kill, ruleTwice},
		{"begun twice, and unknown", asked(post, told(unknown)), twice, kill, ruleTwice},
		{"a large one begun twice", asked(large), twice, kill, ruleTwice},
		{"begun twice with a key", asked(keyed), twice, kill, ""},
		{"begun twice, safe", asked(get), twice, kill, ""},

		{"no owner", asked(post, told(noOwner)), nil, nil, ruleFailed},
		{"no owner on a machine that stood still", asked(post, told(noOwner)), []entry{{What: paused, At: 11 * ms, To: 19 * ms, worker: byDirector}}, nil, ""},
		{"no owner, and begun", asked(post, told(noOwner)), half, kill, ruleBegun},
		{"given up on, and begun", asked(cancel, told(noOwner)), once, nil, ruleBegun},
		{"given up on", asked(cancel, told(noOwner)), nil, nil, ""},
		{"given up on, unknown", asked(cancel, told(unknown)), once, nil, ""},
		{"given up on, unknown, never begun", asked(cancel, told(unknown)), nil, nil, ruleUnknown},
		{"given up on by TCP, unknown, never begun", asked(cancel, told(unknown), onTCP), nil, nil, ""},

		{"unknown at a kill", asked(post, told(unknown)), once, kill, ""},
		{"unknown at a kill, acknowledged and not begun", asked(post, told(unknown)), nil, kill, ""},
		{"unknown without a fault", asked(post, told(unknown)), once, nil, ruleUnknown},
		{"unknown, never begun", asked(post, told(unknown)), nil, nil, ruleUnknown},
		{"unknown by TCP, never begun", asked(post, told(unknown), onTCP), nil, nil, ruleUnknown},
		{"unknown at a release", asked(post, told(unknown)), once, release, ruleUnknown},
		{"unknown at a kill elsewhere", asked(post, told(unknown)), once, elsewhere, ruleUnknown},
		{"unknown at the kill of an earlier owner", asked(post, told(unknown)), ran("1", "b", 2, 12*ms), kill, ruleUnknown},
		{"unknown at a loss", asked(post, told(unknown)), append(once[:2:2], did(lost, "-", "a", 1, 18*ms)), nil, ""},
		{"unknown with a key", asked(keyed, told(unknown)), once, kill, ruleFailed},

		{"failed", asked(get, told(failed)), nil, kill, ruleFailed},
		{"given up on, failed", asked(cancel, told(failed)), nil, nil, ""},
		{"cut short at a kill", asked(stream, told(cutShort)), once, kill, ""},
		{"cut short", asked(stream, told(cutShort)), once, release, ruleFailed},
		{"cut short, though no stream", asked(get, told(cutShort)), once, kill, ruleFailed},

		{"forwarded to the owner", asked(post, relayedTo("w-a")), once, nil, ""},
		{"forwarded twice", asked(post, relayedTo("w-b")), once, nil, ruleForward},
		{"not forwarded twice", asked(post, relayedTo("w-b"), told(refused)), nil, nil, ""},
		{"not forwarded, and begun", asked(post, relayedTo("w-a"), told(refused)), once, nil, ruleBegun},
		{"a node that was killed", asked(post, told(noNode)), once, nil, ""},
		{"a node that was killed, begun twice", asked(post, told(noNode)), twice, nil, ruleTwice},

		{"meant for another", asked(post, byAddress, told(refused)), nil, nil, ""},
		{"meant for another, and begun", asked(post, byAddress), once, nil, ruleAddress},

		{"late", asked(post), late, nil, ruleLate},
		{"late after a stop", asked(post), late, []injected{{Halts: true, Loses: true, Lease: "l", Worker: "w-a", From: 9 * ms, To: 12 * ms}}, ""},
		{"late after another's stop", asked(post), late, []injected{{Halts: true, Loses: true, Lease: "l", Worker: "w-b", From: 9 * ms, To: 12 * ms}}, ruleLate},
		{"late after a pause", asked(post), append(late, entry{What: paused, At: 9 * ms, To: 12 * ms, worker: "w-a", lease: "l"}), nil, ""},
	} {
		v := check(&history{[]request{x.request}, x.entries, x.faults})
		var broken []rule
		for _, each := range v.violations {
			broken = append(broken, each.rule)
		}
		if x.broken == "" && len(broken) > 0 || x.broken != "" && (len(broken) != 1 || broken[0] != x.broken) {
			t.Errorf("%s: %v, want %q", x.name, broken, x.broken)
		}
		if err := v.err(); (err != nil) != (x.broken != "") {
			t.Errorf("%s: %v", x.name, err)
		}
	}
}

// What is counted is seen.
func TestCheckCounts(t *testing.T) {
	kill := injected{Halts: true, Loses: true, Lease: "l", Worker: "w-a", From: 9 * ms, To: 16 * ms}
	h := &history{faults: []injected{kill}, entries: append(ran("1", "b", 2, 11*ms), ran("1", "a", 1, 12*ms)...)}
	h.requests = []request{asked(keyed), asked(post, told(unknown), func(r *request) { r.ID = "2" })}
	v := check(h)
	if v.repeated != 1 || v.late != 1 || v.unknown["unix, not begun"] != 1 || len(v.violations) > 0 {
		t.Errorf("%+v", v)
	}
}

// A worker's journal is read back; one that is not whole is an error.
func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	defer j.file.Close()
	want := entry{What: begun, ID: "1-2-3", Key: "k", Instance: "a", Epoch: 7, At: 5, To: 6}
	j.put(want)
	j.put(entry{What: paused, At: 1, To: 2})
	all, err := readJournal(path, "w", "l")
	want.worker, want.lease = "w", "l"
	if err != nil || len(all) != 2 || all[0] != want || all[1].What != paused || all[1].ID != "-" {
		t.Errorf("%+v, %v", all, err)
	}
	if all, err := readJournal(path+"none", "w", "l"); err != nil || len(all) > 0 {
		t.Errorf("a worker that was killed early: %v, %v", all, err)
	}
	if _, err := j.file.WriteString("begin 1 - a"); err != nil {
		t.Fatal(err)
	}
	if _, err := readJournal(path, "w", "l"); err == nil {
		t.Error("half a line was accepted")
	}
}

// A fault's stalls are those of the requests between the last answer of one owner and the
// first of the next.
func TestDisruption(t *testing.T) {
	at := func(start, end time.Duration, epoch uint64) request {
		return request{Lease: "l", Kind: post, Way: direct, Start: start * ms, End: end * ms, Outcome: answered, Epoch: epoch}
	}
	h := &history{
		faults:   []injected{{Fault: "kill", Lease: "l", From: 10 * ms, To: 12 * ms}},
		requests: []request{at(1, 2, 1), at(8, 11, 1), at(9, 40, 2), at(13, 45, 2), at(41, 42, 2)},
	}
	d := disruptions(h)["kill"]
	if d.number != 1 || len(d.stalls) != 3 || !slices.Equal(d.gaps, []time.Duration{29 * ms}) {
		t.Errorf("%+v", d)
	}
}
