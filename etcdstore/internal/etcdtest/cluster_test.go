package etcdtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What the cluster's faults do, so that a test that relies on them does not pass without
// one.
func TestCluster(t *testing.T) {
	c := StartCluster(t)
	all := c.NewClient(t)
	put(t, all, "1")

	killed := c.Leader(t)
	only := c.NewClient(t, killed)
	killed.Stop()
	if next := c.Leader(t); next == killed {
		t.Errorf("%s leads, and is stopped", killed.Name)
	}
	put(t, all, "2")
	silent(t, only)
	killed.Start(t)
	holds(t, only, "2")

	alone := c.Leader(t)
	only = c.NewClient(t, alone)
	alone.Isolate()
	Await(t, "another leader", func() bool {
		leader := c.leader()
		return leader != nil && leader != alone
	})
	silent(t, only)
	put(t, c.NewClient(t, c.Others(alone)...), "3")
	alone.Rejoin()
	holds(t, only, "3")

	all.Cut()
	silent(t, all)
	all.Break()
	silent(t, all)
	all.Heal()
	holds(t, all, "3")

	all.Cut(alone)
	holds(t, c.NewClient(t, alone), "3")
	// One of three calls gets no answer, once the client is connected to all three again.
	Await(t, "a call without an answer", func() bool {
		all.Heal(alone)
		holds(t, all, "3")
		all.Cut(alone)
		return !answers(t, all)
	})
	all.Heal(alone)

	c.Stop()
	silent(t, all)
	c.Start(t)
	c.Leader(t)
	holds(t, all, "3")
}

func put(t *testing.T, c *Client, value string) {
	t.Helper()
	if _, err := c.Put(t.Context(), "key", value); err != nil {
		t.Fatal(err)
	}
}

func holds(t *testing.T, c *Client, value string) {
	t.Helper()
	got, err := c.Get(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	if v := string(got.Kvs[0].Value); v != value {
		t.Errorf("the key holds %s, want %s", v, value)
	}
}

// silent demands that one of three calls gets no answer.
func silent(t *testing.T, c *Client) {
	t.Helper()
	if answers(t, c) {
		t.Error("answers")
	}
}

// answers reports whether three calls in a row are answered.
func answers(t *testing.T, c *Client) bool {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var err error
	for range 3 {
		_, e := c.Get(ctx, "key")
		err = errors.Join(err, e)
	}
	return err == nil
}
