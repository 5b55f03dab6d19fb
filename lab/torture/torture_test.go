package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/history"
	"github.com/ownerlease/owner/internal/leasename"
	"github.com/ownerlease/owner/lab/internal/linear"
)

func TestMain(m *testing.M) {
	if os.Getenv("_OWNER_TORTURE_FAILS") != "" && os.Getenv(partEnv) != "" {
		os.Exit(3)
	}
	bePart() // the tests' own program plays the workers
	goleak.VerifyTestMain(m)
}

// The real thing, in small. What is killed, stopped and removed differs each time;
// that there are never two owners does not.
func TestTorture(t *testing.T) {
	if testing.Short() {
		t.Skip("takes three seconds and more: run it without -short")
	}
	o := options{
		seed: 1, duration: 3 * time.Second, workers: 6, leases: 2, dir: t.TempDir(),
		patience: 10 * time.Second, decide: time.Minute,
	}
	var out bytes.Buffer
	if err := torture(t.Context(), &out, o); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	told := out.String()
	for _, f := range faults {
		n := f.name + " "
		switch {
		case strings.Contains(told, "without "+f.name+":"), f.kind == ofDisk && strings.Contains(told, "without faults of disks"):
		case !strings.Contains(told, " "+n), strings.Contains(told, " "+n+"0 "), strings.Contains(told, " "+n+"0\n"):
			t.Errorf("%s was not played:\n%s", f.name, told)
		}
	}
	if !strings.Contains(told, "without containers") && strings.Contains(told, "\n0 of ") {
		t.Errorf("no takeover from one pid namespace to another:\n%s", told)
	}
	if left, err := os.ReadDir(o.dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// An interrupt ends a run early, with a verdict on what was seen until then.
func TestInterrupt(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	out := &interrupter{interrupt: interrupt}
	o := options{seed: 1, duration: time.Hour, workers: 2, leases: 1, dir: t.TempDir(), faults: "kill", patience: time.Minute, decide: time.Minute}
	if err := torture(ctx, out, o); err != nil || !strings.Contains(out.String(), "intervals: ok") {
		t.Errorf("%v\n%s", err, out)
	}
}

// An interrupter interrupts when the first line has come.
type interrupter struct {
	bytes.Buffer
	interrupt func()
}

func (i *interrupter) Write(b []byte) (int, error) {
	i.interrupt()
	return i.Buffer.Write(b)
}

// A worker that cannot be started, or ends unexpectedly, is reported, and ends the run.
func TestWorkerThatFails(t *testing.T) {
	o := options{
		seed: 1, duration: time.Hour, workers: 2, leases: 1, dir: t.TempDir(), faults: "kill", patience: time.Minute, decide: time.Minute,
		worker: filepath.Join(t.TempDir(), "nobody"),
	}
	if err := torture(t.Context(), &bytes.Buffer{}, o); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a worker that is not there: %v", err)
	}
	o.worker, o.faults = os.Args[0], "revoke"
	t.Setenv("_OWNER_TORTURE_FAILS", "yes")
	if err := torture(t.Context(), &bytes.Buffer{}, o); err == nil || !strings.Contains(err.Error(), "ended unexpectedly") {
		t.Errorf("a worker that fails: %v", err)
	}
}

// What a seed gives is the same each time, and each round has everything.
func TestSchedule(t *testing.T) {
	play := func(seed uint64) (told []string) {
		for round, s := range schedule(rand.New(rand.NewPCG(seed, 0)), faults) {
			if round == 3 {
				break
			}
			told = append(told, fmt.Sprint(s.pause, " ", s.fault.name, " ", s.seed))
		}
		return told
	}
	if !slices.Equal(play(1), play(1)) {
		t.Error("one seed, two schedules")
	}
	if slices.Equal(play(1), play(2)) {
		t.Error("two seeds, one schedule")
	}
	rounds := [3]map[string]bool{{}, {}, {}}
	for round, s := range schedule(rand.New(rand.NewPCG(1, 0)), faults) {
		if round == len(rounds) {
			break
		}
		rounds[round][s.fault.name] = true
	}
	for i, all := range rounds {
		if len(all) != len(faults) {
			t.Errorf("round %d has %v", i, all)
		}
	}
}

// A killed worker's last tenure ends with its process, and what it had lost and not
// released is free from then on.
func TestJournalOfAKilledWorker(t *testing.T) {
	p := &process{journal: filepath.Join(t.TempDir(), "journal"), ended: 60, done: make(chan struct{})}
	file, err := os.Create(p.journal)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	j := &journal{file: file}
	put := func(tenure history.Tenure) {
		if err := j.put(&tenure); err != nil {
			t.Fatal(err)
		}
	}
	put(history.Tenure{Epoch: 1, Sought: 1, Owned: 2, Valid: 9, Over: 10, End: history.Expired})
	put(history.Tenure{Epoch: 1, Sought: 1, Owned: 2, Valid: 10, Over: 11, End: history.Expired})
	j.turn()
	put(history.Tenure{Epoch: 2, Sought: 20, Owned: 21, Valid: 30, Over: 31, Freed: 29, End: history.Released})
	j.turn()
	put(history.Tenure{Epoch: 3, Sought: 40, Owned: 41, Valid: 49})
	j.turn()
	if _, err := file.WriteAt([]byte(`{"epoch":4,"sou`), j.line*lineSize); err != nil {
		t.Fatal(err)
	}
	p.parted.Store(50)
	if _, err := p.tenures(); err == nil {
		t.Error("read before its end")
	}
	close(p.done)
	got, err := p.tenures()
	want := []history.Tenure{
		{Epoch: 1, Sought: 1, Owned: 2, Valid: 10, Over: 11, Freed: 50, End: history.Expired},
		{Epoch: 2, Sought: 20, Owned: 21, Valid: 30, Over: 31, Freed: 29, End: history.Released},
		{Epoch: 3, Sought: 40, Owned: 41, Valid: 49, Over: 60, Freed: 50, End: history.Killed},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v\ngot  %+v\nwant %+v", err, got, want)
	}
}

// A history with two owners is reported, with the events around it.
func TestReportOfTwoOwners(t *testing.T) {
	const ms = time.Millisecond
	a := history.Tenure{Lease: "lease 1", By: "pid 1", Instance: "a", Epoch: 1, Sought: 9 * ms, Owned: 10 * ms, Valid: 50 * ms, Over: 51 * ms}
	b := history.Tenure{Lease: "lease 1", By: "pid 2", Instance: "b", Epoch: 2, Sought: 19 * ms, Owned: 20 * ms, Valid: 60 * ms, Over: 61 * ms}
	far := history.Tenure{Lease: "lease 1", By: "pid 3", Instance: "c", Epoch: 3, Sought: 9e3 * ms, Owned: 9e3 * ms, Valid: 9e3 * ms, Over: 9e3 * ms}
	r := &report{History: history.History{Tenures: []history.Tenure{a, b, far}}}
	r.deeds = map[string][]injectedFault{"lease 1": {{faults[0], history.Span{From: 15 * ms, To: 15 * ms}, []string{"worker7"}, nil}}}
	var err error
	if r.verdict, err = r.Check(time.Minute); err != nil {
		t.Fatal(err)
	}
	r.order = linear.Check(&r.History, time.Minute)
	var out bytes.Buffer
	err = r.print(&out)
	if err == nil {
		t.Fatalf("no error:\n%s", &out)
	}
	for _, want := range []string{string(history.Overlap), "pid 1", "pid 2", faults[0].name + " [worker7] until 15ms", "no order"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not reported: %v", want, err)
		}
	}
	around, _, _ := strings.Cut(err.Error(), "no order")
	if strings.Contains(around, "pid 3") {
		t.Errorf("an unrelated event is reported: %s", around)
	}
	if !strings.Contains(out.String(), "intervals: VIOLATED") || !strings.Contains(out.String(), "order: VIOLATED") {
		t.Error(out.String())
	}
}

