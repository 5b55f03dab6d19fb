# What the scripts of this folder share. They set log, the file for what is only shown
# when it is needed.

# quietly runs a command, and shows what it printed only if it failed.
quietly() {
	"$@" >"$log" 2>&1 || { echo "failed: $*" >&2; cat "$log" >&2; exit 1; }
}

# need has a command installed with apt-get. That it cannot be had is no failure: need
# returns 1 and says what is skipped.
need() { # command, packages…
	local command=$1
	shift
	! command -v "$command" >/dev/null || return 0
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } >"$log" 2>&1 || true
	fi
	command -v "$command" >/dev/null || {
		echo "skipped: no $command; install it (on Debian and Ubuntu: apt-get install $*)" >&2
		return 1
	}
}

# tested runs go test. Many tests look at real processes and disks, each with a limit for
# how long that may take, and a machine that stands still for seconds exceeds any. So those
# that have failed run once more, by themselves: a test that fails again fails the run, and
# one that passes is named. A data race, a panic, and what does not build, are no such thing.
tested() { # go test, flags, packages
	local package names
	"$@" 2>&1 | tee "$log" && return 0
	! grep -E -e '^WARNING: DATA RACE' -e '^panic: ' -e '^FAIL.*\[.* failed\]$' "$log" || exit 1
	failed_tests <"$log" >"$log.failed"
	[ -s "$log.failed" ] || exit 1 # go itself has failed
	while read -r package names; do
		"${@:1:$#-1}" -count=1 -run "$names" "$package" || exit 1
		echo "passed when run again: $package $names" >&2
	done <"$log.failed"
	rm "$log.failed"
}

# failed_tests prints each package that has failed, and the pattern of its tests that have:
# all, where it has named none, as when goroutines are left at the end.
failed_tests() {
	awk '/^--- FAIL: / { names = names "|" $3 }
		/^(ok|FAIL|\?) *\t/ { if ($1 == "FAIL") print $2, names ? "^(" substr(names, 2) ")$" : "."; names = "" }'
}
