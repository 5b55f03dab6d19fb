package etcdtest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ballast is the key that Fill puts.
const ballast = "ballast"

// Fill uses up the space quota of the client's etcd, which Quota makes small.
func Fill(tb testing.TB, c *clientv3.Client) {
	tb.Helper()
	for {
		switch _, err := c.Put(tb.Context(), ballast, strings.Repeat("x", 1<<20)); {
		case errors.Is(err, rpctypes.ErrNoSpace):
			return
		case err != nil:
			tb.Fatalf("fill etcd: %v", err)
		}
	}
}

// MakeRoom takes back what Fill has put, and disarms the alarm.
func MakeRoom(tb testing.TB, c *clientv3.Client) {
	tb.Helper()
	ctx := tb.Context()
	gone, err := c.Delete(ctx, ballast)
	if err == nil {
		_, err = c.Compact(ctx, gone.Header.Revision, clientv3.WithCompactPhysical())
	}
	for _, e := range c.Endpoints() {
		if err == nil {
			_, err = c.Defragment(ctx, e)
		}
	}
	if err == nil {
		_, err = c.AlarmDisarm(ctx, &clientv3.AlarmMember{})
	}
	if err != nil {
		tb.Fatalf("make room in etcd: %v", err)
	}
}

// Quota is the flag that lets etcd have so many bytes.
func Quota(bytes int) string { return fmt.Sprint("--quota-backend-bytes=", bytes) }
