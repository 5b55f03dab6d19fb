// Package leasename names the files of a lease. All lie beside its record, and their
// names begin with the record's.
package leasename

import "strings"

const (
	GuardSuffix = ".lock"
	LastSuffix  = ".last"
	StartSuffix = ".start"
	// HandoverSuffix is that of the request to the owner to step down.
	HandoverSuffix = ".handover"
	// AliveSuffix and TempSuffix follow an instance's id.
	AliveSuffix = ".alive"
	TempSuffix  = ".tmp"
)

// Guard is the file that a process locks while it acquires.
func Guard(path string) string { return path + GuardSuffix }

// GuardMark is what a guard begins with. Its first byte cannot be read on Windows while
// the guard is locked.
const GuardMark = "#owner-lease/1 guard\n"

// Start is the file that a process locks while it starts an owner.
func Start(path string) string { return path + StartSuffix }

// Alive is the file that an instance locks for its whole life.
func Alive(path, id string) string { return path + "." + id + AliveSuffix }

// Last is a second name of the alive file of the instance that has acquired last. It can
// be found without that instance's id.
func Last(path string) string { return path + LastSuffix }

// Handover is the request to the owner to step down.
func Handover(path string) string { return path + HandoverSuffix }

// Temp is a file of an instance that is to be renamed to path.
func Temp(path, id string) string { return path + "." + id + TempSuffix }

// Of reports whether a file is a lease's: its record, or one beside it.
func Of(path, file string) bool {
	rest, beside := strings.CutPrefix(file, path)
	switch rest {
	case "", GuardSuffix, LastSuffix, StartSuffix, HandoverSuffix:
		return beside
	}
	id, named := strings.CutSuffix(rest, AliveSuffix)
	if !named {
		id, named = strings.CutSuffix(rest, TempSuffix)
	}
	id, dot := strings.CutPrefix(id, ".")
	return beside && named && dot && IsInstanceID(id)
}

// IsInstanceID reports whether s is a UUID in the form in which instances are named: no
// other is safe as a part of a file's name. It allocates nothing, as each read of a record
// asks it.
func IsInstanceID(s string) bool {
	const form = "00000000-0000-0000-0000-000000000000"
	if len(s) != len(form) {
		return false
	}
	for i := range len(s) {
		digit := '0' <= s[i] && s[i] <= '9' || 'a' <= s[i] && s[i] <= 'f'
		if form[i] == '-' && s[i] != '-' || form[i] != '-' && !digit {
			return false
		}
	}
	return true
}
