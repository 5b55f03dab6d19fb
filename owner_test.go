package owner

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestConfig(t *testing.T) {
	ok := Config{LeasePath: "x", TTL: 10 * time.Second}
	for _, tc := range []struct {
		name   string
		change func(*Config)
		want   string // in the error; "" if the configuration is good
	}{
		{"the defaults", func(*Config) {}, ""},
		{"no path", func(c *Config) { c.LeasePath = "" }, "LeasePath"},
		{"no path, but a store", func(c *Config) { c.LeasePath, c.Store = "", newFakeStore() }, ""},
		{"no TTL", func(c *Config) { c.TTL = 0 }, "TTL"},
		{"a negative TTL", func(c *Config) { c.TTL = -time.Second }, "TTL"},
		{"a TTL without its unit", func(c *Config) { c.TTL = 30 }, "TTL"},
		{"a TTL that overflows", func(c *Config) { c.TTL = 1<<63 - 1 }, "TTL"},
		{"the shortest TTL", func(c *Config) { c.TTL = minTTL }, ""},
		{"the longest interval", func(c *Config) { c.RenewInterval = 7 * time.Second }, ""},
		{"no room for another try", func(c *Config) { c.RenewInterval = 7*time.Second + 1 }, "RenewInterval"},
		{"an interval beyond the fence", func(c *Config) { c.RenewInterval = 9 * time.Second }, "RenewInterval"},
		{"an interval as long as the TTL", func(c *Config) { c.RenewInterval = 10 * time.Second }, "RenewInterval"},
		{"a negative interval", func(c *Config) { c.RenewInterval = -1 }, "RenewInterval"},
		{"an interval without its unit", func(c *Config) { c.RenewInterval = 3 }, "RenewInterval"},
		{"a margin that leaves no room", func(c *Config) { c.SafetyMargin = 10 * time.Second }, "SafetyMargin"},
		{"a margin that leaves some", func(c *Config) { c.SafetyMargin = 9 * time.Second }, ""},
		{"a negative margin", func(c *Config) { c.SafetyMargin = -1 }, "SafetyMargin"},
		{"two endpoints", func(c *Config) { c.Endpoint, c.Meta = "a", map[string]string{EndpointMetaKey: "b"} }, "Endpoint"},
		{"one endpoint, said twice", func(c *Config) { c.Endpoint, c.Meta = "a", map[string]string{EndpointMetaKey: "a"} }, ""},
		{"metadata too large", func(c *Config) { c.Meta = map[string]string{"x": strings.Repeat("x", maxMeta)} }, "too large"},
		{"metadata that is no text", func(c *Config) { c.Meta = map[string]string{"x": "\xff"} }, "UTF-8"},
		{"an endpoint that is no text", func(c *Config) { c.Endpoint = "\xff" }, "UTF-8"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := ok
			tc.change(&cfg)
			timing, err := cfg.resolve()
			if tc.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if timing.interval+timing.pause > timing.ttl-timing.margin || timing.interval <= 0 || timing.pause <= 0 || timing.margin <= 0 {
					t.Errorf("no room: %+v", timing)
				}
				return
			}
			if !errors.Is(err, ErrInvalidConfig) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want one that names %s", err, tc.want)
			}
			if o, err := Join(t.Context(), cfg); o != nil || !errors.Is(err, ErrInvalidConfig) {
				t.Errorf("Join: %v", err)
			}
		})
	}
}

func TestConfigIsCopied(t *testing.T) {
	meta := map[string]string{"k": "v"}
	o := joinFile(t, leasePath(t), func(c *Config) { c.Meta = meta })
	meta["k"] = "changed"
	if o.Holder().Meta["k"] != "v" || len(meta) != 1 {
		t.Errorf("the caller's map is the owner's: %v, %v", o.Holder().Meta, meta)
	}
}

func TestLostError(t *testing.T) {
	cause := errors.New("EIO")
	for _, tc := range []struct {
		err  *LostError
		is   []error
		text string
	}{
		{&LostError{Reason: ErrExpired, SinceRenewal: 2 * time.Second, Epoch: 7}, []error{ErrExpired},
			"owner: lease not renewed in time (epoch 7, last renewed 2s before)"},
		{&LostError{Reason: ErrExpired, Err: cause, Epoch: 7}, []error{ErrExpired, cause},
			"owner: lease not renewed in time: last error: EIO (epoch 7, last renewed 0s before)"},
	} {
		for _, target := range tc.is {
			if !errors.Is(tc.err, target) {
				t.Errorf("%v is not %v", tc.err, target)
			}
		}
		if tc.err.Error() != tc.text {
			t.Errorf("got %q", tc.err.Error())
		}
	}
}
