//go:build !linux

package hint

// FileTellsEnd: only Process tells of an owner's end.
const FileTellsEnd = false

// PIDNamespaces: a pid means the same process to all.
const PIDNamespaces = false

// PIDNamespace returns "": there are no pid namespaces.
func PIDNamespace() string { return "" }
