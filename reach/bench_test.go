package reach

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ownerlease/owner/ownertest"
)

// A request over a Unix socket: with the acknowledgement, and the same handler on plain
// net/http, the floor. The pair belongs to one run.
func BenchmarkRequest(b *testing.B) {
	b.Run("plain", func(b *testing.B) {
		dir, err := os.MkdirTemp("", "b")
		must(b, err)
		defer os.RemoveAll(dir)
		at := filepath.Join(dir, "s")
		ln, err := net.Listen("unix", at)
		must(b, err)
		srv := &http.Server{Handler: echo}
		go srv.Serve(ln)
		defer srv.Close()
		tr := &http.Transport{MaxIdleConnsPerHost: maxIdle, DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", at)
		}}
		defer tr.CloseIdleConnections()
		benchmark(b, tr)
	})
	b.Run("reach", func(b *testing.B) {
		store := ownertest.NewMemory()
		serve(b, store, &Server{Handler: echo})
		benchmark(b, newClient(b, store))
	})
	b.Run("local", func(b *testing.B) {
		store := ownertest.NewMemory()
		serve(b, store, &Server{Handler: echo})
		benchmark(b, newClient(b, store, func(c *Client) { c.inProcess = true }))
	})
}

func benchmark(b *testing.B, tr http.RoundTripper) {
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			askOnce(b, tr)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				askOnce(b, tr)
			}
		})
	})
}

func askOnce(b *testing.B, tr http.RoundTripper) {
	r, err := http.NewRequestWithContext(b.Context(), "POST", "http://any/", strings.NewReader("body"))
	if err != nil {
		b.Error(err)
		return
	}
	resp, err := tr.RoundTrip(r)
	if err != nil {
		b.Error(err)
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
}
