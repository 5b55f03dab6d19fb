package start

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/windows"
)

const noWait = 0

// A system is a handle of the process, which keeps its pid from being another's.
type system struct {
	pid    int
	handle windows.Handle
}

func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		HideWindow:    true,
		CreationFlags: windows.DETACHED_PROCESS | windows.CREATE_NEW_PROCESS_GROUP,
	}
}

func newChild(p *os.Process, l *log) *child {
	c := &child{since: time.Now(), log: l, system: system{pid: p.Pid}}
	h, err := windows.OpenProcess(windows.SYNCHRONIZE|windows.PROCESS_QUERY_LIMITED_INFORMATION|windows.PROCESS_TERMINATE, false, uint32(p.Pid))
	if err == nil {
		c.handle = h
	}
	_ = p.Release()
	return c
}

// poll reports whether the process has ended, and takes its status.
func (c *child) poll() bool {
	if c.ended || c.handle == 0 {
		return c.ended
	}
	if event, err := windows.WaitForSingleObject(c.handle, 0); err != nil || event != windows.WAIT_OBJECT_0 {
		return false
	}
	var code uint32
	c.status = status{-1, "a status that is not known"}
	if windows.GetExitCodeProcess(c.handle, &code) == nil {
		c.status = status{int(code), fmt.Sprintf("exit status %d", code)}
	}
	c.ended = true
	return true
}

// tell ends the process: there is no gentler way for one without a console.
func (c *child) tell(bool) {
	if !c.ended && c.handle != 0 {
		_ = windows.TerminateProcess(c.handle, 1)
	}
}

// leave leaves the process to itself.
func (c *child) leave() {
	if c.handle != 0 {
		_ = windows.CloseHandle(c.handle)
		c.handle = 0
	}
}

// reapEnded does nothing: only a handle keeps a process that has ended.
func reapEnded() {}

// exists reports whether there is a process of this number.
func exists(pid int) bool {
	h, err := windows.OpenProcess(windows.SYNCHRONIZE, false, uint32(pid))
	if err != nil {
		return errors.Is(err, windows.ERROR_ACCESS_DENIED)
	}
	defer windows.CloseHandle(h)
	event, err := windows.WaitForSingleObject(h, 0)
	return err == nil && event == uint32(windows.WAIT_TIMEOUT)
}

// keepDescriptors does nothing: only the handles that are named are inherited.
func keepDescriptors() (restore func()) { return func() {} }

func adviseSystem(err error) string {
	if errors.Is(err, windows.ERROR_BAD_EXE_FORMAT) {
		return "it is no program of this system"
	}
	return ""
}
