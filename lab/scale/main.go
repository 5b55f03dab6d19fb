// Scale measures how the library grows: Owners, followers, processes and files from a few
// to ten thousand, as Markdown tables. A separate process, which this program starts from
// itself, measures each row.
//
//	go run -C lab ./scale > scale.md
//
// A table's last line says how each column grows in its last decade, that of all
// together where the rows show one's: N^1 is proportional to N, N^0 does not change.
// What grows faster than it should is in bold.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

func main() {
	beChild()
	exit(run(os.Args[1:], os.Stdout))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// A scenario is one table.
type scenario struct {
	key, title string
	about      string // how it was measured; %s is the interval
	processes  bool   // N counts processes
	columns    []column
	// affordable returns how many of n can be measured here, and why not all.
	affordable func(n int) (int, string)
	measure    func(*job) ([]float64, error) // one number for each column
}

// A column says how to show a row's number.
type column struct {
	name  string
	scale float64 // one of the column's unit
	kind  kind
}

type kind int

const (
	whole  kind = iota // as it is; better if it did not grow
	each               // the total, shown for one of N
	growth             // as it is, but is expected to grow like N
)

var scenarios = []*scenario{ownersInOne, ownersApart, followersInOne, processesAtOne, leasesLying, watchersInOne, processesInOneFolder}

// A job is a row to be measured. It is handed to a child as JSON.
type job struct {
	Role     string // what the child is to be: see beChild
	Scenario string
	N        int
	Dir      string        // an empty folder
	Rest     time.Duration // how long to measure the idle cost: one renewal interval
	Profile  string        // a folder for CPU profiles, "" for none
	First    int           // of a child's leases
}

const (
	ttl      = 30 * time.Second
	endpoint = "unix:/run/user/1000/some.sock"
)

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("scale", flag.ContinueOnError)
	n := flags.String("n", "100,300,1000,3000,10000", "how many Owners, followers or leases")
	processes := flags.String("processes", "20,50,100,200,500", "how many processes")
	only := flags.String("only", "abcdefg", "which tables, by their letters")
	rest := flags.Duration("rest", 3*time.Second, "the renewal interval, and for how long to measure the idle cost")
	dir := flags.String("dir", "", "where the leases are to be (default: the folder for temporary files)")
	profile := flags.String("profile", "", "an existing folder in which to leave a CPU profile of each row's parts")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	sizes, err := numbers(*n)
	if err != nil {
		return err
	}
	counts, err := numbers(*processes)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "On %d CPUs, %s/%s, %s; the TTL is %v. A table's last line says how the total grows from a tenth of the greatest N on: with N^1 if each costs the same; in bold, what grows faster than it should.\n",
		runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), ttl)
	var failed error // rows; the others are measured anyway
	for _, s := range scenarios {
		if !strings.Contains(*only, s.key) {
			continue
		}
		of := sizes
		if s.processes {
			of = counts
		}
		err := s.table(out, job{Role: "row", Scenario: s.key, Dir: *dir, Rest: *rest, Profile: *profile}, of)
		failed = errors.Join(failed, err)
	}
	return failed
}

func numbers(list string) (ns []int, err error) {
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n <= 0 {
			return nil, fmt.Errorf("%q in %q is not a number above 0", text, list)
		}
		ns = append(ns, n)
	}
	return ns, nil
}

// inChild measures a row in a child, in a new folder.
func (s *scenario) inChild(j job) ([]float64, error) {
	dir, err := os.MkdirTemp(j.Dir, "scale")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if j.Dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	cmd, err := command(&j)
	if err != nil {
		return nil, err
	}
	said, err := cmd.Output()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(ended.Stderr))
	}
	var values []float64
	if err == nil {
		err = json.Unmarshal(said, &values)
	}
	return values, err
}

// childEnv makes a child of this program: its job, as JSON. It is no interface.
const childEnv = "_OWNER_SCALE"

func command(j *job) (*exec.Cmd, error) {
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	return cmd, nil
}

// beChild does the job of a child, and does not return then.
func beChild() {
	text := os.Getenv(childEnv)
	if text == "" {
		return
	}
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		exit(err)
	}
	roles := map[string]func(*job) error{"row": measureRow, "own": own, "stand": stand}
	exit(roles[j.Role](&j))
}

func measureRow(j *job) error {
	for _, s := range scenarios {
		if s.key == j.Scenario {
			values, err := s.measure(j)
			if err != nil {
				return err
			}
			return json.NewEncoder(os.Stdout).Encode(values)
		}
	}
	return fmt.Errorf("there is no scenario %q", j.Scenario)
}
