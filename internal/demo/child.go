package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/clock"
)

// childEnv makes one of the three processes of this program: the lease's path. It
// is no interface.
const childEnv = "_OWNER_DEMO"

// release is the one command that a child takes. The end of its stdin is the other.
const release = "release"

// A report is a line from a child to its parent. Times are by internal/clock.
type report struct {
	Event event `json:"event"`
	// At is when it happened: of a sample, when IsOwner was asked; of a release,
	// when it was begun.
	At time.Duration `json:"at"`

	Answered time.Duration `json:"answered,omitempty"` // a sample's
	Owns     bool          `json:"owns,omitempty"`     // the answer
	Instance string        `json:"instance,omitempty"` // elected
	Epoch    uint64        `json:"epoch,omitempty"`    // elected
	Fence    time.Duration `json:"fence,omitempty"`    // lost: IsOwner was false from here on
	Why      string        `json:"why,omitempty"`      // lost, failed
}

type event string

const (
	standsBy event = "stands by"
	sampled  event = "sampled"
	elected  event = "elected"
	lost     event = "lost"
	released event = "released"
	failed   event = "failed"
)

// RunChildIfRequested makes this process one of the three, if Run has started it as one, and
// then does not return. It must come first in main.
func RunChildIfRequested() {
	lease := os.Getenv(childEnv)
	if lease == "" {
		return
	}
	// The child ends with its stdin: also when the parent was killed, which ends stdout
	// as well, and makes the kernel send SIGHUP to a child that it had stopped.
	signal.Ignore(os.Interrupt, syscall.SIGHUP, syscall.SIGPIPE)
	c := &child{commands: make(chan string), out: json.NewEncoder(os.Stdout), tick: time.Tick(time.Millisecond)}
	go c.listen(os.Stdin)
	c.live(lease)
	tidy(lease)
	os.Exit(0)
}

// A child is one of the three processes.
type child struct {
	commands chan string // closed when the parent has no more to say
	out      *json.Encoder
	tick     <-chan time.Time
}

func (c *child) listen(stdin io.Reader) {
	for lines := bufio.NewScanner(stdin); lines.Scan(); {
		c.commands <- lines.Text()
	}
	close(c.commands)
}

// tell ignores errors: the parent has gone then.
func (c *child) tell(r report) { _ = c.out.Encode(r) }

// live is a standby, an owner, and a standby again after a loss, until the parent ends
// it.
func (c *child) live(lease string) {
	for again := true; again; {
		cfg := owner.Config{LeasePath: lease, TTL: ttl, SafetyMargin: margin, Standby: true}
		o, err := owner.Join(context.Background(), cfg)
		if err != nil {
			c.tell(report{Event: failed, Why: err.Error()})
			return
		}
		again = c.follow(o)
	}
}

// follow reports all that happens to one membership. It returns false when the child is
// to end.
func (c *child) follow(o *owner.Owner) bool {
	c.tell(report{Event: standsBy, At: clock.Now()})
	election := o.Elected()
	for {
		c.sample(o)
		select {
		case <-c.tick:
		case <-election:
			election = nil
			at := clock.Now()
			c.sample(o)
			c.tell(report{Event: elected, At: at, Instance: o.InstanceID(), Epoch: o.Epoch()})
		case <-o.Lost():
			c.tell(loss(o))
			return true
		case <-c.commands:
			c.release(o)
			for range c.commands {
			}
			return false
		}
	}
}

// sample asks IsOwner. The answer holds for some moment between the two readings
// of the clock.
func (c *child) sample(o *owner.Owner) {
	asked := clock.Now()
	owns := o.IsOwner()
	c.tell(report{Event: sampled, At: asked, Answered: clock.Now(), Owns: owns})
}

func (c *child) release(o *owner.Owner) {
	c.sample(o)
	began := clock.Now()
	if err := o.Release(); err != nil {
		c.tell(report{Event: failed, Why: err.Error()})
	}
	c.sample(o)
	c.tell(report{Event: released, At: began})
}

func loss(o *owner.Owner) report {
	var e *owner.LostError
	errors.As(o.LostErr(), &e)
	renewed := clock.Now() - time.Since(e.At) - e.SinceRenewal
	return report{Event: lost, At: clock.Now(), Fence: renewed + ttl - margin, Why: strings.TrimPrefix(e.Reason.Error(), "owner: ")}
}

// tidy removes what the parent would if it still ran. It removes only what belongs to the
// lease.
func tidy(lease string) {
	files, _ := filepath.Glob(lease + "*")
	for _, f := range files {
		_ = os.Remove(f)
	}
	_ = os.Remove(filepath.Dir(lease)) // not before it is empty
}
