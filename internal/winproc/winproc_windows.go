// Package winproc gives the handle of a process, which [os.Process] shows only from Go
// 1.26 on.
package winproc

import (
	"os"
	"runtime"

	"golang.org/x/sys/windows"
)

// WithHandle calls f with a handle of a process that was started and not waited for
// yet: until then its pid is no other's.
func WithHandle(p *os.Process, f func(windows.Handle)) error {
	h, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE|windows.PROCESS_SUSPEND_RESUME, false, uint32(p.Pid))
	if err != nil {
		return os.NewSyscallError("OpenProcess", err)
	}
	defer windows.CloseHandle(h)
	defer runtime.KeepAlive(p)
	f(h)
	return nil
}
