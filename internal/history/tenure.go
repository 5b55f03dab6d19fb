// Package history judges what the instances of a lease say of themselves: whether
// two of them were ever valid at once, and whether the lease was kept in order
// otherwise. It knows neither files nor processes, and serves any store.
//
// All times are readings of one clock that all instances share. An instance reports only
// what is proven: it reads the clock, asks IsOwner, and reads the clock again. A "yes"
// was true at some moment between the two readings, and so was a "no". Nothing is assumed
// about the time between questions, so that a violation that is found here has happened.
package history

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// A Tenure is one instance's report on its membership. Each field says which readings its
// moment lies between; 0 is a moment that has not come.
//
//	Joined … Sought … Owned … Valid … Over
//	              │←──┬──→│       │←─┬─→│
//	        became valid here     stopped being it here
type Tenure struct {
	Lease    string `json:"lease"`
	By       string `json:"by,omitempty"` // such as the process; for display
	Instance string `json:"instance,omitempty"`
	Epoch    uint64 `json:"epoch,omitempty"`

	// Margin is the safety margin that the instance was promised.
	Margin time.Duration `json:"margin,omitempty"`

	// Joined is since when it was a standby; 0 if it was none.
	Joined time.Duration `json:"joined,omitempty"`
	// Sought is the last reading at which it surely was not valid yet.
	Sought time.Duration `json:"sought"`
	// Owned is the reading after the first yes; 0 if there was none: then nothing proves
	// that it was ever valid.
	Owned time.Duration `json:"owned,omitempty"`
	// Valid is the reading before the last yes, or a deadline until which it would
	// have said yes, had it been able to say anything.
	Valid time.Duration `json:"valid,omitempty"`
	// Over is a reading at which it surely was not valid any more.
	Over time.Duration `json:"over,omitempty"`

	// Freed is the reading before the lease was freed, by a release or by the end of the
	// process: a successor need not keep a margin from here on.
	Freed time.Duration `json:"freed,omitempty"`
	// Expiry is when its lease expires without another renewal, as far as it knows.
	Expiry time.Duration `json:"expiry,omitempty"`
	// End is what has ended the tenure.
	End End `json:"end,omitempty"`
}

// End is what has ended a tenure.
type End string

// The ends.
const (
	Released  End = "released"
	Killed    End = "killed"
	Expired   End = "expired"
	TakenOver End = "taken over"
	Revoked   End = "revoked"
)

// String returns it in one line.
func (t *Tenure) String() string {
	s := fmt.Sprintf("epoch %d of %s: sought %v, owned %v, valid %v, over %v", t.Epoch, t.By, t.Sought, t.Owned, t.Valid, t.Over)
	if t.Freed > 0 {
		s += fmt.Sprintf(", freed %v", t.Freed)
	}
	return s + fmt.Sprintf(", margin %v, %s", t.Margin, t.End)
}

// barred is until when no other may become valid.
func (t *Tenure) barred() time.Duration {
	until := t.Valid + t.Margin
	if t.Freed > 0 {
		until = min(until, max(t.Freed, t.Valid))
	}
	return until
}

// Held is the time in which no other could be expected to own.
func (t *Tenure) Held() Span {
	from := cmp.Or(t.Owned, t.Sought)
	if t.Over == 0 {
		return Span{from, never}
	}
	free := t.Expiry
	if t.Freed > 0 {
		free = min(free, t.Freed)
	}
	return Span{from, max(t.Over, free)}
}

// Stood is the time in which it is known to have been a standby.
func (t *Tenure) Stood() Span {
	if t.Joined == 0 {
		return Span{}
	}
	return Span{t.Joined, cmp.Or(t.Owned, t.Over)}
}

// check refuses what cannot have been seen: the writer of the history has a bug.
func (t *Tenure) check() error {
	switch {
	case t.Owned == 0:
		return nil
	case t.Epoch == 0 || t.Instance == "":
		return fmt.Errorf("owned without an epoch or an instance: %v", t)
	case t.Sought > t.Owned || t.Sought > t.Valid:
		return fmt.Errorf("owned before it was sought: %v", t)
	}
	return nil
}

// Read reads tenures, one a line. What has written them may have been killed in
// the middle of the last line, which is left out then.
func Read(r io.Reader) ([]Tenure, error) {
	var all []Tenure
	var damage error
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		if damage != nil {
			return nil, damage
		}
		var t Tenure
		if err := json.Unmarshal(lines.Bytes(), &t); err != nil {
			damage = fmt.Errorf("line %d: %w", n, err)
			continue
		}
		all = append(all, t)
	}
	return all, lines.Err()
}
