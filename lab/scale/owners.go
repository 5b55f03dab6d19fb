package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/leasename"
)

var ownersInOne = &scenario{
	key: "a", title: "Owners in one process, all leases in one folder",
	about: "Each owns a lease of its own and renews it every %s. A renewal's floor is the CPU of its system calls in a " +
		"simple loop over as many files, without waiting between them.",
	columns:    ownersColumns,
	affordable: withDescriptors(2),
	measure:    func(j *job) ([]float64, error) { return j.owners(j.N) },
}

var ownersApart = &scenario{
	key: "b", title: "Owners in one process, a folder for each lease",
	about:      "As before.",
	columns:    ownersColumns,
	affordable: withDescriptors(2),
	measure:    func(j *job) ([]float64, error) { return j.owners(1) },
}

// ownersColumns are manyColumns, and what a renewal costs.
var ownersColumns = slices.Concat(manyColumns, []column{
	{"CPU of a renewal, µs", microsecond, each}, {"its floor, µs", microsecond, each},
	{"ratio", one, whole},
})

func (j *job) owners(perFolder int) ([]float64, error) {
	paths, err := j.leases(perFolder)
	if err != nil {
		return nil, err
	}
	values, err := j.many(0, func() (func() error, error) { return j.join(paths, false) })
	if err != nil {
		return nil, err
	}
	floor, err := j.renewalFloor(paths)
	const idle = 1 // the column: CPU in a second, in which each renews once in so many
	renewals := values[idle] * j.Rest.Seconds()
	return append(values, renewals, floor, renewals/floor), err
}

// renewalFloor returns the CPU of the system calls of one renewal by each owner: a record
// is written in place, and it and the two names of the alive file are checked.
func (j *job) renewalFloor(paths []string) (float64, error) {
	record := make([]byte, 512)
	var files []*os.File
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	for _, path := range paths {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return 0, err
		}
		files = append(files, f)
		for _, name := range namesOfAlive(path) {
			if err := os.WriteFile(name, nil, 0o600); err != nil {
				return 0, err
			}
		}
	}
	const rounds = 3
	_, used, err := j.part("floor", func() error {
		for range rounds {
			for _, f := range files {
				if err := renew(f, record); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return float64(used) / rounds, err
}

func namesOfAlive(path string) []string {
	return []string{leasename.Alive(path, "01234567-89ab-cdef-0123-456789abcdef"), leasename.Last(path)}
}

func renew(f *os.File, record []byte) error {
	if _, err := f.WriteAt(record, 0); err != nil {
		return err
	}
	for _, name := range append(namesOfAlive(f.Name()), f.Name()) {
		if _, err := os.Lstat(name); err != nil {
			return err
		}
	}
	return nil
}

// join joins all leases, as their owner or as a standby, and returns what releases them.
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

// check returns an error if not all have the role for which they were measured.
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
		fmt.Println(err) // to the process that has started it
		return nil
	}
	fmt.Println(joined)
	_, _ = os.Stdin.Read(make([]byte, 1))
	return nil
}
