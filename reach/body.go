package reach

import (
	"context"
	"errors"
	"io"
	"sync"
)

const (
	// maxKept is how much of a body is kept to send it again. Before the owner has
	// accepted the request no more is sent.
	maxKept   = 1 << 20
	bodyChunk = 32 << 10
)

var (
	errBodyGone    = errors.New("its body is larger than 1 MiB and has no GetBody, and cannot be sent again")
	errBodyDropped = errors.New("reach: this try is over")
)

// A keptBody is a request's body that cannot be had again, and is kept as it is read.
// One try after the other reads it; a read of the source that a try has begun is the
// next one's, too.
type keptBody struct {
	src io.ReadCloser

	mu      sync.Mutex
	kept    []byte        // what was read, from base on
	base    int64         // if it is not 0, the beginning has gone
	err     error         // how the source has ended
	whole   bool          // all is kept, up to maxKept; else what a try has read goes
	reading bool          // a read of the source is under way
	closing bool          // the source is to be closed
	closed  bool          // and was
	changed chan struct{} // closed at each change
}

func newKeptBody(src io.ReadCloser) *keptBody {
	return &keptBody{src: src, whole: true, changed: make(chan struct{})}
}

func (b *keptBody) change() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// fill reads from the source. Only one does at a time, when all that is kept was read.
func (b *keptBody) fill() {
	chunk := make([]byte, bodyChunk)
	n, err := b.src.Read(chunk)
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.whole || len(b.kept)+n > maxKept {
		b.whole = false
		b.base += int64(len(b.kept))
		b.kept = b.kept[:0]
	}
	b.kept = append(b.kept, chunk[:n]...)
	b.err, b.reading = err, false
	b.closeSource()
	b.change()
}

// keepNothing says that the body will not be sent again.
func (b *keptBody) keepNothing() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.whole = false
}

// close closes the source, when it is not being read: some would wait for that.
func (b *keptBody) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closing = true
	b.closeSource()
}

func (b *keptBody) closeSource() {
	if b.closing && !b.reading && !b.closed {
		b.closed = true
		_ = b.src.Close()
	}
}

// A bodyTry reads a kept body for one try.
type bodyTry struct {
	b        *keptBody
	pos      int64
	accepted <-chan struct{} // closed when the owner has accepted the request
	ended    <-chan struct{} // closed when nothing more is read from the connection

	once    sync.Once
	dropped chan struct{}

	mu    sync.Mutex
	final bool // this try was answered: when it is closed, the source is
	over  bool
}

func (b *keptBody) try(accepted <-chan struct{}) *bodyTry {
	return &bodyTry{b: b, accepted: accepted, dropped: make(chan struct{})}
}

func (t *bodyTry) Read(p []byte) (int, error) {
	for {
		n, changed, err := t.next(p)
		if changed == nil {
			return n, err
		}
		select {
		case <-changed:
		case <-t.dropped:
			return 0, errBodyDropped
		case <-t.ended: // net/http waits for its writer before it says so
			return 0, errBodyDropped
		}
	}
}

// next returns what there is; a channel where there is nothing until that closes.
func (t *bodyTry) next(p []byte) (int, <-chan struct{}, error) {
	b := t.b
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case isClosed(t.dropped):
		return 0, nil, errBodyDropped
	case t.pos < b.base:
		return 0, nil, errBodyGone
	case t.pos < b.base+int64(len(b.kept)):
		n := copy(p, b.kept[t.pos-b.base:])
		t.pos += int64(n)
		return n, nil, nil
	case b.err != nil:
		return 0, nil, b.err
	case t.pos+bodyChunk > maxKept && !isClosed(t.accepted):
		return 0, t.accepted, nil // what was sent without a need could be needed again
	case b.closed || b.closing:
		return 0, nil, errBodyDropped
	case !b.reading:
		b.reading = true
		go b.fill()
	}
	return 0, b.changed, nil
}

// drop ends the try's reading, also of a source that does not answer.
func (t *bodyTry) drop() { t.once.Do(func() { close(t.dropped) }) }

// Close is called by net/http, when it has sent the body or given up.
func (t *bodyTry) Close() error {
	t.drop()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	if t.final {
		t.b.close()
	}
	return nil
}

// settle says that there will be no other try.
func (t *bodyTry) settle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.final = true
	if t.over {
		t.b.close()
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// An answerBody is the body of a response. It ends with the request's context.
type answerBody struct {
	io.ReadCloser
	a *attempt
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		if ctx := b.a.call.ctx; err != io.EOF && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		b.a.release()
	}
	return n, err
}

func (b *answerBody) Close() error {
	err := b.ReadCloser.Close()
	b.end()
	return err
}

// end says that nothing of the response is used any more. What net/http has not sent of
// the request by now, it does not send any more; but it would wait for a source that does
// not answer.
func (b *answerBody) end() {
	b.a.dropBody()
	b.a.release()
}

// An upgradedBody is that of a response by which the protocol was switched.
type upgradedBody struct {
	*answerBody
	io.Writer
}

func (b *upgradedBody) CloseWrite() error { return closeWrite(b.Writer) }
