package witness

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// The tests run this test's binary as the process that is watched.
func TestMain(m *testing.M) {
	if os.Getenv("WITNESS_CHILD") != "" {
		fmt.Println(Self())
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	os.Exit(m.Run())
}

func child(t *testing.T) (*exec.Cmd, string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only on Linux can a process be named so that no other ever has the name")
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "WITNESS_CHILD=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line := make([]byte, 4096)
	n, _ := out.Read(line)
	return cmd, strings.TrimSpace(string(line[:n]))
}

func TestDeathIsSeen(t *testing.T) {
	cmd, name := child(t)
	died := make(chan struct{})
	stop, watches := Watch(name, func() { close(died) })
	defer stop()
	if !watches {
		t.Fatalf("%q is not watched", name)
	}
	select {
	case <-died:
		t.Fatal("it has not died")
	case <-time.After(50 * time.Millisecond):
	}
	_ = cmd.Process.Kill() // and is a zombie, as the test has not waited for it
	select {
	case <-died:
	case <-time.After(10 * time.Second):
		t.Fatal("its death was not seen")
	}
	if _, watches := Watch(name, func() { t.Error("a second death") }); watches {
		t.Error("a dead process is watched")
	}
}

// A process that only has the pid is not the one.
func TestOthersAreNotWatched(t *testing.T) {
	cmd, name := child(t)
	fail := func() { t.Error("the wrong death") }
	stop, watches := Watch(name, fail)
	if !watches {
		t.Fatalf("%q is not watched", name)
	}
	stop()
	stop()
	at := strings.LastIndex(name, " ")
	for _, other := range []string{
		"", "x", Self(), name[:at], name[:at] + " 1", name + "0", "x" + name,
		strings.Replace(name, "pid:[", "pid:[1", 1), fmt.Sprintf("%s pid -1 start 1", machine()), fmt.Sprintf("%s pid 0 start 0", machine()),
	} {
		if _, watches := Watch(other, fail); watches {
			t.Errorf("%q is watched", other)
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	time.Sleep(20 * time.Millisecond) // a wrong call would come by now
}
