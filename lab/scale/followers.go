package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/ownerlease/owner"
)

const (
	fewToAFolder = 100
	ownersToOne  = 5000 // within most limits of open files
)

const followersAbout = "Other processes own the leases, and renew each every %s. A hundred leases are in a folder."

var followersInOne = &scenario{
	key: "c", title: "Followers in one process, each a standby of its own lease",
	about:      followersAbout,
	columns:    manyColumns,
	affordable: all,
	measure: func(j *job) ([]float64, error) {
		return j.besideOwners(func(paths []string) (func() error, error) {
			return j.join(paths, true)
		})
	},
}

var watchersInOne = &scenario{
	key: "f", title: "Watches in one process, each of a lease of its own",
	about:      followersAbout + " A watch has joined when it has told who owns.",
	columns:    manyColumns,
	affordable: all,
	measure:    func(j *job) ([]float64, error) { return j.besideOwners(watch) },
}

// besideOwners measures many at leases that other processes own.
func (j *job) besideOwners(begin func(paths []string) (func() error, error)) ([]float64, error) {
	paths, err := j.leases(fewToAFolder)
	if err != nil {
		return nil, err
	}
	for first := 0; first < j.N; first += ownersToOne {
		of := *j
		of.Role, of.First, of.N = "own", first, min(ownersToOne, j.N-first)
		owners, err := startChild(&of)
		if err != nil {
			return nil, err
		}
		defer owners.end()
		if err := expect([]*child{owners}, joined); err != nil {
			return nil, err
		}
	}
	// Settling: the pauses between polls are at their longest after two of them.
	return j.many(j.Rest, func() (func() error, error) { return begin(paths) })
}

// watch watches all leases, and returns when each watch has reported the owner.
func watch(paths []string) (end func() error, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	first := make(chan error, len(paths))
	for _, path := range paths {
		all.Go(func() {
			told := false
			for rec, err := range owner.Watch(ctx, path) {
				if err == nil && rec.InstanceID == "" {
					err = fmt.Errorf("%s has no owner", path)
				}
				if !told {
					first <- err
				}
				told = true
			}
		})
	}
	for range paths {
		if ferr := <-first; ferr != nil {
			err = ferr
		}
	}
	end = func() error { cancel(); all.Wait(); return nil }
	if err != nil {
		_ = end()
		return nil, err
	}
	return end, nil
}
