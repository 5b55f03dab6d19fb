package proc

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/windows"
)

// While a handle of a process is open, its pid is no other's.
type handle windows.Handle

func open(pid int) (Process, error) {
	const access = windows.PROCESS_TERMINATE | windows.PROCESS_QUERY_LIMITED_INFORMATION | windows.SYNCHRONIZE
	h, err := windows.OpenProcess(access, false, uint32(pid))
	switch err {
	case nil:
		return handle(h), nil
	case windows.ERROR_INVALID_PARAMETER:
		return nil, os.ErrProcessDone
	}
	return nil, os.NewSyscallError("OpenProcess", err)
}

// Started is the time of creation, in units of 100 ns.
func (h handle) Started() (string, error) {
	if h.ended() {
		return "", os.ErrProcessDone
	}
	var created, exited, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(windows.Handle(h), &created, &exited, &kernel, &user); err != nil {
		return "", os.NewSyscallError("GetProcessTimes", err)
	}
	return strconv.FormatUint(uint64(created.HighDateTime)<<32|uint64(created.LowDateTime), 10), nil
}

func ownStart() (string, error) { return handle(windows.CurrentProcess()).Started() }

func (h handle) SameUser() (bool, error) {
	if h.ended() {
		return false, os.ErrProcessDone
	}
	their, err := userOf(windows.Handle(h))
	if err != nil {
		return false, err
	}
	own, err := userOf(windows.CurrentProcess())
	return err == nil && own.Equals(their), err
}

func userOf(process windows.Handle) (*windows.SID, error) {
	var token windows.Token
	if err := windows.OpenProcessToken(process, windows.TOKEN_QUERY, &token); err != nil {
		return nil, os.NewSyscallError("OpenProcessToken", err)
	}
	defer token.Close()
	user, err := token.GetTokenUser()
	if err != nil {
		return nil, os.NewSyscallError("GetTokenInformation", err)
	}
	return user.User.Sid.Copy()
}

func (h handle) ended() bool {
	event, err := windows.WaitForSingleObject(windows.Handle(h), 0)
	return err == nil && event == windows.WAIT_OBJECT_0
}

func (h handle) Kill() error {
	const code = 1
	err := windows.TerminateProcess(windows.Handle(h), code)
	if err != nil && h.ended() { // access is denied to one that has ended
		return os.ErrProcessDone
	}
	return os.NewSyscallError("TerminateProcess", err)
}

func (h handle) Wait(ctx context.Context) error {
	over, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		return os.NewSyscallError("CreateEvent", err)
	}
	defer windows.CloseHandle(over)
	set := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { _ = windows.SetEvent(over); close(set) })
	_, err = windows.WaitForMultipleObjects([]windows.Handle{windows.Handle(h), over}, false, windows.INFINITE)
	if !stop() {
		<-set // the event is closed after it was set
	}
	switch {
	case h.ended():
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return fmt.Errorf("waiting for the end of the process: %w", err)
}

func (h handle) Close() { _ = windows.CloseHandle(windows.Handle(h)) }
