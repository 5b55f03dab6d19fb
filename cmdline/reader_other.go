//go:build !unix

package cmdline

import "os"

// whenUnread leaves it to the next write.
func whenUnread(*os.File, func()) {}
