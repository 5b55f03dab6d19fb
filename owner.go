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
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

//go:generate go test -run TestDiagramIsCurrent -update .

// EndpointMetaKey is the key of the owner's transport endpoint in Record.Meta.
const EndpointMetaKey = "endpoint"

// Config says which lease to join, and how. LeasePath and TTL are required.
type Config struct {
	// LeasePath is the lease file, one owner per path. Its folder must exist, on a
	// local disk, and be writable; files named LeasePath.lock, LeasePath.last and
	// LeasePath.*.alive appear beside it. What is there by such a name and is not a
	// file of the lease is never touched: the lease is then refused. A relative path is
	// resolved when Join is called; a process that changes its root directory
	// afterwards, by chroot(2), loses the lease at its next renewal.
	LeasePath string

	// TTL is how long a lease outlives its last renewal: how long a hung owner
	// keeps the others waiting. At least 10 ms; below a second, a busy machine
	// costs ownerships. Instances of one lease may differ in it: the owner's counts.
	TTL time.Duration

	// RenewInterval is the time from the start of a renewal to that of the next.
	// Default TTL/3, at least 1 ms. It must leave room for another try before the
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

	// Standby makes a follower stand by: it goes on looking at the lease, at once
	// when something happens to it or to its owner, and takes it when it is free.
	// Elected closes then. Without it, a follower stays what it was when it joined.
	Standby bool

	// FileMode opens the lease to other users, by the permissions of its files. A user
	// who may read them can follow: join as a follower, Probe, Watch. A user who may also
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

	// OnTransition is called for every transition, in order, in a goroutine of its
	// own. A callback that blocks delays those after it and Done, nothing else; if
	// it blocks for over a thousand of them, some are left out, but never the last.
	// It must not wait for Done.
	OnTransition func(Transition)

	// Store keeps the lease; nil is FileStore(LeasePath). LeasePath is not used
	// otherwise. A Store that has a String method is named by it in errors and logs.
	Store Store
}

// Owner is one instance's membership: as the owner, or as a follower. Its methods
// may be called from any goroutine.
type Owner struct{ a *actor }

// Join takes the lease if it is free, and returns an Owner that owns it and
// renews it in the background; otherwise it returns a follower, which knows the
// holder. It does not wait for a live holder. A lease is free when there is no
// record, when it was released, when its owner is dead, or when it has expired.
//
// ctx bounds the renewals: after its end they stop, and the ownership lasts until
// its deadline unless Release comes first. It bounds the standing by. It bounds Join, too; without an end of
// ctx, Join gives up a store that hangs after TTL - SafetyMargin.
//
// Where ctx ends with a signal, as by signal.NotifyContext, the renewals end with it,
// before the work has wound down: the ownership then lasts for what is left of the
// lease, less the SafetyMargin. Run keeps renewing until the work has returned.
//
// A follower that Join has returned stays one, and its Holder, Endpoint and Epoch stay
// as they were, unless it stands by (see Config.Standby): join again to try again.
//
// Errors match ErrInvalidConfig, ErrCorruptRecord, ErrUnsupportedFilesystem,
// ErrUnavailable, the cause of ctx's end, or what the operating system says
// (fs.ErrNotExist for a missing folder, fs.ErrPermission). The lease is then not
// owned.
func Join(ctx context.Context, cfg Config) (*Owner, error) {
	t, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, cfg.joinError(context.Cause(ctx))
	}
	store := cfg.Store
	if store == nil {
		if store, err = cfg.fileStore(); err != nil {
			return nil, cfg.joinError(err)
		}
	}
	a := newActor(ctx, store, cfg.claim(), t, newNotices(&cfg))
	if err := a.join(cfg.Standby); err != nil {
		return nil, cfg.joinError(err)
	}
	return &Owner{a}, nil
}

// fileStore is the store of a configuration that has none.
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
		return leaseOf(cfg.Store)
	}
	return cfg.LeasePath
}

// leaseOf names the lease that a store keeps.
func leaseOf(s Store) string {
	if named, ok := s.(fmt.Stringer); ok {
		return named.String()
	}
	return "a lease"
}

// An opError says what was tried. The package's name stands in front once, also
// where err is one of the package's own.
type opError struct {
	op  string
	err error
}

func (e *opError) Error() string {
	return "owner: " + e.op + ": " + strings.TrimPrefix(e.err.Error(), "owner: ")
}

