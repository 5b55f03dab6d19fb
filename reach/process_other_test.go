//go:build !unix

package reach

const childEnv = "REACH_TEST_CHILD"

func runChild(string) int { return 2 }
