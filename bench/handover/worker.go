//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cloudflare/tableflip"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/reach"
)

// These make a process a version of the service.
const (
	workerEnv  = "HANDOVER_WORKER"
	dirEnv     = "HANDOVER_DIR"
	addressEnv = "HANDOVER_ADDRESS"
)

// takes is how long a request takes.
const takes = 2 * time.Millisecond

func work(mode string) error {
	s := &service{dir: os.Getenv(dirEnv), address: os.Getenv(addressEnv)}
	journal, err := os.OpenFile(s.journal(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if _, err := fmt.Fprintf(journal, "%s\n", id); err != nil { // one write: versions share the file
			panic(http.ErrAbortHandler)
		}
		time.Sleep(takes)
	})
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	switch mode {
	case "owner":
		err := owner.Run(ctx, owner.Config{LeasePath: s.lease(), TTL: 5 * time.Second}, (&reach.Server{Handler: h}).Serve)
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	case "tableflip":
		return flip(ctx, s, h)
	}
	ln, err := net.Listen("tcp", s.address)
	if err != nil {
		return err
	}
	return serveUntil(ctx.Done(), ln, h)
}

// flip serves as tableflip's documentation shows it.
func flip(ctx context.Context, s *service, h http.Handler) error {
	upg, err := tableflip.New(tableflip.Options{PIDFile: filepath.Join(s.dir, "pid")})
	if err != nil {
		return err
	}
	defer upg.Stop()
	hups := make(chan os.Signal, 1)
	signal.Notify(hups, syscall.SIGHUP)
	go func() {
		for range hups {
			if err := upg.Upgrade(); err != nil {
				fmt.Fprintln(os.Stderr, "tableflip:", err)
			}
		}
	}()
	context.AfterFunc(ctx, upg.Stop)
	ln, err := upg.Listen("tcp", s.address)
	if err != nil {
		return err
	}
	exit := make(chan struct{})
	served := make(chan error, 1)
	go func() { served <- serveUntil(exit, ln, h) }()
	if err := upg.Ready(); err != nil {
		return err
	}
	<-upg.Exit()
	close(exit)
	return <-served
}

// serveUntil finishes what has begun when done is closed.
func serveUntil(done <-chan struct{}, ln net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }()
	select {
	case err := <-failed:
		return err
	case <-done:
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return srv.Shutdown(ctx)
}
