package owner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// EndpointMetaKey is the key of the owner's transport endpoint in [Record.Meta].
const EndpointMetaKey = "endpoint"

// Config says which lease to join, and how. LeasePath and TTL are required.
type Config struct {
	// LeasePath is the lease file, one owner per path. Its folder must exist, on a
	// local disk, and be writable; files named LeasePath.lock, LeasePath.last,
	// LeasePath.handover and LeasePath.*.alive appear beside it, and LeasePath.start where
	// the package start is used. A file of such a name that is not the lease's is never
	// touched: the lease is then refused, or with LeasePath.handover a handover. A relative
	// path is resolved when Join is called; a process that changes its root directory
	// afterwards, by chroot(2), loses the lease at its next renewal.
	LeasePath string

	// TTL is how long a lease outlives its last renewal: how long a hung owner
	// keeps the others waiting. At least 10 ms; below a second, a busy machine
	// costs ownerships. Instances of one lease may differ in it: the owner's counts.
	TTL time.Duration

	// RenewInterval is the time from the start of a renewal to that of the next, or up to
	// 1/32 less: many owners of one machine renew together then, which costs it less than
	// waking up for each. Default TTL/3, at least 1 ms. It must leave room for another try before the
	// fence deadline: at most TTL - SafetyMargin - TTL/20.
	RenewInterval time.Duration

	// Endpoint is where followers reach the owner, in any form that they
	// understand. Empty means that it does not serve. Stored in
	// Meta[EndpointMetaKey].
	Endpoint string

	// Meta holds more facts for followers: valid UTF-8, and together with the
	// endpoint no more than 3 KiB as indented JSON.
	Meta map[string]string

	// SafetyMargin is how long before the lease's expiry the owner stops. It is
	// the time that its work has to wind down. Default TTL/4, at least 1 ms.
	SafetyMargin time.Duration

	// Standby makes a follower a standby: it keeps polling the lease, at once when
	// something happens to it or to its owner, and acquires it when it is free. Elected
	// closes then. Without it, a follower never acquires the lease.
	Standby bool

	// Healthy says whether the work is alive: nil if it is. It is asked every
	// RenewInterval while this instance owns, in a goroutine of its own, with the context
	// of the ownership, and should return soon after that has ended. Without it, a lease is
	// renewed although the work behind it hangs.
	//
	// Where it has not returned nil for HealthTimeout, counted from the last time or from
	// the election, Lost closes with ErrUnhealthy. nil is not asked.
	Healthy func(context.Context) error

	// HealthTimeout is how long the work may go without being healthy. Default TTL; it
	// must be longer than RenewInterval, and needs Healthy.
	HealthTimeout time.Duration

	// Evict is called before a hung owner's lease is taken: one that has expired while its
	// owner's process still holds the alive lock, and with it, it may be, what the system
	// gave it: a database's lock, a port, memory of a GPU. It is to end that process, and to
	// return nil when it has gone: KillHolder does. nil is not called: a hung owner's lease
	// is taken when it has expired.
	//
	// What Evict returns is not believed. After nil everything is looked at anew: the
	// lease is taken only if the alive lock is free, and not if another instance owns by
	// then. An error is returned by Join, and matches [ErrUnavailable]; a standby logs it,
	// and tries again every TTL/10, but at least every second.
	//
	// It is called in a goroutine of its own, while State is StateEvicting, and no lock of
	// the lease is held. Its context ends after TTL - SafetyMargin, and with Join's context
	// and Release. If it has not returned within a TTL, that is an error, and it is not
	// called again before it has returned. Instances that compete for the lease call
	// theirs at the same time. An owner that can renew is never evicted.
	//
	// A lease file is required: another Store is refused, as it cannot tell a hung owner
	// from a dead one.
	Evict func(context.Context, Status) error

	// FileMode opens the lease to other users, by the permissions of its files. A user
	// who may read them can join as a follower, Probe and Watch. A user who may also
	// write them can take part: own the lease, be a standby, Revoke. docs/users.md says
	// what each can do to the others.
	//
	// Default 0600 for a new lease; an existing lease keeps its mode. With 0640 the group
	// can follow, with 0660 take part; with 0644 every user can follow. The files' own
	// user must be able to read and write; write permission needs read permission; other
	// bits are refused. The umask has no influence.
	//
	// The folder must permit the same: to enter it, and to participants to read and write
	// it, without the sticky bit. Files get the folder's group if this user is in it, and
	// if root makes them, the user of the lease's files or else of the folder.
	//
	// The mode applies to the files that this instance makes, so all participants should
	// set the same or none. LeasePath.lock is made once: an acquisition by its own user or
	// by root changes its mode.
	//
	// It has no effect on Windows, where the folder's access list decides. It is refused
	// together with a Store.
	FileMode fs.FileMode

	// Logger gets one record for every transition: of heartbeats at debug level, of
	// losses as errors. nil is silent.
	Logger *slog.Logger

	// OnTransition is called for every transition, in order, in its own goroutine. A
	// callback that blocks delays those after it and Done, nothing else; if it blocks for
	// over a thousand of them, some are left out, but never the last. It must not wait
	// for Done.
	OnTransition func(Transition)

	// Store keeps the lease; nil is FileStore(LeasePath). LeasePath is not used
	// otherwise. If the Store has a String method, errors and logs name it by that.
	Store Store
}