func (e *opError) Unwrap() error { return e.err }

const (
	minTTL      = 10 * time.Millisecond
	maxTTL      = 365 * 24 * time.Hour
	minMargin   = time.Millisecond
	minInterval = time.Millisecond
)

// resolve checks the configuration and fills in the defaults. The inequalities
// are those without which an owner would stop before it could renew.
func (cfg *Config) resolve() (timing, error) {
	if err := cfg.resolveTimes(); err != nil {
		return timing{}, fmt.Errorf("%w: %w", ErrInvalidConfig, err)
	}
	if err := cfg.resolveMeta(); err != nil {
		return timing{}, fmt.Errorf("%w: %w", ErrInvalidConfig, err)
	}
	if cfg.LeasePath == "" && cfg.Store == nil {
		return timing{}, fmt.Errorf("%w: LeasePath is empty", ErrInvalidConfig)
	}
	if cfg.FileMode != 0 && cfg.Store != nil {
		return timing{}, fmt.Errorf("%w: FileMode is %#o, and there is a Store: it is for the lease file only", ErrInvalidConfig, cfg.FileMode)
	}
	if err := checkMode(cfg.FileMode); err != nil {
		return timing{}, fmt.Errorf("%w: %w", ErrInvalidConfig, err)
	}
	return timing{
		ttl: cfg.TTL, margin: cfg.SafetyMargin, interval: cfg.RenewInterval,
		pause: min(retryPause(cfg.TTL), cfg.RenewInterval),
		poll:  slowPoll(cfg.TTL),
		rest:  restPoll(cfg.TTL),
		aside: min(shortestAside+rand.N(longestAside-shortestAside), slowPoll(cfg.TTL)),
	}, nil
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

// resolveMeta copies the metadata, as the caller may go on to change the map,
// and puts the endpoint into it.
func (cfg *Config) resolveMeta() error {
	if in, ok := cfg.Meta[EndpointMetaKey]; ok && cfg.Endpoint != "" && in != cfg.Endpoint {
		return fmt.Errorf("the Endpoint is %q and Meta[%q] is %q", cfg.Endpoint, EndpointMetaKey, in)
	}
	for k, v := range cfg.Meta {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return fmt.Errorf("metadata %q is not valid UTF-8", k)
		}
	}
	if !utf8.ValidString(cfg.Endpoint) {
		return errors.New("the Endpoint is not valid UTF-8")
	}
	cfg.Meta = maps.Clone(cfg.Meta)
	if cfg.Endpoint != "" {
		if cfg.Meta == nil {
			cfg.Meta = make(map[string]string, 1)
		}
		cfg.Meta[EndpointMetaKey] = cfg.Endpoint
	}
	if len(cfg.Meta) == 0 {
		return nil
	}
	b, err := json.MarshalIndent(cfg.Meta, "  ", "  ") // as in the record
	if err != nil {
		return err
	}
	if len(b) > maxMeta {
		return fmt.Errorf("metadata too large: Meta and Endpoint are %d bytes as indented JSON; %d is the most", len(b), maxMeta)
	}
	return nil
}

// claim is the record that this instance would own the lease with.
func (cfg *Config) claim() *Record {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown" // for people only: no reason to refuse
	}
	return &Record{InstanceID: uuid.NewString(), PID: os.Getpid(), Host: host, TTL: cfg.TTL, Meta: cfg.Meta}
}

// Role returns RoleOwner while IsOwner is true, otherwise RoleFollower.
func (o *Owner) Role() Role {
	if o.IsOwner() {
		return RoleOwner
	}
	return RoleFollower
}

// IsOwner reports whether this instance owns the lease at this instant. It asks
// the clock on every call: it is false from the fence deadline on, also in the
// first moment after a pause of the whole process. It costs nanoseconds and
// allocates nothing; ask before each step of the work.
func (o *Owner) IsOwner() bool { return o.a.owns() }

// Check returns nil while IsOwner is true; otherwise why it is not: the
// *LostError, ErrExpired if the deadline has passed and Lost is about to close,
// ErrReleased, or ErrNotOwner, together with what keeps a follower that stands by
// from telling who owns the lease, or from taking it.
func (o *Owner) Check() error { return o.a.check() }

// State returns where the state machine stands. It can lag behind the clock for
// a moment: to know whether to go on, ask IsOwner.
func (o *Owner) State() State { return o.a.snap.Load().state }

