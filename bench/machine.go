package main

import (
	"runtime"
	"runtime/debug"

	"github.com/klauspost/cpuid/v2"
)

// processor is the model of the CPU.
func processor() string {
	if name := cpuid.CPU.BrandName; name != "" {
		return name
	}
	return runtime.GOARCH + " (the model is not known)"
}

// version is the one of a module that this program was built with.
func version(module string) string {
	info, _ := debug.ReadBuildInfo()
	if info != nil {
		for _, m := range info.Deps {
			if m.Path == module {
				return m.Version
			}
		}
	}
	return "of an unknown version"
}
