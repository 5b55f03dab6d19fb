//go:build unix

package start

const ReapEvery = reapEvery
