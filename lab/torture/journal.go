package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/ownerlease/owner/internal/history"
)

// lineSize is what a tenure takes in a journal. It is a power of two, so that no line
// lies on two pages: a process that is killed has written one or has not.
const lineSize = 512

// A journal is a worker's account: a line for each tenure, of which the last one is
// rewritten in place with everything that is seen. So what a killed process has seen
// is known to its end, and an hour of samples takes no more room than its tenures.
type journal struct {
	file *os.File
	line int64
}

// put writes the present line.
func (j *journal) put(t *history.Tenure) error {
	b, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if len(b) >= lineSize {
		return fmt.Errorf("a tenure of %d bytes: %s", len(b), b)
	}
	_, err = j.file.WriteAt(fmt.Appendf(nil, "%-*s\n", lineSize-1, b), j.line*lineSize)
	return err
}

// turn leaves the present line as it is.
func (j *journal) turn() { j.line++ }
