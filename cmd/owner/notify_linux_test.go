package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/cmdtest"
)

// startNotifier starts a COMMAND that sends what it reads, line by line, to NOTIFY_SOCKET.
func startNotifier(t *testing.T, lease string, flags ...string) (p *process, socket string) {
	t.Helper()
	p = start(t, append(append([]string{"run", "--lease", lease, "--notify"}, flags...), "--", self(), "test-notify")...)
	return p, p.Line()
}

// says has the notifier send a message, in Go's syntax.
func (p *process) says(format string, args ...any) {
	p.T.Helper()
	p.Types(fmt.Sprintf("%q\n", fmt.Sprintf(format, args...)))
	if got := p.Line(); got != "sent" {
		p.T.Fatalf("got %q", got)
	}
}

// advertised is the live owner's metadata.
func advertised(t *testing.T, lease string) map[string]string {
	t.Helper()
	st, err := owner.Probe(lease)
	if err != nil {
		t.Fatal(err)
	}
	return st.Record.Meta
}

func wantAdvertised(t *testing.T, lease, want string) {
	t.Helper()
	got := ""
	defer func() {
		if t.Failed() {
			t.Logf("advertised: %s", got)
		}
	}()
	eventually(t, "advertised: "+want, func() bool {
		got = fmt.Sprint(advertised(t, lease))
		return got == want
	})
}

// Nothing is advertised before READY=1, nor after STOPPING=1.
func TestNotifyReady(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	p, _ := startNotifier(t, lease, "--endpoint", "unix:/x", "--meta", "a=b")
	wantAdvertised(t, lease, "map[]")
	p.says("STATUS=loading\x1b[2J 40%%")
	wantAdvertised(t, lease, "map[status:loading[2J 40%]")
	p.says("READY=1\nSTATUS=")
	wantAdvertised(t, lease, "map[a:b endpoint:unix:/x]")
	p.says("STATUS=%s", strings.Repeat("y", 3000))
	wantAdvertised(t, lease, "map[a:b endpoint:unix:/x status:"+strings.Repeat("y", 253)+"…]")
	p.says("STOPPING=1\nSTATUS=bye")
	wantAdvertised(t, lease, "map[status:bye]")
	p.says("READY=1")
	p.says("STATUS=still")
	wantAdvertised(t, lease, "map[status:still]")
	_ = p.Stdin.Close()
	p.MustExit(0, "")
	wantStatus(t, lease, "released", 3)
}

// A message that is none, or is too long, is left out.
func TestNotifyMalformed(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	p, _ := startNotifier(t, lease, "--endpoint", "unix:/x")
	for _, m := range []string{"", "\n", "READY", "READY=0", "ready=1", "READY=1\x00", "\xff\xfe", "MAINPID=1", "READY=1\n" + strings.Repeat("x", 5000)} {
		p.says("%s", m)
	}
	p.says("STATUS=after")
	wantAdvertised(t, lease, "map[status:after]")
	_ = p.Stdin.Close()
	p.MustExit(0, "")
}