// A takeover between two workers counts as one to another pid namespace if either of them
// has its own; one worker's next ownership does not.
func TestReportOfNamespaces(t *testing.T) {
	const ms = time.Millisecond
	r := &report{contained: map[string]bool{"b": true, "c": true}, length: time.Second}
	for i, by := range []string{"a", "a", "d", "b", "b", "c", "a"} { // d to b, b to c, c to a
		at := time.Duration(10*i) * ms
		r.Tenures = append(r.Tenures, history.Tenure{
			Lease: "lease 1", By: by, Instance: fmt.Sprint(i), Epoch: uint64(i + 1), Joined: 1, Sought: at + 5*ms, Owned: at + 6*ms,
			Valid: at + 10*ms, Over: at + 11*ms, Freed: at + 11*ms, Expiry: at + time.Second, End: history.Released,
		})
	}
	if across, all := r.acrossNamespaces(); across != 3 || all != 6 {
		t.Errorf("%d of %d", across, all)
	}
	if took := r.takeovers(); len(took["release"]) != 3 || len(took["release, other namespace"]) != 3 {
		t.Errorf("%v", took)
	}
}

// A second fault of a file waits until the owner has seen to the first.
func TestSettled(t *testing.T) {
	l := &leaseRun{path: filepath.Join(t.TempDir(), "x.lease")}
	join := func() *owner.Owner {
		o, err := owner.Join(context.Background(), owner.Config{LeasePath: l.path, TTL: time.Minute, RenewInterval: 2 * time.Millisecond})
		if err != nil || !o.IsOwner() {
			t.Fatal(o, err)
		}
		return o
	}
	await := func() {
		for !l.settled() {
			time.Sleep(time.Millisecond)
		}
	}
	if !l.settled() {
		t.Error("nothing has happened")
	}
	o := join()
	l.pending = &pendingDamage{epoch: o.Epoch()}
	if l.settled() {
		t.Error("settled before the owner has renewed")
	}
	await()
	l.pending = &pendingDamage{epoch: o.Epoch()}
	if err := o.Release(); err != nil {
		t.Fatal(err)
	}
	<-o.Done()
	for range 5 {
		if l.settled() {
			t.Error("settled without an owner")
		}
	}
	o = join()
	if !l.settled() {
		t.Error("a later owner has made new files")
	}
	l.pending = &pendingDamage{epoch: o.Epoch()}
	rec := l.look()
	if err := os.Remove(leasename.Alive(l.path, rec.InstanceID)); err != nil {
		t.Fatal(err)
	}
	await()
	if _, err := os.Stat(leasename.Alive(l.path, rec.InstanceID)); err != nil {
		t.Errorf("settled, though the alive file is not back: %v", err)
	}
	if err := o.Release(); err != nil {
		t.Error(err)
	}
	<-o.Done()
}

func TestFaultsByName(t *testing.T) {
	o := options{faults: "kill,cut"}
	chosen, err := o.choose(&bytes.Buffer{})
	if err != nil || len(chosen) != 2 || chosen[0].name != "kill" || chosen[1].name != "cut" {
		t.Errorf("%v, %v", chosen, err)
	}
	o.faults = "kill,flood"
	if _, err := o.choose(&bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "flood") {
		t.Error(err)
	}
}
