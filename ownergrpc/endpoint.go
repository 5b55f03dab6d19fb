package ownergrpc

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// addressOf returns gRPC's address of an owner's endpoint: "unix:/path", "tcp:host:port" or
// "host:port". An endpoint is data that another process wrote, so anything else is refused.
func addressOf(endpoint string) (string, error) {
	address, err := dialable(endpoint)
	if err != nil {
		return "", fmt.Errorf("the owner's endpoint %.100q: %w", endpoint, err)
	}
	return address, nil
}

func dialable(endpoint string) (string, error) {
	if socket, ok := strings.CutPrefix(endpoint, "unix:"); ok {
		return socketAddress(socket)
	}
	hostport := strings.TrimPrefix(endpoint, "tcp:")
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return "", errors.New(`it is none of "unix:/path", "tcp:host:port" and "host:port"`)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("the port %q is not a number from 1 to 65535", port)
	}
	if !isHost(host) {
		return "", fmt.Errorf("the host %q is neither a name nor an IP address", host)
	}
	return hostport, nil
}

// socketAddress returns the address of a socket in the file system: a relative path would
// depend on the reader's working directory, and any user can listen on an abstract name.
func socketAddress(socket string) (string, error) {
	if strings.HasPrefix(socket, "//") {
		if !strings.HasPrefix(socket, "///") {
			return "", errors.New("a URL of a socket has three slashes: unix:///path")
		}
		socket = socket[2:]
	}
	if !strings.HasPrefix(socket, "/") || strings.ContainsRune(socket, 0) {
		return "", errors.New("the path of the socket is not absolute")
	}
	// As a URL, which gRPC's dialer decodes: a path may have any other character.
	return (&url.URL{Scheme: "unix", Path: path.Clean(socket)}).String(), nil
}

func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return s != "" && len(s) <= 253 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == ""
}
