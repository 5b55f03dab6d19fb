//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What users of flock(1), timeout(1), env(1) and nohup(1) rely on. Each script runs in
// its own folder, with "$O" for "owner run --lease L --".
func TestLikeOtherWrappers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script, out string
		code        int
		stderr      string
	}{
		"a script without #!": {`printf 'echo "$@"\nexit 3' >job; chmod +x job; $O ./job 'a  b' c`, "a  b c\n", 3, ""},
		"an empty script":     {`: >job; chmod +x job; $O ./job`, "", 0, ""},
		"relative PATH":       {`mkdir bin; printf '#!/bin/sh\necho ran' >bin/job; chmod +x bin/job; PATH=bin:$PATH; $O job`, "ran\n", 0, ""},
		"empty PATH entry":    {`printf '#!/bin/sh\necho ran' >job; chmod +x job; PATH=:$PATH; $O job`, "ran\n", 0, ""},
		"no interpreter":      {`printf '#!/no/such/thing\n' >job; chmod +x job; $O ./job`, "", 127, "owner: cannot run COMMAND: exec ./job: no such file or directory\n"},
		"a folder":            {`mkdir job; $O ./job`, "", 126, "owner: cannot run COMMAND: exec: \"./job\": is a directory\n"},
		"not executable":      {`: >job; $O ./job`, "", 126, "owner: cannot run COMMAND: exec: \"./job\": permission denied\n"},
		"not found":           {`$O no-such-job`, "", 127, "owner: cannot run COMMAND: exec: \"no-such-job\": executable file not found in $PATH\n"},
		"not there":           {`$O ./no-such-job`, "", 127, "owner: cannot run COMMAND: exec: \"./no-such-job\": stat ./no-such-job: no such file or directory\n"},
		"inside itself":       {`$O sh -c "$O echo ran; echo \$?"`, "125\n", 0, "owner: L is owned for the command that has started this one: it would wait for itself\n"},
		"inside itself, -n":   {`$O sh -c "${O%--} -n -E 9 echo ran; echo \$?" 2>/dev/null`, "9\n", 0, ""},
		"inside another":      {`$O sh -c "\"$OWNER\" run --lease M echo ran"`, "ran\n", 0, ""},
		"after its own":       {`OWNER_LEASE=$PWD/L OWNER_INSTANCE_ID=4ab0de9f-7e9e-4d53-9e4e-f6f4c6b6b4a5 $O echo ran`, "ran\n", 0, ""},
		"few files":           {`ulimit -n 6; $O echo ran; echo $?`, "125\n", 0, "owner: this program needs 6 more open files than it has, and can open only "},
		"some files":          {`ulimit -n 12; $O echo ran; echo $?`, "125\n", 0, "owner: this program needs 10 more open files than it has, and can open only "},
		"killed":              {`$O sh -c 'kill -9 $$'; echo $?`, "137\n", 0, "*"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := command()
			cmd.Path, cmd.Args, cmd.Dir = "/bin/sh", []string{"sh", "-c", c.script}, t.TempDir()
			dir, err := filepath.EvalSymlinks(cmd.Dir)
			if err != nil {
				t.Fatal(err)
			}
			cmd.Env = append(cmd.Env, "PWD="+cmd.Dir, "OWNER="+self(), "O="+self()+" run --lease L --")
			p := startCommand(t, cmd)
			_ = p.Stdin.Close()
			out, code := p.Wait()
			said := strings.NewReplacer(cmd.Dir+"/", "", dir+"/", "").Replace(p.Stderr.String())
			if c.stderr == "*" { // sh can say that a job was killed
				said = "*"
			}
			if out != c.out || code != c.code || !strings.HasPrefix(said, c.stderr) || (c.stderr == "") != (said == "") {
				t.Errorf("exit %d, stdout %q, stderr %q; want %d, %q, %q", code, out, said, c.code, c.out, c.stderr)
			}
		})
	}
}

// surroundings prints all that a process inherits.
const surroundings = `
umask; ulimit -Sa; ulimit -Ha; pwd; env | grep -v '^OWNER_\|^_=\|^PPID' | sort
ps -o ni= -p $$
if [ -d /proc/self/fd ]; then
	grep -E '^(Sig(Pnd|Blk|Ign|Cgt)|Umask|NoNew|Seccomp:|Cap|Groups|Uid|Gid)' /proc/self/status
	cat /proc/self/oom_score_adj /proc/self/timerslack_ns /proc/self/coredump_filter
	for f in 0 1 2 3 4 5 6 7 8 9; do readlink /proc/self/fd/$f || :; done
fi`

// COMMAND's surroundings are those that it would have without owner.
func TestCommandIsAsWithoutOwner(t *testing.T) {
	t.Parallel()
	program := built(t)
	var seen [2]string
	for i, with := range []string{"", program + " run --lease " + leaseIn(t) + " -- "} {
		cmd := exec.Command("sh", "-c", `trap '' HUP QUIT USR1 TERM TSTP PIPE CHLD
			umask 027; ulimit -S -n 100; ulimit -S -c 0; exec 7</dev/null 8>/dev/null; cd /usr
			exec nice -n 3 `+with+` sh -c "$0"`, surroundings)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		seen[i] = pipeNumbers.ReplaceAllString(string(out), "pipe")
	}
	if seen[0] != seen[1] {
		t.Errorf("without owner:\n%s\nwith it:\n%s", seen[0], seen[1])
	}
}

var pipeNumbers = regexp.MustCompile(`pipe:\[\d+\]`)

// built returns this program as "go build" makes it: that of a test has no symbols.
func built(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "owner")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		t.Skipf("it takes the go command to build the program: %v: %s", err, out)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}