// InstanceID returns this instance's id if it owns or has owned the lease; as a
// follower, the holder's.
func (o *Owner) InstanceID() string { return o.a.snap.Load().holder.InstanceID }

// Holder returns the record of the current owner as this instance knows it: a
// follower as it was when it joined, one that stands by as it was at its last
// look (the zero Record if no process owned the lease then), an owner its own; after a
// loss or a release as it was. Where the holder's record was missing or replaced,
// it has no more than the InstanceID. The map is the caller's.
func (o *Owner) Holder() Record {
	s := o.a.snap.Load()
	r := *s.holder
	r.Meta = maps.Clone(r.Meta)
	if s.state == StateOwner || s.state == StateRenewing {
		r.RenewedAt = time.Now().Add(s.from - o.a.store.Now())
	}
	r.Released = r.Released || s.state == StateReleased && o.hasOwned()
	return r
}

func (o *Owner) hasOwned() bool {
	select {
	case <-o.Elected():
		return true
	default:
		return false
	}
}

// Endpoint returns the current owner's endpoint, "" if it has none or if this
// instance no longer knows who owns the lease.
func (o *Owner) Endpoint() string {
	s := o.a.snap.Load()
	if s.state == StateLost || s.state == StateReleased {
		return ""
	}
	return s.holder.Meta[EndpointMetaKey]
}

// Epoch returns the fencing token of the ownership that this instance has, had,
// or follows. Every later ownership of the lease has a higher one: a receiver of
// the owner's effects that refuses lower epochs than it has seen is safe from
// owners of the past.
func (o *Owner) Epoch() uint64 { return o.a.snap.Load().holder.Epoch }

// Elected returns a channel that is closed once this instance owns the lease: by
// Join, or later if it stands by. It stays closed after the ownership has ended.
func (o *Owner) Elected() <-chan struct{} { return o.a.elected }

// Lost returns a channel that is closed when the ownership is lost: no later than
// SafetyMargin before anyone else can own the lease, if the scheduler lets this
// process run. It is never closed for a follower, nor by Release.
func (o *Owner) Lost() <-chan struct{} { return o.a.lost }

// LostErr returns a *LostError once Lost is closed, otherwise nil.
func (o *Owner) LostErr() error {
	if lost := o.a.snap.Load().lost; lost != nil {
		return lost
	}
	return nil
}

// Context returns a context that is derived from Join's and lives while this
// instance owns the lease. Its cause is the *LostError, ErrReleased, the cause of
// Join's context, or, for a follower, ErrNotOwner: one that stands by asks again
// when Elected has closed.
func (o *Owner) Context() context.Context {
	if s := o.State(); s != StateFollower && s != StateAcquiring {
		return o.a.ctx
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(o.a.parent))
	cancel(ErrNotOwner)
	return ctx
}

// Done returns a channel that is closed when the actor has ended and every
// callback that was due has returned; for a plain follower, right after Join. No
// goroutine of the Owner is left then, with one exception: an operation that the
// operating system does not give back ends when it can, and changes nothing.
//
// Two things can still come, each from a timer. Where the context has ended an
// ownership's renewals, its loss at the deadline, with its callback, unless
// Release comes first. And once a lost lease has run out, or Release has been called
// after the loss, its files are closed.
func (o *Owner) Done() <-chan struct{} { return o.a.done }

// Release gives the lease up. IsOwner turns false first; then a successor can own
// the lease at once. Stop using the resource before. It ends the standing by of a
// follower.
//
// It may be called at any time, any number of times, and from several goroutines;
// all get the same outcome. It returns when the lease has been given up, at the
// latest when it would have run out. An error says that a successor may have to
// wait for that. For a plain follower it does nothing. After a loss it says that the
// caller has stopped: a successor, which would otherwise have to wait until the lost
// lease has run out, need not wait any longer. It is a loss if the deadline has passed when Release is called.
func (o *Owner) Release() error { return o.a.release() }

// Inspect reads the record at path, of whatever lease, without joining it. The
// error matches fs.ErrNotExist where there is no record, and ErrCorruptRecord
// where it cannot be read. That there is a record does not mean that its owner
// still lives: see Probe.
func Inspect(path string) (Record, error) {
	_, seen, err := look(path)
	switch {
	case err != nil:
		return Record{}, err
	case seen.damage != nil:
		return Record{}, seen.damage
	case seen.rec == nil:
		return Record{}, noRecord(path)
	}
	return seen.rec.public(), nil
}
