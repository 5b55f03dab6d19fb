//go:build unix

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ownerlease/owner/internal/cmdtest"
)

const pagesDir = "../../docs/uses"

// The commands of a page do what it shows. In a block marked "console", a line that begins
// with "$ " is a command, one that begins with "> " continues it, and the others are what
// it prints; … stands for anything within a line, or for any lines. All commands of a page run in one bash.
func TestPages(t *testing.T) {
	t.Parallel()
	bash := needed(t, "bash")
	pages, err := filepath.Glob(pagesDir + "/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	for _, page := range pages {
		t.Run(filepath.Base(page), func(t *testing.T) {
			t.Parallel()
			commands := consoleOf(t, page)
			if len(commands) == 0 {
				t.Skip("the page has no console")
			}
			dir := pageDir(t)
			var script strings.Builder
			for i, c := range commands {
				for _, program := range strings.Fields(c.needs) {
					needed(t, program)
				}
				if strings.Contains(c.text, "owner-etcd ") && os.Getenv(etcdProgram) == "" {
					t.Skip("the test of owner-etcd runs it: go test -C etcdstore -run TestPage ./cmd/owner-etcd")
				}
				if strings.Contains(c.needs, "unshare") && exec.Command("unshare", "--pid", "--fork", "--mount-proc", "true").Run() != nil {
					t.Skip("no namespaces: run it as root")
				}
				fmt.Fprintf(&script, "%s\necho '%s%d'\n", c.text, endOfCommand, i)
			}
			out := runPage(t, dir, bash, "-c", script.String())
			for i, c := range commands {
				said, rest, found := strings.Cut(out, fmt.Sprintf("%s%d\n", endOfCommand, i))
				if !found {
					t.Fatalf("$ %s\nhas not ended; the output is\n%s", c.text, out)
				}
				if out = rest; !c.prints.MatchString(said) {
					t.Errorf("$ %s\nprints\n%swant\n%s", c.text, said, c.shown)
				}
			}
		})
	}
}

const endOfCommand = "-- end of command "

// etcdProgram is set by the test of owner-etcd to the path of that program, which finds
// its server by ETCDCTL_ENDPOINTS.
const etcdProgram = "OWNER_ETCD_PROGRAM"

// A pageCommand is a command of a page, and what it prints.
type pageCommand struct {
	text, shown string
	prints      *regexp.Regexp
	needs       string // programs without which the page is skipped
}

// blocks are the blocks of a page that are marked so.
func blocks(t *testing.T, page, mark string) []string {
	t.Helper()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range regexp.MustCompile("(?ms)^```"+mark+"\n(.*?)^```$").FindAllStringSubmatch(string(b), -1) {
		all = append(all, m[1])
	}
	return all
}

// consoleOf reads the commands of a page.
func consoleOf(t *testing.T, page string) (all []pageCommand) {
	for _, block := range blocks(t, page, "console") {
		for line := range strings.Lines(block) {
			line = strings.TrimSuffix(line, "\n")
			last := len(all) - 1
			switch command, is := strings.CutPrefix(line, "$ "); {
			case is:
				all = append(all, pageCommand{text: command})
			case strings.HasPrefix(line, "> ") && last >= 0 && all[last].shown == "":
				all[last].text += "\n" + strings.TrimPrefix(line, "> ")
			case last >= 0:
				all[last].shown += line + "\n"
			default:
				t.Fatalf("%s: %q comes before a command", page, line)
			}
		}
	}
	for i := range all {
		pattern := strings.ReplaceAll("\n"+regexp.QuoteMeta(all[i].shown), "\n…\n", "\n(?s:.*)")
		pattern = strings.ReplaceAll(pattern[1:], "…", ".*")
		all[i].prints = regexp.MustCompile("^" + pattern + "$")
		for _, program := range []string{"curl", "unshare"} {
			if strings.Contains(all[i].text, program+" ") {
				all[i].needs += program + " "
			}
		}
	}
	return all
}

// programs has what the pages call, under the names that they have when installed.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "bin")
	if err != nil {
		return "", err
	}
	for _, example := range []string{"desktop", "modeld"} {
		out, err := exec.Command("go", "build", "-o", dir+"/", "../../examples/"+example).CombinedOutput()
		if err != nil {
			return dir, fmt.Errorf("%w: %s", err, out)
		}
	}
	if etcd := os.Getenv(etcdProgram); etcd != "" {
		err = os.Symlink(etcd, filepath.Join(dir, "owner-etcd"))
	}
	return dir, errors.Join(err, os.Symlink(self(), filepath.Join(dir, "owner")))
})

// pageDir is an empty home, with the programs in bin.
func pageDir(t *testing.T) string {
	t.Helper()
	from, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "p") // short: there will be sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("pkill", "-KILL", "-f", dir).Run() // what the page has started in a session of its own
		_ = os.RemoveAll(dir)
	})
	if err := os.Symlink(from, filepath.Join(dir, "bin")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// runPage runs a command as a user does who has just logged in. What it leaves behind is
// ended with it.
func runPage(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = []string{"HOME=" + dir, "XDG_RUNTIME_DIR=" + dir, "PATH=" + dir + "/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "OWNER_TEST=1", "GORACE=atexit_sleep_ms=0", "ETCDCTL_ENDPOINTS=" + os.Getenv("ETCDCTL_ENDPOINTS")}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	late := time.AfterFunc(2*cmdtest.Limit, end)
	done, _ := cmd.Process.Wait()
	late.Stop()
	end()
	_ = cmd.Wait()
	if !done.Success() {
		t.Errorf("%s: %v, and printed\n%s", name, done, &out)
	}
	return out.String()
}

// The lines of a crontab work with the little that cron gives to a job.
func TestCrontab(t *testing.T) {
	t.Parallel()
	var jobs int
	for _, block := range blocks(t, pagesDir+"/cron.md", "crontab") {
		for line := range strings.Lines(block) {
			fields := strings.Fields(line)
			if len(fields) < 6 || strings.HasPrefix(line, "#") || strings.Contains(fields[0], "=") {
				continue
			}
			jobs++
			command := strings.Join(fields[5:], " ")
			if strings.Contains(command, "%") {
				t.Errorf("cron takes %% for the end of a line: %s", command)
			}
			dir := pageDir(t)
			if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
				t.Fatal(err)
			}
			if out := runPage(t, dir, "/bin/sh", "-c", command); out != "" {
				t.Errorf("cron would mail what %s prints: %s", command, out)
			}
			if made, err := os.Stat(filepath.Join(dir, "data.tgz")); err != nil || made.Size() == 0 {
				t.Errorf("%s: %v", command, err)
			}
		}
	}
	if jobs == 0 {
		t.Error("no jobs")
	}
}

// needed returns the path of a program that a test cannot do without.
func needed(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%v: install it, as with: apt-get install %s", err, program)
	}
	return path
}