// fileStore returns the store of a configuration without one.
func (cfg *Config) fileStore() (Store, error) {
	s, err := openLease(cfg.LeasePath)
	if err != nil {
		return nil, err
	}
	s.mode = cfg.FileMode
	return s, nil
}

// joinError says what was tried.
func (cfg *Config) joinError(err error) error {
	return &opError{"join " + cfg.lease(), err}
}

func (cfg *Config) lease() string {
	if cfg.Store != nil {
		return storeName(cfg.Store)
	}
	return cfg.LeasePath
}

const (
	minTTL      = 10 * time.Millisecond
	maxTTL      = 365 * 24 * time.Hour
	minMargin   = time.Millisecond
	minInterval = time.Millisecond
)

// resolve checks the configuration and fills in the defaults. Without the inequalities,
// an owner would stop before it could renew.
func (cfg *Config) resolve() (timing, error) {
	if err := cfg.resolveTimes(); err != nil {
		return timing{}, fmt.Errorf("%w: %w", ErrInvalidConfig, err)
	}
	meta, err := resolveMeta(cfg.Endpoint, cfg.Meta)
	if err != nil {
		return timing{}, fmt.Errorf("%w: %w", ErrInvalidConfig, err)
	}
	cfg.Meta = meta
	if cfg.LeasePath == "" && cfg.Store == nil {
		return timing{}, fmt.Errorf("%w: LeasePath is empty", ErrInvalidConfig)
	}
	if cfg.FileMode != 0 && cfg.Store != nil {
		return timing{}, fmt.Errorf("%w: FileMode is %#o, and there is a Store: it is for the lease file only", ErrInvalidConfig, cfg.FileMode)
	}
	if err := cfg.resolveHealth(); err != nil {
		return timing{}, fmt.Errorf("%w: %w", ErrInvalidConfig, err)
	}
	if err := cfg.checkEvict(); err != nil {
		return timing{}, fmt.Errorf("%w: %w", ErrInvalidConfig, err)
	}
	if err := checkMode(cfg.FileMode); err != nil {
		return timing{}, fmt.Errorf("%w: %w", ErrInvalidConfig, err)
	}
	aside := min(shortestAside+rand.N(longestAside-shortestAside), maxPollInterval(cfg.TTL))
	return timing{
		ttl: cfg.TTL, margin: cfg.SafetyMargin, interval: cfg.RenewInterval,
		pause: min(retryPause(cfg.TTL), cfg.RenewInterval),
		poll:  maxPollInterval(cfg.TTL),
		rest:  maxRestInterval(cfg.TTL),

		sickness: cfg.HealthTimeout,
		aside:    aside,
		head:     headStart(cfg.TTL) + aside,
	}, nil
}

