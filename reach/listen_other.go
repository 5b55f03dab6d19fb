//go:build !unix

package reach

// listenDefault listens on the loopback interface: there are no Unix sockets, or none
// whose peer can be told.
func listenDefault(string) (*listening, error) { return listenLoopback() }
