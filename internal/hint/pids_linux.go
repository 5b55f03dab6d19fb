package hint

import (
	"os"
	"sync"
)

// FileTellsEnd: File gives a hint when an owner ends, as its alive file is closed, in
// any pid namespace. Process then only gives a second one.
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