func (cfg *Config) resolveHealth() error {
	switch {
	case cfg.Healthy == nil && cfg.HealthTimeout != 0:
		return fmt.Errorf("HealthTimeout is %v, and Healthy is nil: there is nothing to ask", cfg.HealthTimeout)
	case cfg.Healthy == nil:
		return nil
	case cfg.HealthTimeout == 0:
		cfg.HealthTimeout = cfg.TTL
	}
	if cfg.HealthTimeout <= cfg.RenewInterval {
		return fmt.Errorf("HealthTimeout is %v; it must be longer than the RenewInterval, %v, in which Healthy is asked once", cfg.HealthTimeout, cfg.RenewInterval)
	}
	return nil
}

// retryPause is the time from a failed renewal to the next try.
func retryPause(ttl time.Duration) time.Duration { return ttl / 20 }

func (cfg *Config) resolveTimes() error {
	if cfg.TTL < minTTL || cfg.TTL > maxTTL {
		return fmt.Errorf("TTL is %v; it must be between %v and %v", cfg.TTL, minTTL, maxTTL)
	}
	if cfg.SafetyMargin == 0 {
		cfg.SafetyMargin = cfg.TTL / 4
	}
	longest := cfg.TTL - cfg.SafetyMargin - retryPause(cfg.TTL)
	if cfg.SafetyMargin < minMargin || longest < minInterval {
		return fmt.Errorf("SafetyMargin is %v; with a TTL of %v it must be between %v and %v",
			cfg.SafetyMargin, cfg.TTL, minMargin, cfg.TTL-retryPause(cfg.TTL)-minInterval)
	}
	if cfg.RenewInterval == 0 {
		cfg.RenewInterval = min(cfg.TTL/3, longest)
	}
	if cfg.RenewInterval < minInterval || cfg.RenewInterval > longest {
		return fmt.Errorf("RenewInterval is %v; with a TTL of %v and a SafetyMargin of %v it must be between %v and %v, so that a failed renewal can be tried again",
			cfg.RenewInterval, cfg.TTL, cfg.SafetyMargin, minInterval, longest)
	}
	return nil
}

// resolveMeta returns a copy of the metadata, as the caller may go on to change the map,
// with the endpoint in it.
func resolveMeta(endpoint string, meta map[string]string) (map[string]string, error) {
	if in, ok := meta[EndpointMetaKey]; ok && endpoint != "" && in != endpoint {
		return nil, fmt.Errorf("the Endpoint is %q and Meta[%q] is %q", endpoint, EndpointMetaKey, in)
	}
	for k, v := range meta {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return nil, fmt.Errorf("metadata %q is not valid UTF-8", k)
		}
	}
	if !utf8.ValidString(endpoint) {
		return nil, errors.New("the Endpoint is not valid UTF-8")
	}
	meta = maps.Clone(meta)
	if endpoint != "" {
		if meta == nil {
			meta = make(map[string]string, 1)
		}
		meta[EndpointMetaKey] = endpoint
	}
	if len(meta) == 0 {
		return meta, nil
	}
	b, err := json.MarshalIndent(meta, "  ", "  ") // as in the record
	if err != nil {
		return nil, err
	}
	if len(b) > maxMeta {
		return nil, fmt.Errorf("metadata too large: Meta and Endpoint are %d bytes as indented JSON; %d is the most", len(b), maxMeta)
	}
	return meta, nil
}

// claim is the record that this instance would own the lease with.
func (cfg *Config) claim() *Record {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown" // for display only: no reason to refuse
	}
	return &Record{InstanceID: uuid.NewString(), PID: os.Getpid(), Host: host, TTL: cfg.TTL, Meta: cfg.Meta}
}
