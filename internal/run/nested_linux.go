package run

import "os"

// mayDescendFrom reports whether a process is an ancestor of this one.
func mayDescendFrom(ancestor int) bool {
	for pid := os.Getpid(); pid != 0; {
		if pid == ancestor {
			return true
		}
		st, err := readStat(pid)
		if err != nil {
			return false
		}
		pid = st.parent
	}
	return false // or in another pid namespace, where the ancestor has no number
}
