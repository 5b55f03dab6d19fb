package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

var leasesLying = &scenario{
	key: "e", title: "New leases in a folder in which N released leases lie",
	about: "Two files each: the record and the guard. The medians of 51 new leases.",
	columns: []column{
		{"first acquisition, µs", microsecond, whole},
		{"a follower's join, µs", microsecond, whole},
		{"second acquisition, µs", microsecond, whole},
	},
	affordable: all,
	measure:    func(j *job) ([]float64, error) { return j.amidLeases() },
}

func (j *job) amidLeases() ([]float64, error) {
	for i := range j.N {
		for _, name := range []string{"%d.lease", "%d.lease.lock"} {
			// Empty: an instance that joins another lease sees only the names.
			if err := os.WriteFile(filepath.Join(j.Dir, fmt.Sprintf(name, i)), nil, 0o600); err != nil {
				return nil, err
			}
		}
	}
	paths := make([]string, 51)
	for i := range paths {
		paths[i] = filepath.Join(j.Dir, fmt.Sprintf("new%d.lease", i))
	}
	first, owners, err := j.timed("first", paths, true)
	if err != nil {
		return nil, err
	}
	follower, _, err := j.timed("follower", paths, false)
	if err = errors.Join(err, owners.release()); err != nil {
		return nil, err
	}
	second, owners, err := j.timed("second", paths, true)
	if err != nil {
		return nil, err
	}
	return []float64{first, follower, second}, owners.release()
}

// timed joins each lease, and returns the median of the times.
func (j *job) timed(name string, paths []string, own bool) (took float64, m *members, err error) {
	runtime.GC() // a search leaves much to collect
	_, _, err = j.part(name, func() (err error) { m, err = j.members(paths, false, own); return err })
	if err != nil {
		return 0, nil, err
	}
	return median(m.took), m, nil
}
