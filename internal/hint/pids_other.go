//go:build !linux

package hint

// FileTellsEnd: only Process gives a hint when an owner ends.
const FileTellsEnd = false

// PIDNamespaces: a pid means the same process to all.
const PIDNamespaces = false

// PIDNamespace returns "": there are no pid namespaces.
func PIDNamespace() string { return "" }
