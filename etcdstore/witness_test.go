package etcdstore

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
	"github.com/ownerlease/owner/witness"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"
)

// ownUntilKilled is a process that owns a lease, and advertises when it is told to: see
// TestMain.
func ownUntilKilled(key string) {
	ttl, _ := time.ParseDuration(os.Getenv("ETCDSTORE_TTL"))
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Getenv("ETCDSTORE_ENDPOINT")}, Logger: zap.NewNop()})
	if err == nil {
		var opts []Option
		if os.Getenv("ETCDSTORE_UNWITNESSED") != "" {
			opts = append(opts, Unwitnessed())
		}
		var o *owner.Owner
		o, err = owner.Join(context.Background(), owner.Config{Store: New(client, key, opts...), TTL: ttl})
		for said := "owns"; err == nil; said = "advertises" {
			fmt.Println(said)
			var endpoint string
			if _, err = fmt.Scanln(&endpoint); err == nil {
				err = o.Advertise(context.Background(), endpoint, nil)
			}
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

// An ownerProcess owns a lease until it is killed.
type ownerProcess struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.Writer
	out io.Reader

	advertised int
}

func startOwner(t *testing.T, srv *etcdtest.Server, key string, ttl time.Duration, unwitnessed string) *ownerProcess {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("there are witnesses on Linux only")
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "ETCDSTORE_OWN="+key, "ETCDSTORE_ENDPOINT="+srv.Endpoint(), "ETCDSTORE_TTL="+ttl.String(), "ETCDSTORE_UNWITNESSED="+unwitnessed)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	p := &ownerProcess{t: t, cmd: cmd, in: in, out: out}
	p.says("owns")
	return p
}

func (p *ownerProcess) says(what string) {
	p.t.Helper()
	line := make([]byte, 1000)
	n, _ := p.out.Read(line)
	if got := string(line[:n]); got != what+"\n" {
		p.t.Fatalf("the owner says %q, and not that it %s", got, what)
	}
}

func (p *ownerProcess) advertise() {
	p.t.Helper()
	p.advertised++
	_, err := fmt.Fprintln(p.in, p.advertised)
	must(p.t, err)
	p.says("advertises")
}

func (p *ownerProcess) kill() {
	p.t.Helper()
	must(p.t, p.cmd.Process.Kill())
}

// A standby on the machine of an owner that is killed sees it die, and owns at once, though
// the owner has advertised since the standby follows it. Without a witness it owns when the
// lease has expired; the limits leave room for a slow machine.
func TestOwnerIsKilled(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t)
	for _, tc := range []struct {
		unwitnessed string
		times       int
		ttl         time.Duration
		least, most time.Duration
	}{
		{"", 5, 20 * time.Second, 0, 10 * time.Second},
		{"yes", 1, 4 * time.Second, time.Second, time.Minute},
	} {
		t.Run("unwitnessed: "+tc.unwitnessed, func(t *testing.T) {
			t.Parallel()
			var took []time.Duration
			for range tc.times {
				d := killed(t, srv, tc.ttl, tc.unwitnessed)
				if d < tc.least || d > tc.most {
					t.Fatalf("with a TTL of %v, killed, and owned by another after %v", tc.ttl, d)
				}
				took = append(took, d)
			}
			t.Logf("with a TTL of %v, killed, and owned by another after %v", tc.ttl, took)
		})
	}
}

func killed(t *testing.T, srv *etcdtest.Server, ttl time.Duration, unwitnessed string) time.Duration {
	t.Helper()
	key := "/" + uuid.NewString()
	p := startOwner(t, srv, key, ttl, unwitnessed)
	o := join(t, t.Context(), New(srv.Client(t), key))
	for range 2 { // the first may be read before the watch has begun, the second is a hint
		p.advertise()
		shows(t, o, fmt.Sprint(p.advertised))
	}
	began := time.Now()
	p.kill()
	eventually(t, o.Elected(), "elected after the death")
	took := time.Since(began)
	must(t, o.Release())
	<-o.Done()
	return took
}

// shows waits until a standby shows what was advertised.
func shows(t *testing.T, o *owner.Owner, endpoint string) {
	for rec := range o.Holders(t.Context()) {
		if rec.Meta[owner.EndpointMetaKey] == endpoint {
			return
		}
	}
}

