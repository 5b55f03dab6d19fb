// Package clock reads a clock that all processes of this machine share, that
// never steps, and that does not count the time in which the machine is
// suspended (on FreeBSD: as the kernel has it).
package clock

import "strings"

// Domain names the clock that Now reads. Processes on one machine, in one time
// namespace and since one boot have the same. "" means that there is no shared
// clock here: readings of other processes mean nothing.
func Domain() string { return domain() }

// OtherBoot reports whether two domains are known to be of two boots: the processes of
// the one had ended when those of the other began. Containers of one machine share its
// boot, and differ in the time namespace at most. Where a system has no id of a boot,
// OtherBoot returns false.
func OtherBoot(one, other string) bool {
	a, b := boot(one), boot(other)
	return a != "" && b != "" && a != b
}

// boot returns the id of the boot in a domain, which begins with the system's name.
func boot(domain string) string {
	if fields := strings.Fields(domain); len(fields) > 1 {
		return fields[0] + " " + fields[1]
	}
	return ""
}
