package hint

import (
	"os"

	"golang.org/x/sys/windows"
)

// An exit is the process's handle and an event that ends the waiting.
type exit struct{ process, canceled windows.Handle }

func openExit(pid int) (*exit, error) {
	process, err := windows.OpenProcess(windows.SYNCHRONIZE, false, uint32(pid))
	switch err {
	case nil:
	case windows.ERROR_INVALID_PARAMETER:
		return nil, os.ErrProcessDone
	default:
		return nil, os.NewSyscallError("OpenProcess", err)
	}
	canceled, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		_ = windows.CloseHandle(process)
		return nil, os.NewSyscallError("CreateEvent", err)
	}
	return &exit{process, canceled}, nil
}

func (e *exit) wait() {
	_, _ = windows.WaitForMultipleObjects([]windows.Handle{e.process, e.canceled}, false, windows.INFINITE)
}

func (e *exit) cancel() { _ = windows.SetEvent(e.canceled) }

func (e *exit) close() {
	_ = windows.CloseHandle(e.process)
	_ = windows.CloseHandle(e.canceled)
}
