//go:build unix

package reach

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/privdir"
	"github.com/ownerlease/owner/ownertest"
)

// folders makes the folder for sockets anew.
func folders(t *testing.T) (runtime, temp string) {
	t.Helper()
	runtime, err := os.MkdirTemp("", "x")
	must(t, err)
	temp, err = os.MkdirTemp("", "t")
	must(t, err)
	t.Cleanup(func() {
		_ = os.RemoveAll(runtime)
		_ = os.RemoveAll(temp)
	})
	t.Setenv("XDG_RUNTIME_DIR", runtime)
	t.Setenv("TMPDIR", temp)
	return runtime, temp
}

func listens(t *testing.T) string {
	t.Helper()
	ln, err := listenDefault(uuid.NewString())
	must(t, err)
	t.Cleanup(func() { ln.Close() })
	at, err := parseEndpoint(ln.endpoint)
	must(t, err)
	info, err := os.Lstat(filepath.Dir(at.addr))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Error(info, err)
	}
	return at.addr
}

func TestSocketFolder(t *testing.T) {
	runtime, temp := folders(t)
	name := "owner-" + strconv.Itoa(os.Geteuid())
	in := func(path, dir string) {
		t.Helper()
		if !strings.HasPrefix(path, dir+"/") {
			t.Errorf("%s is not in %s", path, dir)
		}
	}
	in(listens(t), filepath.Join(runtime, name))

	t.Setenv("XDG_RUNTIME_DIR", "")
	in(listens(t), filepath.Join(temp, name))
	t.Setenv("XDG_RUNTIME_DIR", "relative")
	in(listens(t), filepath.Join(temp, name))
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(runtime, strings.Repeat("x", 100))) // too long for a socket
	in(listens(t), filepath.Join(temp, name))

	// A folder that others can enter, or a link to one, or a file, is passed over.
	t.Setenv("XDG_RUNTIME_DIR", runtime)
	for _, spoil := range []func(path string) error{
		func(path string) error { return errors.Join(os.Mkdir(path, 0o755), os.Chmod(path, 0o755)) },
		func(path string) error { return os.Symlink(temp, path) },
		func(path string) error { return os.WriteFile(path, nil, 0o600) },
	} {
		must(t, os.RemoveAll(filepath.Join(runtime, name)), spoil(filepath.Join(runtime, name)))
		in(listens(t), filepath.Join(temp, name))
	}
	if os.Geteuid() == 0 {
		must(t, os.RemoveAll(filepath.Join(runtime, name)), os.Mkdir(filepath.Join(runtime, name), 0o700), os.Chown(filepath.Join(runtime, name), 65534, 65534))
		in(listens(t), filepath.Join(temp, name))
	}
}

// Where the names are taken by others, a new folder is made, and removed.
func TestOwnSocketFolder(t *testing.T) {
	runtime, temp := folders(t)
	for _, dir := range []string{runtime, temp} {
		must(t, os.WriteFile(filepath.Join(dir, "owner-"+strconv.Itoa(os.Geteuid())), nil, 0o600))
	}
	dir, remove, err := privdir.ForSocket(36)
	must(t, err)
	defer remove()
	if filepath.Dir(dir) != temp && filepath.Dir(dir) != "/tmp" {
		t.Error(dir)
	}
}

func TestSocketPathTooLong(t *testing.T) {
	_, _, err := privdir.ForSocket(privdir.MaxSocketPath)
	if err == nil {
		t.Error("there is no room for this name")
	}
	if _, err := parseEndpoint("unix:/" + strings.Repeat("x", privdir.MaxSocketPath)); err == nil {
		t.Error("too long for sun_path")
	}
}

// The socket has gone when Serve has returned.
func TestSocketIsRemoved(t *testing.T) {
	store := ownertest.NewMemory()
	v := serve(t, store, &Server{Handler: echo})
	_, rec, err := newClient(t, store).Dial(t.Context())
	must(t, err)
	at, err := parseEndpoint(rec.Meta[owner.EndpointMetaKey])
	must(t, err, v.end())
	if _, err := os.Lstat(at.addr); !os.IsNotExist(err) {
		t.Error(err)
	}
}

// curl needs no more than the socket's path.
func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("there is no curl")
	}
	store := ownertest.NewMemory()
	serve(t, store, &Server{Handler: echo})
	conn, rec, err := newClient(t, store).Dial(t.Context())
	must(t, err)
	conn.Close()
	out, err := exec.Command(curl, "-sS", "--unix-socket", strings.TrimPrefix(rec.Meta[owner.EndpointMetaKey], "unix:"), "-d", "hello", "http://owner/").CombinedOutput()
	if err != nil || string(out) != "hello" {
		t.Errorf("%s, %v", out, err)
	}
}

// runStranger is a process of another user.
func runStranger(what, path string) int {
	if what == "listen" {
		if _, err := net.Listen("unix", path); err != nil {
			return 2
		}
		fmt.Println("listening")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		return 2
	}
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	b, _ := io.ReadAll(c)
	fmt.Printf("%q\n", b)
	return 0
}

// Processes of another user get nothing, and nothing is asked of them.
func TestAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	dir, err := os.MkdirTemp("", "u")
	must(t, err, os.Chmod(dir, 0o777))
	defer os.RemoveAll(dir)
	program, err := os.ReadFile(os.Args[0])
	must(t, err, os.WriteFile(filepath.Join(dir, "program"), program, 0o755))
	stranger := func(what string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(dir, "program"))
		cmd.Dir = dir
		cmd.Env = []string{childEnv + "=" + what}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		return cmd
	}

	// As a client: the folder does not keep it out here, the peer's user does.
	store := ownertest.NewMemory()
	at := filepath.Join(dir, "s")
	serve(t, store, &Server{Handler: echo, listenDefault: func(string) (*listening, error) {
		ln, err := net.Listen("unix", at)
		if err != nil {
			return nil, err
		}
		return &listening{Listener: peerListener{ln}, endpoint: "unix:" + at}, os.Chmod(at, 0o777)
	}})
	conn, _, err := newClient(t, store).Dial(t.Context())
	must(t, err)
	conn.Close()
	if out, err := stranger("dial=" + at).CombinedOutput(); err != nil || string(out) != "\"\"\n" {
		t.Errorf("%s, %v", out, err)
	}

	// As a server.
	cmd := stranger("listen=" + at + "2")
	in, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err, cmd.Start())
	defer cmd.Wait()
	defer in.Close()
	_, err = stdout.Read(make([]byte, 1))
	must(t, err)
	store = ownertest.NewMemory()
	o, err := owner.Join(t.Context(), owner.Config{Store: store, TTL: time.Minute, Endpoint: "unix:" + at + "2"})
	must(t, err)
	defer o.Release()
	if _, err := newClient(t, store).RoundTrip(request(t, "POST", "/", nil)); !errors.Is(err, errForeign) {
		t.Error(err)
	}
}
