package cmdline

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v3"
)

// A DurationFlag takes plain seconds, as flock(1), timeout(1) and sleep(1) do, or a
// duration of Go: "10", "0.5", "1m30s".
type DurationFlag = cli.FlagBase[time.Duration, cli.NoConfig, seconds]

// seconds is a DurationFlag's cli.Value, and what makes one.
type seconds struct{ to *time.Duration }

func (seconds) Create(value time.Duration, to *time.Duration, _ cli.NoConfig) cli.Value {
	*to = value
	return &seconds{to}
}

func (seconds) ToString(d time.Duration) string { return d.String() }

func (s *seconds) Set(text string) error {
	d, err := parseDuration(text)
	if err == nil {
		*s.to = d
	}
	return err
}

func (s *seconds) Get() any { return *s.to }

func (s *seconds) String() string {
	if s.to == nil { // as package flag makes one to learn the zero value
		return ""
	}
	return s.to.String()
}

// parseDuration takes no exponent, NaN or infinity: a typing mistake must not
// become a wait of 30 years.
func parseDuration(text string) (time.Duration, error) {
	withUnit := text
	if strings.Trim(text, "+-.0123456789") == "" {
		withUnit += "s"
	}
	d, err := time.ParseDuration(withUnit)
	switch {
	case err != nil:
		return 0, fmt.Errorf(`invalid duration %q: give seconds ("10", "0.5"), or units ("1m30s"), up to 292 years`, text)
	case d < 0:
		return 0, errors.New("a duration cannot be negative")
	}
	return d, nil
}
