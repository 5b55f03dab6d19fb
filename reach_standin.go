package owner

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
)

// A stand-in until Owner.Advertise keeps its facts in the lease: they are in a file
// named by the instance, and WatchStore polls it. To be removed together with the
// lines of watch.go that use it.

func standInPath(instance string) string {
	return filepath.Join(os.TempDir(), "owner-standin-"+instance)
}

// Advertise replaces the endpoint and the metadata of the owner's record.
func (o *Owner) Advertise(_ context.Context, endpoint string, meta map[string]string) error {
	if err := o.Check(); err != nil {
		return err
	}
	meta = maps.Clone(meta)
	if meta == nil {
		meta = map[string]string{}
	}
	meta[EndpointMetaKey] = endpoint
	b, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	path := standInPath(o.InstanceID())
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	context.AfterFunc(o.Context(), func() { os.Remove(path) })
	return os.Rename(path+".new", path)
}

// standIn is the record with what was advertised.
func standIn(r Record) Record {
	if r.InstanceID == "" {
		return r
	}
	if b, err := os.ReadFile(standInPath(r.InstanceID)); err == nil {
		r.Meta = nil
		_ = json.Unmarshal(b, &r.Meta)
	}
	return r
}
