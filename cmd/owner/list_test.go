package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// list runs "owner list" in both forms.
func list(t *testing.T, folder string) (lines []string, objects []map[string]any) {
	t.Helper()
	text, stderr, code := ownerCommand(t, "list", folder)
	if code != 0 || stderr != "" {
		t.Fatalf("exit %d, %s", code, stderr)
	}
	raw, stderr, code := ownerCommand(t, "list", "--json", folder)
	if err := json.Unmarshal([]byte(raw), &objects); err != nil || code != 0 || stderr != "" || !strings.HasPrefix(raw, "[") {
		t.Fatalf("exit %d, %v: %s%s", code, err, raw, stderr)
	}
	return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' }), objects
}

// A folder has two leases, one owned and one released, beside their other files, and files
// and folders that are no leases.
func TestList(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if lines, objects := list(t, folder); len(lines) != 0 || len(objects) != 0 {
		t.Errorf("an empty folder: %q, %v", lines, objects)
	}
	a, b := filepath.Join(folder, "a.lease"), filepath.Join(folder, "b")
	const hostile = "unix:/x\x1b[2J\ty"
	holder := hold(t, a, "--ttl", "1m", "--endpoint", hostile)
	if _, stderr, code := ownerCommand(t, "run", "--lease", b, self(), "test-exit", "0"); code != 0 {
		t.Fatalf("exit %d, %s", code, stderr)
	}
	if err := os.WriteFile(filepath.Join(folder, "notes"), []byte("not a record"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(folder, "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	before := listing(t, folder)

	lines, objects := list(t, folder)
	host, _ := os.Hostname()
	wants := []string{
		fmt.Sprintf(`^a\.lease +live +pid %d on %s +epoch \d+ +endpoint unix:/x\[2Jy +expires \d{4}-\d\d-\d\d \d\d:\d\d:\d\d `, holder.Cmd.Process.Pid, regexp.QuoteMeta(host)),
		fmt.Sprintf(`^b +released +pid \d+ on %s +epoch \d+ +endpoint - +expires -$`, regexp.QuoteMeta(host)),
	}
	if len(lines) != len(wants) || len(objects) != len(wants) {
		t.Fatalf("%q, %v", lines, objects)
	}
	for i, want := range wants {
		if !regexp.MustCompile(want).MatchString(lines[i]) {
			t.Errorf("%q does not match %s", lines[i], want)
		}
	}
	if objects[0]["lease"] != a || objects[0]["owned"] != true || objects[0]["endpoint"] != hostile || objects[0]["expires"] == nil ||
		objects[1]["lease"] != b || objects[1]["owned"] != false || objects[1]["released"] != true || objects[1]["expires"] != nil {
		t.Errorf("%v", objects)
	}
	alone, _, _ := status(t, b)
	if fmt.Sprint(alone) != fmt.Sprint(objects[1]) {
		t.Errorf("listed as %v, and its status is %v", objects[1], alone)
	}
	if after := listing(t, folder); after != before {
		t.Errorf("it has written: %s, and before %s", after, before)
	}
}

// A record that is not yet at a lease's path is no lease.
func TestListLeavesOutTemporaryFiles(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	lease := filepath.Join(folder, "l")
	if _, stderr, code := ownerCommand(t, "run", "--lease", lease, self(), "test-exit", "0"); code != 0 {
		t.Fatalf("exit %d, %s", code, stderr)
	}
	// The same file, so that it is not a copy, under the name that a record has before it
	// is in its place.
	if err := os.Rename(lease, lease+".6ba7b810-9dad-11d1-80b4-00c04fd430c8.tmp"); err != nil {
		t.Fatal(err)
	}
	if lines, _ := list(t, folder); len(lines) != 0 {
		t.Errorf("%q", lines)
	}
	if err := os.Rename(lease+".6ba7b810-9dad-11d1-80b4-00c04fd430c8.tmp", filepath.Join(folder, "m.tmp")); err != nil {
		t.Fatal(err)
	}
	if lines, _ := list(t, folder); len(lines) != 1 || !strings.HasPrefix(lines[0], "m.tmp  released  ") {
		t.Errorf("%q", lines)
	}
}

// listing is the names and sizes of a folder's files.
func listing(t *testing.T, folder string) string {
	t.Helper()
	files, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %v %d, ", f.Name(), info.Mode(), info.Size())
	}
	return b.String()
}

func TestHostileRecord(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	const hostile = "\x1b[2J\x07\u009b31m\x7f\u202eevil\u2066\u2028\r\nowner      root\U000e0041"
	hold(t, lease, "--endpoint", hostile, "--meta", hostile+"="+hostile)
	text, _, code := ownerCommand(t, "status", "--lease", lease)
	const cleaned = "[2J31mevilowner      root"
	if code != 0 || !strings.Contains(text, "endpoint   "+cleaned+"\n") || !strings.Contains(text, "meta       "+cleaned+"="+cleaned+"\n") {
		t.Errorf("exit %d, %q", code, text)
	}
	fields, raw, _ := status(t, lease)
	for _, r := range strings.TrimSuffix(raw, "\n") {
		if r < ' ' || r > '~' {
			t.Errorf("%U is in %q", r, raw)
		}
	}
	if fields["endpoint"] != hostile || fields["meta"].(map[string]any)[hostile] != hostile {
		t.Errorf("not faithful: %q", raw)
	}
	_, stderr, code := ownerCommand(t, "run", "-n", "--lease", lease+"\x1b[2J\n", "owner-no-such-\x1b[2J\ncommand")
	if code != 127 || strings.ContainsAny(strings.TrimSuffix(stderr, "\n"), "\x1b\n") {
		t.Errorf("exit %d, %q", code, stderr)
	}
}
