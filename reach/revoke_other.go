//go:build !linux

package reach

// closeReadIsExact: on BSDs, shutdown(SHUT_RD) throws away what has arrived and was
// not read, an acknowledgement perhaps.
const closeReadIsExact = false
