package owner

import "sync"

// A queue runs functions one after the other, in the order in which they were
// put, in a goroutine that exists only while there is something to run. put never waits.
type queue struct {
	mu      sync.Mutex
	waiting []func()
	running bool
}

func (q *queue) put(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, f)
	if !q.running {
		q.running = true
		go q.run()
	}
}

// len returns how many functions have not begun.
func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

func (q *queue) run() {
	done := false
	defer func() {
		if !done { // a function has ended its goroutine, as t.Fatal does
			go q.run()
		}
	}()
	for f := q.next(); f != nil; f = q.next() {
		f()
	}
	done = true
}

func (q *queue) next() func() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.waiting, q.running = nil, false
		return nil
	}
	f := q.waiting[0]
	q.waiting = q.waiting[1:]
	return f
}