// Messages of strangers do not count: of this test, of a process that ends at once, and of
// one that hands on what COMMAND knows.
func TestNotifyOfStrangers(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	p, socket := startNotifier(t, lease, "--endpoint", "unix:/x", "--ttl", "2s", "--health-timeout", "60s")
	send := func(text string) {
		t.Helper()
		c, err := net.Dial("unixgram", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	send("READY=1\nSTATUS=hello")
	eventually(t, "a warning of the stranger", func() bool { return strings.Contains(p.Stderr.String(), "COMMAND has not started") })
	for range 20 {
		cmd := command("test-notify")
		cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+socket)
		cmd.Stdin = strings.NewReader("\"READY=1\"\n")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.HasSuffix(string(out), "sent\n") {
			t.Fatalf("%v: %s", err, out)
		}
	}
	p.says("STATUS=after") // messages are taken in their order
	wantAdvertised(t, lease, "map[status:after]")
	p.says("READY=1")
	wantAdvertised(t, lease, "map[endpoint:unix:/x status:after]")
	send("STOPPING=1")
	send("STATUS=hello")
	p.says("STATUS=at last")
	wantAdvertised(t, lease, "map[endpoint:unix:/x status:at last]")
	wantStatus(t, lease, "live", 0)
}

// systemd-notify ends right after its message; it counts all the same, also from a process
// that has left COMMAND's session.
func TestSystemdNotify(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("systemd-notify"); err != nil {
		t.Skip("there is no systemd-notify: install systemd")
	}
	for _, prefix := range []string{"", "setsid ", "setsid sh -c '$0 \"$@\" & wait' "} {
		for range 10 {
			lease := leaseIn(t)
			p := start(t, "run", "--lease", lease, "--notify", "--endpoint", "unix:/x", "-c", prefix+"systemd-notify --ready --status=up; echo ready; read x; exit 5")
			if got := p.Line(); got != "ready" {
				t.Fatalf("got %q", got)
			}
			wantAdvertised(t, lease, "map[endpoint:unix:/x status:up]")
			_ = p.Stdin.Close()
			p.MustExit(5, "")
		}
	}
}

// An owner whose COMMAND stops sending WATCHDOG=1 loses the lease.
func TestNotifyWatchdog(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		last, says string
	}{
		{"STATUS=hanging", "work not healthy: last error: COMMAND has not sent WATCHDOG=1 to $NOTIFY_SOCKET in time"},
		{"WATCHDOG=trigger", "work not healthy: last error: COMMAND has sent WATCHDOG=trigger"},
	} {
		lease := leaseIn(t)
		p, _ := startNotifier(t, lease, "--ttl", "3s", "--health-timeout", "1s", "--endpoint", "unix:/x")
		time.Sleep(1500 * time.Millisecond) // before it is ready, it is not asked
		p.says("READY=1")
		for range 25 {
			p.says("WATCHDOG=1")
			time.Sleep(100 * time.Millisecond)
		}
		wantStatus(t, lease, "live", 0)
		if c.last == "WATCHDOG=trigger" {
			p.says("WATCHDOG=trigger")
			p.says("WATCHDOG=1")
		}
		p.MustExit(122, "owner: lost the lease, and ended COMMAND: "+c.says)
	}
}

// From STOPPING=1 on, or when it was told to end, COMMAND need not send WATCHDOG=1.
func TestNoWatchdogWhileCommandEnds(t *testing.T) {
	t.Parallel()
	const script = `exec 3<&0; trap 'echo told; read x; exit 7' TERM; "$0" test-notify <&3 3<&- & wait $!; read x`
	for name, c := range map[string]struct {
		command []string
		code    int
		tell    func(p *process)
	}{
		"STOPPING=1": {[]string{self(), "test-notify"}, 0, func(p *process) { p.says("STOPPING=1") }},
		"TERM":       {[]string{"sh", "-c", script, self()}, 7, func(p *process) { p.Signal(syscall.SIGTERM); p.Line() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lease := leaseIn(t)
			p := start(t, append([]string{"run", "--lease", lease, "--ttl", "60s", "--notify", "--health-timeout", "3s", "--"}, c.command...)...)
			p.Line()
			p.says("READY=1")
			c.tell(p)
			time.Sleep(5 * time.Second) // longer than the timeout
			wantStatus(t, lease, "live", 0)
			_ = p.Stdin.Close()
			p.MustExit(c.code, "")
		})
	}
}

func TestWatchdogIsToldToCommand(t *testing.T) {
	t.Parallel()
	for flags, want := range map[string]string{"--notify": "\n", "--notify --health-timeout 2s": "2000000\n"} {
		args := append([]string{"run", "--lease", leaseIn(t)}, strings.Fields(flags)...)
		out, stderr, code := ownerCommand(t, append(args, "-c", "echo $WATCHDOG_USEC")...)
		if out != want || stderr != "" || code != 0 {
			t.Errorf("%s: %q, %q, exit %d", flags, out, stderr, code)
		}
	}
}

// A manager is a stand-in for systemd.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

func newManager(t *testing.T, name string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &manager{t, conn}
}

