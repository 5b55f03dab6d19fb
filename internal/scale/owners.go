package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ownerlease/owner"
)

var ownersInOne = &scenario{
	key: "a", title: "Owners in one process, all leases in one folder",
	about:      "Each owns a lease of its own and renews it every %s.",
	columns:    manyColumns,
	affordable: withDescriptors(2),
	measure:    func(j *job) ([]float64, error) { return j.owners(j.N) },
}

var ownersApart = &scenario{
	key: "b", title: "Owners in one process, a folder for each lease",
	about:      "As before.",
	columns:    manyColumns,
	affordable: withDescriptors(2),
	measure:    func(j *job) ([]float64, error) { return j.owners(1) },
}

func (j *job) owners(perFolder int) ([]float64, error) {
	paths, err := j.leases(perFolder)
	if err != nil {
		return nil, err
	}
	return j.many(0, func() (func() error, error) { return j.join(paths, false) })
}

// join joins all leases, as their owner or to stand by, and returns what releases
// them.
func (j *job) join(paths []string, standby bool) (release func() error, err error) {
	m, err := j.members(paths, standby, !standby)
	return m.release, err
}

// members are Owners with the same role.
type members struct {
	all  []*owner.Owner
	own  bool
	took []time.Duration // to join, of each
}

func (j *job) members(paths []string, standby, own bool) (*members, error) {
	m := &members{own: own}
	cfg := owner.Config{TTL: ttl, RenewInterval: j.Rest, Endpoint: endpoint, Standby: standby}
	for _, path := range paths {
		cfg.LeasePath = path
		start := time.Now()
		o, err := owner.Join(context.Background(), cfg)
		if err != nil {
			return m, err
		}
		m.took = append(m.took, time.Since(start))
		m.all = append(m.all, o)
	}
	return m, m.check()
}

// check tells if not all have the role for which they were measured.
func (m *members) check() error {
	for _, o := range m.all {
		if o.IsOwner() != m.own {
			return fmt.Errorf("the role of one has changed, so nothing is measured: %v, %w", o.Role(), o.Check())
		}
	}
	return nil
}

func (m *members) release() error {
	err := m.check()
	for _, o := range m.all {
		err = errors.Join(err, o.Release())
	}
	return err
}

// own is a child that owns leases until its input ends.
func own(j *job) error {
	paths, err := j.leases(fewToAFolder)
	if err == nil {
		_, err = j.join(paths, false)
	}
	if err != nil {
		fmt.Println(err) // to whoever has started it
		return nil
	}
	fmt.Println(joined)
	_, _ = os.Stdin.Read(make([]byte, 1))
	return nil
}
