package start

// For the tests with real processes.
var (
	Reap   = reapEnded
	Exists = exists
)
