// Package linear judges histories with a checker that is not ours (porcupine).
package linear

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/ownerlease/owner/internal/history"
)

// Check judges the tenures in another way than [history.History.Check]: whether there is an order in which they could have happened one
// after another, as with a lock that hands out a fencing token. Each tenure is two
// operations: it took the lock at some moment from Sought to Owned, and it was over
// at some moment from Valid to Over.
//
// It finds what the other calls an overlap and an order of epochs, without distinguishing
// the two: there is an order if and only if the other finds neither. It does not see
// margins, vacancies, nor revivals. So it is a second, independent check of the two rules
// that matter most.
//
// To find an order takes time that grows steeply with what happens at once, and
// memory that grows with the square of the length. So a history is cut where no tenure
// is open: what comes after the cut comes after in every order, and needs to know of
// what was before no more than the highest epoch. The verdict is that of the whole.
//
// An error matches ErrUndecided if there was not enough time.
func Check(h *history.History, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for _, lease := range h.Leases() {
		owned := h.Owned(lease)
		var last uint64
		for _, window := range cut(owned) {
			if err := linearize(lease, window, last, time.Until(deadline)); err != nil {
				return err
			}
			for _, t := range window {
				last = max(last, t.Epoch)
			}
		}
	}
	return nil
}

// ErrUndecided says that no verdict was found in time, neither good nor bad.
var ErrUndecided = errors.New("not decided in time whether the history is linearizable")

// least is how many tenures a window has, if there are as many: a window for each
// would be much ado.
const least = 50

// cut parts the tenures of a lease where all that were before are over.
func cut(owned []*history.Tenure) [][]*history.Tenure {
	sorted := slices.SortedFunc(slices.Values(owned), func(a, b *history.Tenure) int { return cmp.Compare(a.Sought, b.Sought) })
	var windows [][]*history.Tenure
	var over time.Duration
	from := 0
	for i, t := range sorted {
		if i-from >= least && t.Sought > over {
			windows = append(windows, sorted[from:i])
			from = i
		}
		over = max(over, t.Valid, t.Owned, ended(t))
	}
	return append(windows, sorted[from:])
}

// ended is when it was over, after everything if that is not known.
func ended(t *history.Tenure) time.Duration {
	return cmp.Or(t.Over, math.MaxInt64)
}

func linearize(lease string, window []*history.Tenure, last uint64, limit time.Duration) error {
	var ops []porcupine.Operation
	for i, t := range window {
		taken := step{take: true, instance: t.Instance, epoch: t.Epoch}
		given := step{instance: t.Instance}
		ops = append(ops,
			porcupine.Operation{ClientId: i, Input: taken, Call: int64(t.Sought), Return: int64(t.Owned)},
			porcupine.Operation{ClientId: i, Input: given, Call: int64(t.Valid), Return: int64(max(t.Valid, ended(t)))})
	}
	if limit <= 0 {
		return ErrUndecided
	}
	switch porcupine.CheckOperationsTimeout(lock(last), ops, limit) {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return fmt.Errorf("%s: %d tenures at once: %w", lease, len(window), ErrUndecided)
	}
	var told strings.Builder
	for _, t := range window {
		fmt.Fprintf(&told, "\n\t%v", t)
	}
	return fmt.Errorf("%s: after epoch %d, there is no order for these %d tenures%s", lease, last, len(window), told.String())
}

// A step takes the lock or gives it back.
type step struct {
	take     bool
	instance string
	epoch    uint64
}

// A held lock is one that an instance has; "" is none.
type held struct {
	by   string
	last uint64 // the highest epoch that was handed out
}

// lock is the model: it is acquired when no instance has it, with an epoch above the
// last, and released by its holder.
func lock(last uint64) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return held{last: last} },
		Step: func(state, input, _ any) (bool, any) {
			s, in := state.(held), input.(step)
			if in.take {
				return s.by == "" && in.epoch > s.last, held{in.instance, in.epoch}
			}
			return s.by == in.instance, held{last: s.last}
		},
	}
}
