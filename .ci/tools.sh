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
