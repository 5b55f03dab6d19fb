package run

import (
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]stat{
		"7 (sh) S 5 6 6 34816 9 4194304 1": {parent: 5, group: 6, foreground: 9},
		"7 (sh) T 5 6 6 0 -1 4":            {parent: 5, group: 6, foreground: -1, stopped: true},
		"7 (sh) t 5 6 6 0 -1 4":            {parent: 5, group: 6, foreground: -1},
		"7 (a) b) Z 1 2) Z 5 6 6 0 -1 4":   {parent: 5, group: 6, foreground: -1, zombie: true},
	} {
		if got, err := parseStat([]byte(text)); got != want || err != nil {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "7 (sh)", "7 (sh) S 5 6", "7 (sh) S 5 x 6 0 9"} {
		if got, err := parseStat([]byte(text)); err == nil {
			t.Errorf("%q: %+v, and no error", text, got)
		}
	}
}

// family starts a process with two generations below it, each in its own group.
func family(t *testing.T) (root *exec.Cmd, pids []int) {
	t.Helper()
	root = exec.Command("sh", "-c", `setsid sh -c 'sleep 1000 & echo $$ $!; wait' & wait`)
	out, err := root.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := root.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range strings.Fields(string(line[:n])) {
		pid, _ := strconv.Atoi(field)
		pids = append(pids, pid)
	}
	t.Cleanup(func() {
		_ = root.Process.Kill()
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		_ = root.Wait()
	})
	return root, pids
}

func TestDescendants(t *testing.T) {
	t.Parallel()
	root, pids := family(t)
	found := func(spared map[int]bool) (got []int) {
		descendants(root.Process.Pid, spared, func(p proc) { got = append(got, p.pid) })
		return got
	}
	if got := found(nil); !slices.Equal(got, pids) {
		t.Errorf("found %v, want %v", got, pids)
	}
	if got := found(map[int]bool{pids[0]: true}); got != nil {
		t.Errorf("found %v, below one that is spared", got)
	}
	// Also where the kernel does not list children.
	if got := childrenByParent(pids[0]); !slices.Equal(got, pids[1:]) {
		t.Errorf("children by their parents: %v, want %v", got, pids[1:])
	}
	// Another's child is not taken for our own: numbers are reused.
	if p, ok := openProc(pids[1], root.Process.Pid); ok {
		t.Errorf("took %+v for a child of %d", p, root.Process.Pid)
	}
}

// A handle stays with its process.
func TestProcThatHasEnded(t *testing.T) {
	t.Parallel()
	child := exec.Command("sleep", "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	p, ok := openProc(child.Process.Pid, os.Getpid())
	if !ok || !p.stillThere() {
		t.Fatalf("a child is not found: %+v", p)
	}
	defer p.close()
	if err := p.signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	for deadline := time.Now().Add(10 * time.Second); p.stillThere(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is still there after it has been reaped")
		}
	}
	found := withoutChildrenOf([]proc{{pid: 1, handle: -1}, {pid: 2, parent: 1, handle: -1}, {pid: 3, parent: 2, handle: -1}, {pid: 4, parent: 1, handle: -1}, {pid: 5, parent: 2, handle: -1}}, 1)
	if len(found) != 3 || found[2].pid != 4 {
		t.Errorf("without the children of 2: %+v", found)
	}
}

func TestStartOrder(t *testing.T) {
	t.Parallel()
	for _, want := range []startOrder{
		{group: 7, path: "/bin/sh", args: []string{"sh"}},
		{group: 7, ignored: []syscall.Signal{3, 15}, path: "./a b", args: []string{"", "\n", ""}},
	} {
		got, err := parseStartOrder(want.bytes())
		if err != nil || got.group != want.group || got.path != want.path || !slices.Equal(got.args, want.args) || !slices.Equal(got.ignored, want.ignored) {
			t.Errorf("%+v became %+v, %v", want, got, err)
		}
	}
	for _, text := range []string{"", "7", "7\x00\x00path", "x\x00\x00path\x00arg", "7\x00x\x00path\x00arg"} {
		if got, err := parseStartOrder([]byte(text)); err == nil {
			t.Errorf("%q became %+v", text, got)
		}
	}
}
