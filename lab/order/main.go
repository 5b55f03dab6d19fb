// Command order reads histories, as the tests of a store write them, and reports for each
// whether there is an order in which its tenures could have happened one after another.
//
//	go run -C lab ./order FILE...
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/ownerlease/owner/internal/history"
	"github.com/ownerlease/owner/lab/internal/linear"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "order: no file is given")
		os.Exit(2)
	}
	failed := false
	for _, path := range os.Args[1:] {
		if err := check(path); err != nil {
			fmt.Fprintf(os.Stderr, "order: %s: %v\n", path, err)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}

func check(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	tenures, err := history.Read(f)
	if err != nil {
		return err
	}
	return linear.Check(&history.History{Tenures: tenures}, time.Minute)
}
