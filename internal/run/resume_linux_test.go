package run

import (
	"os/exec"
	"strings"
	"testing"
	"time"
)

// SIGCONT is passed on to a process that is stopped, or that has something to do then,
// and to no other: late, it would undo a stop that came after it.
func TestHeedsResume(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]bool{
		"echo ready; read x":                 false,
		"trap : CONT; echo ready; read x":    true,
		"trap '' CONT; echo ready; read x":   false,
		"trap : USR1; echo ready; read x":    false,
		"kill -STOP $$; echo resumed":        true,
		"trap : USR1; kill -STOP $$; exit 0": true,
	} {
		cmd := exec.Command("sh", "-c", script)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = stdin.Close()
			_ = cmd.Wait()
		})
		pid := cmd.Process.Pid
		if !strings.Contains(script, "STOP") {
			if _, err := stdout.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		} else {
			for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
				if st, err := readStat(pid); err == nil && st.stopped {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("%s: never stopped", script)
				}
			}
		}
		if got := heedsResume(pid); got != want {
			t.Errorf("%s: %v, want %v", script, got, want)
		}
	}
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	if heedsResume(gone.Process.Pid) {
		t.Error("a process that has ended heeds SIGCONT")
	}
}
