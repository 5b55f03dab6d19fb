package explore

import "time"

// A World is one run of what is explored. What it does must follow from the choices
// alone: runs are repeated.
type World interface {
	// Choices returns how many things can happen next, Do has one of them happen.
	Choices() int
	Do(choice int)
	// Key identifies a state: two with the same key have the same future.
	Key() uint64
	// Check returns what is wrong with the state that Do has led to. At is called where
	// nothing more can happen: AtEnd may continue with the world as it likes.
	Check() error
	AtEnd() error
	// Trace returns the trace, if the world was made with one.
	Trace() []string
	// Close ends whatever still runs.
	Close()
}

// A Result says what has been explored.
type Result struct {
	States  int // different ones
	Ends    int // of them, those in which nothing more could happen
	Runs    int // worlds that it took
	Deepest int // the most choices in a run
	Took    time.Duration
	// Complete: every run was tried to its end.
	Complete bool
	// Err is the fault that was found, and Trace how it came about.
	Err   error
	Trace []string
}

// Search tries every sequence of choices, up to a number of states. newWorld makes
// each world in the same state; told says whether its trace is wanted.
//
// A run continues until nothing can happen or the state has been seen before. Then
// another begins from the start, with the last choice that was not made: the code that
// runs cannot be put back into a state. Digests of 64 bits identify states: that two of
// ten million collide has a chance of one in 400,000.
func Search(limit int, newWorld func(told bool) World) (r Result) {
	start := time.Now()
	defer func() { r.Took = time.Since(start) }()
	s := &search{seen: map[uint64]struct{}{}, newWorld: newWorld, Result: &r}
	s.waiting = [][]uint8{nil}
	for len(s.waiting) > 0 {
		if r.States >= limit {
			return r
		}
		path := s.waiting[len(s.waiting)-1]
		s.waiting = s.waiting[:len(s.waiting)-1]
		if wrong, err := s.run(path); err != nil {
			r.Err, r.Trace = err, s.tell(wrong)
			return r
		}
	}
	r.Complete = true
	return r
}

type search struct {
	*Result
	seen     map[uint64]struct{}
	waiting  [][]uint8 // sequences of choices that no run has followed to the end
	newWorld func(bool) World
}

// run follows a sequence of choices and then takes the first choice each time. The others
// wait for later runs.
func (s *search) run(path []uint8) (wrong []uint8, err error) {
	s.Runs++
	w := s.newWorld(false)
	defer w.Close()
	for _, choice := range path {
		w.Do(int(choice))
	}
	for {
		key := w.Key()
		if _, ok := s.seen[key]; ok {
			return nil, nil
		}
		s.seen[key] = struct{}{}
		s.States++
		s.Deepest = max(s.Deepest, len(path))
		if err := w.Check(); err != nil {
			return path, err
		}
		n := w.Choices()
		if n == 0 {
			s.Ends++
			return path, w.AtEnd()
		}
		for other := n - 1; other > 0; other-- {
			s.waiting = append(s.waiting, append(path[:len(path):len(path)], uint8(other)))
		}
		path = append(path, 0)
		w.Do(0)
	}
}

// tell repeats a run for its trace.
func (s *search) tell(path []uint8) []string {
	w := s.newWorld(true)
	defer w.Close()
	for _, choice := range path {
		w.Do(int(choice))
	}
	if w.Check() == nil {
		_ = w.AtEnd()
	}
	return w.Trace()
}
