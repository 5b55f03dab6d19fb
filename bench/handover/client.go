//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A request is what a client has sent, and what it was told.
type request struct {
	id   string
	took time.Duration
	err  error
}

// send has the clients send requests, each at its share of the rate, until ctx ends.
func send(ctx context.Context, rt http.RoundTripper, rate int) []request {
	var (
		mu   sync.Mutex
		all  []request
		busy sync.WaitGroup
	)
	for c := range clients {
		busy.Go(func() {
			tick := time.NewTicker(time.Second * clients / time.Duration(rate))
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
				r := ask(context.WithoutCancel(ctx), rt, fmt.Sprint(c, "-", i))
				mu.Lock()
				all = append(all, r)
				mu.Unlock()
			}
		})
	}
	busy.Wait()
	return all
}

// ask sends a POST, which may take effect once only.
func ask(ctx context.Context, rt http.RoundTripper, id string) request {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	began := time.Now()
	err := post(ctx, rt, id)
	return request{id, time.Since(began), err}
}

func post(ctx context.Context, rt http.RoundTripper, id string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://service/", strings.NewReader(id))
	if err != nil {
		return err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

func awaitAnswer(ctx context.Context, rt http.RoundTripper) error {
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); {
		if post(ctx, rt, "first") == nil {
			return nil
		}
		if !sleep(ctx, 10*time.Millisecond) {
			break
		}
	}
	return fmt.Errorf("the service has not answered within 10 s")
}

// atPort is plain net/http to a port.
func atPort(s *service) (http.RoundTripper, func()) {
	t := &http.Transport{MaxIdleConnsPerHost: clients, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", s.address)
	}}
	return t, t.CloseIdleConnections
}

func freePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}
