package demo

import (
	"errors"
	"os"
	"os/exec"

	"golang.org/x/sys/windows"

	"github.com/ownerlease/owner/internal/winproc"
)

// What is done to the processes, in words.
const (
	killing  = "TerminateProcess"
	stopping = "NtSuspendProcess"
	resuming = "NtResumeProcess"
)

var (
	ntdll            = windows.NewLazySystemDLL("ntdll.dll")
	ntSuspendProcess = ntdll.NewProc(stopping)
	ntResumeProcess  = ntdll.NewProc(resuming)
)

func isolate(*exec.Cmd) {}

// suspend stops a child until resume. If the parent is killed in between, the child must
// be ended by hand.
func suspend(p *os.Process) error { return call(ntSuspendProcess, p) }

func resume(p *os.Process) error { return call(ntResumeProcess, p) }

func call(proc *windows.LazyProc, p *os.Process) error {
	err := proc.Find()
	if err != nil {
		return err
	}
	handled := winproc.WithHandle(p, func(h windows.Handle) {
		if status, _, _ := proc.Call(uintptr(h)); status != 0 {
			err = windows.NTStatus(status)
		}
	})
	return errors.Join(handled, err)
}