// next is the next message but for signs of life.
func (m *manager) next() string {
	m.t.Helper()
	_ = m.conn.SetReadDeadline(time.Now().Add(cmdtest.Limit))
	for b := make([]byte, 4096); ; {
		n, err := m.conn.Read(b)
		if err != nil {
			m.t.Fatal(err)
		}
		if text := string(b[:n]); text != "WATCHDOG=1" {
			return text
		}
	}
}

// until reads messages up to one, which must come, and returns all.
func (m *manager) until(want string) (all []string) {
	m.t.Helper()
	for {
		all = append(all, m.next())
		if strings.HasPrefix(all[len(all)-1], want) {
			return all
		}
	}
}

func managed(name, usec string, args ...string) *exec.Cmd {
	cmd := command(args...)
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+name, "WATCHDOG_USEC="+usec)
	return cmd
}

// The service manager hears of a standby and of an owner; COMMAND does not speak for them.
func TestManagerIsNotified(t *testing.T) {
	t.Parallel()
	for _, name := range []string{filepath.Join(t.TempDir(), "s"), fmt.Sprintf("@owner-test-%d", os.Getpid())} {
		lease := leaseIn(t)
		holder := hold(t, lease)
		m := newManager(t, name)
		p := startCommand(t, managed(name, "60000000", "run", "--lease", lease, "-c", `echo "${NOTIFY_SOCKET-none} ${WATCHDOG_USEC-none}"; read x; exit 6`))
		if got := m.until("READY=1"); got[0] != "STATUS=standby" {
			t.Errorf("%q", got)
		}
		m.until(fmt.Sprintf("STATUS=standby; the lease is owned by pid %d on ", holder.Cmd.Process.Pid))
		_ = holder.Stdin.Close()
		m.until("STATUS=owner, epoch ")
		if got := p.Line(); got != "none none" {
			t.Errorf("COMMAND got %q", got)
		}
		_ = p.Stdin.Close()
		m.until("STOPPING=1")
		if _, code := p.Wait(); code != 6 {
			t.Errorf("exit %d", code)
		}
	}
}

// One that owns at once is ready when COMMAND is.
func TestManagerWaitsForReady(t *testing.T) {
	t.Parallel()
	name, lease := filepath.Join(t.TempDir(), "s"), leaseIn(t)
	m := newManager(t, name)
	p := startCommand(t, managed(name, "60000000", "run", "--lease", lease, "--notify", "--", self(), "test-notify"))
	p.Line()
	p.says("STATUS=loading")
	for _, text := range m.until("STATUS=owner, epoch ") {
		if text == "READY=1" {
			t.Error("too early")
		}
	}
	p.says("READY=1")
	seen := strings.Join(m.until("READY=1"), "\n")
	if !strings.Contains(seen, "COMMAND is not ready yet: loading") {
		t.Error(seen)
	}
	_ = p.Stdin.Close()
	m.until("STOPPING=1")
	p.MustExit(0, "")
}

// While this process runs, the manager's watchdog gets what it wants.
func TestManagersWatchdog(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "s")
	m := newManager(t, name)
	p := startCommand(t, managed(name, "200000", "run", "--lease", leaseIn(t), "-c", "echo ready; read x"))
	p.Line()
	_ = m.conn.SetReadDeadline(time.Now().Add(cmdtest.Limit))
	for n, b := 0, make([]byte, 4096); n < 5; {
		size, err := m.conn.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if string(b[:size]) == "WATCHDOG=1" {
			n++
		}
	}
}

// A manager that cannot be reached costs a line, not the lease.
func TestManagerCannotBeReached(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"relative", "/no/such/socket", "@"} {
		p := startCommand(t, managed(name, "60000000", "run", "--lease", leaseIn(t), "-c", "echo ${NOTIFY_SOCKET-none}; exit 7"))
		if got := p.Line(); got != "none" {
			t.Errorf("COMMAND got %q", got)
		}
		p.MustExit(7, "owner: the service manager cannot be notified: NOTIFY_SOCKET")
	}
}
