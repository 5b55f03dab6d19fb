// Package privdir makes folders that only this user can enter, for unix sockets.
package privdir

import "runtime"

// MaxSocketPath is what sun_path has room for, in bytes, with the NUL at its end.
var MaxSocketPath = func() int {
	switch runtime.GOOS {
	case "linux", "windows", "solaris", "illumos":
		return 107
	}
	return 103
}()
