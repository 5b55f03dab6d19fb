package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/clock"
)

var crowdColumns = []column{
	{"joined, ms each", millisecond, each},
	{"memory, MB each (what is shared divided)", megabyte, each},
	{"idle CPU, µs/s each", microsecond, each},
}

var processesAtOne = &scenario{
	key: "d", title: "Processes at one lease: one owns it, the others stand by",
	about: "All join at once; the owner renews every %s. " +
		"It is then killed, nine times, and another takes over: the medians. " +
		"The CPU of a takeover is that of all processes together, from the kill until they rest again (half of %s later).",
	processes: true,
	columns: append(crowdColumns,
		column{"takeover after `kill -9`, ms", millisecond, growth},
		column{"the worst of them, ms", millisecond, growth},
		column{"CPU of a takeover, ms each", millisecond, each},
	),
	affordable: withHints,
	measure:    func(j *job) ([]float64, error) { return j.standingCrowd() },
}

var processesInOneFolder = &scenario{
	key: "g", title: "Processes that each own a lease of their own, all in one folder",
	about: "All join at once. Then each renews after its own share of %s, between a half and the whole, so that not all do at the same moment; " +
		"all others, who watch the folder, hear of it.",
	processes:  true,
	columns:    crowdColumns,
	affordable: onlyWithHints,
	measure:    func(j *job) ([]float64, error) { return j.owningCrowd() },
}

const takeovers = 9

// A crowd is N processes at one lease, one the owner and the others standbys; or N
// processes that each own one.
type crowd struct {
	j       *job
	apart   bool // each has its own lease
	members map[*child]bool
	elected chan election
}

type election struct {
	by *child
	at time.Duration // by the clock that all share
}

func (j *job) crowd(apart bool) *crowd {
	return &crowd{j: j, apart: apart, members: map[*child]bool{}, elected: make(chan election, j.N+takeovers)}
}

func (j *job) standingCrowd() ([]float64, error) {
	c := j.crowd(false)
	defer c.end()
	row, err := c.atRest()
	if err != nil {
		return nil, err
	}
	first, err := c.election()
	if err != nil {
		return nil, err
	}
	current := first.by
	var took, used []time.Duration
	for range takeovers {
		t, u, next, err := c.takeover(current)
		if err != nil {
			return nil, err
		}
		took, used, current = append(took, t), append(used, u), next
	}
	return append(row, median(took), float64(slices.Max(took)), median(used)), nil
}

func (j *job) owningCrowd() ([]float64, error) {
	c := j.crowd(true)
	defer c.end()
	row, err := c.atRest()
	if err != nil {
		return nil, err
	}
	for range j.N {
		if _, err := c.election(); err != nil {
			return nil, err
		}
	}
	return row, nil
}

// election waits for one. The limit only ends a hang.
func (c *crowd) election() (election, error) {
	select {
	case e := <-c.elected:
		return e, nil
	case <-time.After(2 * ttl):
		return election{}, errors.New("the lease has no owner")
	}
}

// atRest lets N join, and measures crowdColumns.
func (c *crowd) atRest() ([]float64, error) {
	took, err := c.join(c.j.N)
	if err != nil {
		return nil, err
	}
	time.Sleep(c.j.Rest)
	memory, err := c.memory()
	if err != nil {
		return nil, err
	}
	idle, err := c.used(func() error { time.Sleep(c.j.Rest); return nil })
	return []float64{float64(took), memory, float64(idle) / c.j.Rest.Seconds()}, err
}

// join starts this many processes, and returns the time that they took to join, all at
// once, when all had started.
func (c *crowd) join(n int) (time.Duration, error) {
	var fresh []*child
	for range n {
		of := *c.j
		of.Role = "stand"
		if c.apart {
			of.First = len(c.members)
		}
		p, err := startChild(&of)
		if err != nil {
			return 0, err
		}
		c.members[p] = true
		fresh = append(fresh, p)
	}
	if err := expect(fresh, up); err != nil {
		return 0, err
	}
	start := time.Now()
	for _, p := range fresh {
		if err := p.say("join"); err != nil {
			return 0, err
		}
	}
	if err := expect(fresh, joined); err != nil {
		return 0, err
	}
	took := time.Since(start)
	for _, p := range fresh {
		go c.listen(p)
	}
	return took, nil
}

// listen receives an election, if that comes before the process's end.
func (c *crowd) listen(p *child) {
	var at int64
	if line, err := p.hear(); err == nil {
		_, _ = fmt.Sscan(line, &at)
		c.elected <- election{p, time.Duration(at)}
	}
}

// takeover kills the owner, and starts another process as a standby.
func (c *crowd) takeover(current *child) (took, used time.Duration, next *child, err error) {
	delete(c.members, current)
	defer current.end()
	used, err = c.used(func() error {
		killed := clock.Now()
		if err := current.cmd.Process.Kill(); err != nil {
			return err
		}
		e, err := c.election()
		if err != nil {
			return err
		}
		took, next = e.at-killed, e.by
		time.Sleep(c.j.Rest / 2)
		return nil
	})
	if err != nil {
		return 0, 0, nil, err
	}
	_, err = c.join(1)
	time.Sleep(c.j.Rest / 2)
	return took, used, next, err
}

// used returns the CPU time that all together have used meanwhile.
func (c *crowd) used(during func() error) (time.Duration, error) {
	before, err := c.cpu()
	if err != nil {
		return 0, err
	}
	if err := during(); err != nil {
		return 0, err
	}
	after, err := c.cpu()
	return after - before, err
}

func (c *crowd) cpu() (sum time.Duration, err error) {
	for p := range c.members {
		used, err := cpu(p.pid())
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}

func (c *crowd) memory() (sum float64, err error) {
	for p := range c.members {
		m, err := share(p.pid())
		if err != nil {
			return 0, err
		}
		sum += m
	}
	return sum, nil
}

func (c *crowd) end() {
	for p := range c.members { // all first: no takeover follows
		_ = p.cmd.Process.Kill()
	}
	for p := range c.members {
		p.end()
	}
}

// The lines that a child prints.
const (
	up     = "is up"
	joined = "has joined"
)

// stand is a child that joins on request, is a standby, and reports when it is elected.
func stand(j *job) error {
	in := bufio.NewScanner(os.Stdin)
	fmt.Println(up)
	if !in.Scan() {
		return nil
	}
	o, err := owner.Join(context.Background(), owner.Config{
		LeasePath: filepath.Join(j.Dir, fmt.Sprint(j.First, ".lease")), TTL: ttl, Endpoint: endpoint, Standby: true,
		RenewInterval: j.Rest - j.Rest/2*time.Duration(j.First)/time.Duration(j.N),
	})
	if err != nil {
		fmt.Println(err) // to the process that has started it
		return nil
	}
	fmt.Println(joined)
	go func() {
		<-o.Elected()
		fmt.Println(int64(clock.Now()))
	}()
	in.Scan() // until the parent has gone
	return nil
}
