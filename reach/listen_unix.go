//go:build unix

package reach

import (
	"fmt"
	"net"
	"path/filepath"

	"github.com/ownerlease/owner/internal/privdir"
)

// listenDefault listens on a socket that is named by the instance. As no id is used
// twice, no socket of the past is in its place, and none of another's is removed.
func listenDefault(instance string) (*listening, error) {
	dir, remove, err := privdir.ForSocket(len(instance))
	if err != nil {
		return nil, fmt.Errorf("reach: a private folder for the owner's socket: %w", err)
	}
	path := filepath.Join(dir, instance)
	ln, err := net.Listen("unix", path)
	if err != nil {
		remove()
		return nil, err
	}
	return &listening{
		Listener: removing{peerListener{ln}, remove}, endpoint: "unix:" + path,
		tidy: func() { privdir.RemoveDead(dir, instance) },
	}, nil
}

// removing removes a folder after the socket in it.
type removing struct {
	net.Listener
	remove func()
}

func (r removing) Close() error {
	err := r.Listener.Close()
	r.remove()
	return err
}
