package hint

import (
	"os"
	"sync"
)

// FileTellsEnd: the close of its alive file tells of an owner's end, in any pid
// namespace. Process then only tells it a second time.
const FileTellsEnd = true

// PIDNamespaces: a pid means something only together with its namespace.
const PIDNamespaces = true

// PIDNamespace names the pid namespace of this process, "" where it is not to be known:
// without /proc, or with one of a namespace that this process is not in. The number of
// a namespace is used again when it has gone: the name is good for hints only.
func PIDNamespace() string { return pidNamespace() }

var pidNamespace = sync.OnceValue(func() string {
	name, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	return name
})