// What a witness does late ends no later ownership of the lease.
func TestLateWitness(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t)
	p := startOwner(t, srv, "/k", ttl, "")
	c, line := through(t, srv)
	s := New(c, "/k")
	watched(t, s, look(t, s).Holder)
	acts, late, acted := make(chan struct{}, 100), make(chan struct{}), make(chan struct{}, 100)
	line.disturb(func(ctx context.Context, kind string, apply func(context.Context) error) error {
		acts <- struct{}{}
		<-late
		err := apply(context.WithoutCancel(ctx))
		if kind == "revoke" {
			acted <- struct{}{}
		}
		return err
	})
	p.kill()
	eventually(t, acts, "the witness acts")
	own := srv.Client(t)
	pairs["both keys deleted"](hand{t, own, "/k"})
	next := acquire(t, New(own, "/k"), time.Minute)
	close(late)
	for range 2 {
		eventually(t, acted, "the witness has acted")
	}
	must(t, next.Lease.Renew(t.Context(), s.Now()))
	must(t, next.Lease.Release(context.Background()))
}

// A witness tries again while etcd does not answer.
func TestWitnessWithoutAnswer(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t)
	p := startOwner(t, srv, "/k", time.Hour, "")
	c, line := through(t, srv)
	s := New(c, "/k")
	hints := watched(t, s, look(t, s).Holder)
	line.disturb(only("revoke", func(ctx context.Context, kind string, apply func(context.Context) error) error {
		if line.count("revoke") <= 2*leastTries { // as many as there are for two etcd leases
			return errLine
		}
		return apply(ctx)
	}))
	p.kill()
	for !look(t, s).Free() {
		eventually(t, hints, "a hint of the end")
	}
}

// A witness that has stopped does nothing, and leaves nothing behind.
func TestStoppedWitness(t *testing.T) {
	srv := etcdtest.Start(t)
	p := startOwner(t, srv, "/k", ttl, "")
	c, line := through(t, srv)
	s := New(c, "/k")
	holder := look(t, s).Holder
	eventually(t, watched(t, s, owner.Record{}), "the client's stream of watches is open")
	before := goleak.IgnoreCurrent()
	stop, err := s.Watch(holder, func() {})
	must(t, err)
	stop()
	goleak.VerifyNone(t, before)
	other := New(srv.Client(t), "/k")
	hints := watched(t, other, look(t, other).Holder)
	p.kill()
	for !look(t, other).Free() {
		eventually(t, hints, "a hint of the end, of which there is another witness")
	}
	if n := line.count("revoke"); n > 0 {
		t.Errorf("it has revoked %d etcd leases", n)
	}
}

// No witness ends what another program may have put.
func TestWitnessOfWhatAnotherHasPut(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	s := New(c, "/k").(*store)
	acq := acquire(t, s, time.Minute)
	other := New(c, "/k").(*store)
	look(t, other)
	if last := other.last; last.process != witness.Self() || len(last.leases) != 2 {
		t.Errorf("%+v", last)
	}
	h := hand{t, c, "/k"}
	value := strings.Replace(string(h.get("").Value), `"here"`, `"elsewhere"`, 1)
	h.put("", value, clientv3.WithLease(clientv3.LeaseID(h.get("").Lease)))
	look(t, other)
	if last := other.last; last.holder != acq.Holder.InstanceID || last.process != "" {
		t.Errorf("%+v", last)
	}
	must(t, acq.Lease.Release(context.Background()))
}

// Values of earlier versions, and of owners without witnesses, name no process. Earlier
// versions ignore it.
func TestProcessInTheValue(t *testing.T) {
	for _, s := range []*store{{}, {unwitnessed: true}} {
		rec := claim(time.Minute)
		text, err := s.encode(rec)
		must(t, err)
		v, err := decode(&mvccpb.KeyValue{Value: []byte(text), Lease: 1, CreateRevision: 7})
		must(t, err)
		if v.process != s.process() || v.InstanceID != rec.InstanceID || v.Epoch != 7 {
			t.Errorf("%s: %+v", text, v)
		}
		if s.unwitnessed && strings.Contains(text, "process") {
			t.Errorf("of an owner without witnesses: %s", text)
		}
	}
}
