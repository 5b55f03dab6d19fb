package sqlfence

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"sync"
)

// maxResult is how long a result of Once may be, in bytes.
const maxResult = 1 << 20

// requestKey is the key of a context's request.
type requestKey struct{}

// WithRequest returns a context in which [Once] knows the request that a key belongs to:
// its body and whatever else makes it another request, such as its method and path. Only
// a SHA-256 of it is kept. Without it, all requests of a key count as the same.
func WithRequest(ctx context.Context, request []byte) context.Context {
	return context.WithValue(ctx, requestKey{}, sha256.Sum256(request))
}

// Once runs fn for a key once in all of the lease's time, and keeps its result. For a key
// whose transaction has committed, it returns the kept result without calling fn, whichever
// instance owns the lease by then. So a request that is sent again with its Idempotency-Key takes
// effect once, over the death of an owner as well.
//
// tx is one that [Fence.Tx] has given, and fn's effects must be in it: what fn does
// elsewhere happens again if the transaction does not commit. If fn fails or panics, the
// transaction is rolled back even if its function returns nil, and the key is free. A
// second transaction with the same key waits for the first one's end, and can fail with
// the database's error for a deadlock or a serialization failure, after which it can be
// tried again.
//
// A key has 1 to 255 bytes of any value, and belongs to the lease. It is refused with
// [ErrKeyReused] if it comes with another request: see [WithRequest]. A result has at
// most 1 MiB, and an empty one is returned as nil.
//
// The rows of owner_once stay until they are deleted: see the package's documentation.
func Once(ctx context.Context, tx *sql.Tx, key string, fn func() ([]byte, error)) ([]byte, error) {
	c, ok := lookup(tx)
	switch {
	case !ok:
		return nil, invalid("once: the transaction is not one of Fence.Tx, or has ended")
	case key == "" || len(key) > maxName:
		return nil, invalid("once: the idempotency key has %d bytes: want 1 to %d", len(key), maxName)
	case fn == nil:
		return nil, invalid("once: no function")
	case !c.begin(key):
		return nil, invalid("once: the key %q is being used by this transaction", key)
	}
	// Until the result is stored, the transaction must not commit, however this ends.
	err := fmt.Errorf("sqlfence: once: the function for the key %q has not returned", key)
	defer func() { c.end(key, err) }()
	result, err := c.once(ctx, tx, key, fn)
	if len(result) == 0 {
		result = nil // databases and drivers do not agree on what an empty one is
	}
	return result, err
}

// once does what Once says, in the transaction.
func (c *call) once(ctx context.Context, tx *sql.Tx, key string, fn func() ([]byte, error)) ([]byte, error) {
	request, _ := ctx.Value(requestKey{}).([sha256.Size]byte)
	if _, err := tx.ExecContext(ctx, c.s.reserve, c.lease, []byte(key), request[:]); err != nil {
		return nil, fmt.Errorf("sqlfence: once: reserve the key %q: %w", key, err)
	}
	var before, result []byte
	var done int
	if err := tx.QueryRowContext(ctx, c.s.recall, c.lease, []byte(key)).Scan(&before, &done, &result); err != nil {
		return nil, fmt.Errorf("sqlfence: once: look up the key %q: %w", key, err)
	}
	switch {
	case !bytes.Equal(before, request[:]):
		return nil, fmt.Errorf("%w: %q", ErrKeyReused, key)
	case done != 0: // only rows of this transaction are seen before they are done
		return result, nil
	}
	result, err := fn()
	if err != nil {
		return nil, err
	}
	if len(result) > maxResult {
		return nil, invalid("once: the result for the key %q has %d bytes: want at most %d", key, len(result), maxResult)
	}
	stored, err := tx.ExecContext(ctx, c.s.record, result, c.lease, []byte(key))
	if err != nil {
		return nil, fmt.Errorf("sqlfence: once: keep the result for the key %q: %w", key, err)
	}
	if n, err := stored.RowsAffected(); err == nil && n != 1 {
		return nil, fmt.Errorf("sqlfence: once: the row of the key %q is gone", key)
	}
	return result, nil
}

// call is a transaction while its function runs.
type call struct {
	s     *statements
	lease string

	mu      sync.Mutex
	running map[string]bool // keys
	failed  error           // why it must not commit
}

// calls are the calls by their transaction: Once is given no more than that.
var calls sync.Map // *sql.Tx → *call

func track(tx *sql.Tx, s *statements, lease string) *call {
	c := &call{s: s, lease: lease, running: map[string]bool{}}
	calls.Store(tx, c)
	return c
}

func (c *call) forget(tx *sql.Tx) { calls.Delete(tx) }

func lookup(tx *sql.Tx) (*call, bool) {
	v, ok := calls.Load(tx)
	if !ok {
		return nil, false
	}
	return v.(*call), true
}

func (c *call) begin(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running[key] {
		return false
	}
	c.running[key] = true
	return true
}

// end takes note of how a key's turn has ended. A key of another request has changed
// nothing, so the transaction may answer for it and commit.
func (c *call) end(key string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.running, key)
	if err != nil && !errors.Is(err, ErrKeyReused) && c.failed == nil {
		c.failed = err
	}
}

// failure is why the transaction must not commit.
func (c *call) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.running {
		return fmt.Errorf("sqlfence: once: the function for the key %q has not returned", key)
	}
	return c.failed
}
