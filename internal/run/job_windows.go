package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/winproc"
)

// A job is a job object: the command and all that it starts. None can leave it,
// and the kernel ends them when this process ends, however it does.
type job struct {
	object windows.Handle
	pid    uint32
	ended  chan ending // how the command has ended; has room for it
}

func startJob(cmd *exec.Cmd, _ chan<- os.Signal, own *owner.Owner, _ timebase) (*job, error) {
	object, err := newJobObject()
	if err != nil {
		return nil, fmt.Errorf("cannot make a job object: %w", err)
	}
	// Suspended: it must not start anything before it is in the job. In a new group:
	// Ctrl-Break can be sent to a group only.
	cmd.SysProcAttr = &syscall.SysProcAttr{
		CreationFlags: windows.CREATE_SUSPENDED | windows.CREATE_NEW_PROCESS_GROUP,
	}
	if err := cmd.Start(); err != nil {
		_ = windows.CloseHandle(object)
		return nil, &StartError{err}
	}
	j := &job{object: object, pid: uint32(cmd.Process.Pid), ended: make(chan ending, 1)}
	if err := j.begin(cmd.Process, own); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		j.close()
		return nil, err
	}
	go func() {
		_ = cmd.Wait() // the result is in ProcessState
		j.ended <- ending{code: cmd.ProcessState.ExitCode()}
	}()
	return j, nil
}

func newJobObject() (windows.Handle, error) {
	object, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return 0, err
	}
	var limits windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	limits.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	_, err = windows.SetInformationJobObject(object, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits)))
	if err != nil {
		_ = windows.CloseHandle(object)
		return 0, err
	}
	return object, nil
}

// begin puts the suspended process into the job, and lets it run.
func (j *job) begin(p *os.Process, own *owner.Owner) error {
	var admitted error
	err := winproc.WithHandle(p, func(h windows.Handle) {
		admitted = windows.AssignProcessToJobObject(j.object, h)
	})
	if err := errors.Join(err, admitted); err != nil {
		return fmt.Errorf("cannot put COMMAND into a job object: %w", err)
	}
	if own.Check() != nil { // this process was suspended meanwhile
		return lost(own, "lost the lease before COMMAND began")
	}
	if err := resumeThread(j.pid); err != nil {
		return &StartError{err}
	}
	return nil
}

// resumeThread finds the one thread of a process that was started suspended:
// os/exec does not hand its handle out.
func resumeThread(pid uint32) error {
	snapshot, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPTHREAD, 0)
	if err != nil {
		return err
	}
	defer windows.CloseHandle(snapshot)
	entry := windows.ThreadEntry32{Size: uint32(unsafe.Sizeof(windows.ThreadEntry32{}))}
	for err = windows.Thread32First(snapshot, &entry); err == nil; err = windows.Thread32Next(snapshot, &entry) {
		if entry.OwnerProcessID != pid {
			continue
		}
		thread, err := windows.OpenThread(windows.THREAD_SUSPEND_RESUME, false, entry.ThreadID)
		if err != nil {
			return err
		}
		_, err = windows.ResumeThread(thread)
		_ = windows.CloseHandle(thread)
		return err
	}
	return fmt.Errorf("its thread is not found: %w", err)
}

// CheckFiles does nothing: there is no such limit here.
func CheckFiles(int) error { return nil }

// keepIgnored does nothing: the Go runtime keeps what it finds ignored.
func keepIgnored() {}

// onTerminal is false, as the end of a console sends no HUP.
func onTerminal() bool { return false }

// The signals that end the wait for the lease. They are forwarded later.
func endingSignals() []os.Signal {
	var sigs []os.Signal
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		if !signal.Ignored(sig) {
			sigs = append(sigs, sig)
		}
	}
	return sigs
}

// forward sends the same for every signal: a new group gets no Ctrl-C.
func (j *job) forward(os.Signal, func() bool) { j.terminate() }

// terminate reaches console programs only. The others get no warning.
func (j *job) terminate() { _ = windows.GenerateConsoleCtrlEvent(windows.CTRL_BREAK_EVENT, j.pid) }

// kill ends all of the job, and returns what it may not end, and what is left.
func (j *job) kill() (refused, found []string) {
	err := windows.TerminateJobObject(j.object, 1)
	if j.empty() {
		return nil, nil
	}
	found = []string{fmt.Sprintf("the job of pid %d", j.pid)}
	if err != nil {
		refused = found
	}
	return refused, found
}

func (j *job) empty() bool {
	var info struct { // JOBOBJECT_BASIC_ACCOUNTING_INFORMATION
		TotalUserTime, TotalKernelTime           int64
		ThisPeriodUserTime, ThisPeriodKernelTime int64
		TotalPageFaults, TotalProcesses          uint32
		ActiveProcesses, TerminatedProcesses     uint32
	}
	err := windows.QueryInformationJobObject(j.object, windows.JobObjectBasicAccountingInformation,
		uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info)), nil)
	return err == nil && info.ActiveProcesses == 0
}

// abandoned: there are no checks of the command here.
func (j *job) abandoned() bool { return !j.empty() }

// extend: no third process watches over the command here. If this process is
// suspended, the command outlives the lease until it is resumed.
func (j *job) extend(time.Duration) {}

// probe says that there are none here: the command line refuses them before.
func (j *job) probe(context.Context, probeOrder) error {
	return errors.New("a check by a shell command is not supported on Windows")
}

func (j *job) close() { _ = windows.CloseHandle(j.object) }

// RunHelperIfRequested does nothing: the job object needs no helper.
func RunHelperIfRequested() {}

// Die does nothing: here a process does not end by a signal.
func Die(syscall.Signal) {}
