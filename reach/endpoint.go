package reach

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ownerlease/owner/internal/privdir"
)

// An endpoint is where an owner listens: "unix:" and an absolute path, or "tcp:",
// a host and a port.
type endpoint struct{ network, addr string }

// parseEndpoint reads an endpoint of a record. That is data which others may have
// written: what this package does not write is refused.
func parseEndpoint(s string) (endpoint, error) {
	network, addr, _ := strings.Cut(s, ":")
	e := endpoint{network, addr}
	if err := e.check(); err != nil {
		return endpoint{}, fmt.Errorf("reach: endpoint %q: %w", s, err)
	}
	return e, nil
}

func (e endpoint) check() error {
	switch e.network {
	case "unix":
		switch {
		case !filepath.IsAbs(e.addr):
			return errors.New("the socket's path is not absolute")
		case strings.ContainsRune(e.addr, 0):
			return errors.New("the socket's path has a NUL byte")
		case len(e.addr) > privdir.MaxSocketPath:
			return fmt.Errorf("the socket's path has %d bytes; %d is the most", len(e.addr), privdir.MaxSocketPath)
		}
		return nil
	case "tcp":
		host, port, err := net.SplitHostPort(e.addr)
		if err != nil {
			return err
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
			return errors.New("want a host and a port from 1 to 65535")
		}
		return nil
	}
	return errors.New(`want "unix:" and an absolute path, or "tcp:", a host and a port`)
}
