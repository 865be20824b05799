package peers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// vary are the things that two engines cannot have the same, and what stands
// for them.
var vary = []struct {
	pattern *regexp.Regexp
	letters string
}{
	{regexp.MustCompile(`\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b`), "ID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)`), "TIME"},
	{regexp.MustCompile(`(?i)\b(less than a|about an?|\d+) (second|minute|hour)s?\b( ago)?`), "AGO"},
	{regexp.MustCompile(`\b\d+(\.\d+)? ?([kMGT]i?)?B\b`), "SIZE"},
	{regexp.MustCompile(`\b(172|192|10)(\.\d+){3}\b`), "ADDRESS"},
	{regexp.MustCompile(`:(3[2-9]|4\d|5\d|6[0-5])\d{3}\b`), ":PORT"},
	{regexp.MustCompile(`[ \t]+`), " "},
	{regexp.MustCompile(`(?m) +$`), ""},
	{regexp.MustCompile(`(?m)^exit 255, `), "exit 1, "}, // exec of what does not run
}

// outcome is what a command line does: its output, whether it says something
// besides, and how it ends.
func outcome(t *testing.T, line, dir string, env, starter []string) (result, said string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	argv := append(slices.Clone(starter), "sh", "-c", line)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = dir, append(os.Environ(), env...), time.Second
	var out, errors_ bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errors_
	status := 0
	if err := cmd.Run(); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok || ctx.Err() != nil {
			t.Errorf("%s: %v", line, err)
			return err.Error(), errors_.String()
		}
		status = exit.ExitCode()
	}
	result = fmt.Sprintf("%sexit %d, stderr: %t\n", out.String(), status, errors_.Len() > 0)
	for _, v := range vary {
		result = v.pattern.ReplaceAllString(result, v.letters)
	}
	return result, errors_.String()
}

// everydayLines are those of the script.
func everydayLines(t *testing.T) (lines []string) {
	t.Helper()
	text, err := os.ReadFile("testdata/everyday.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSuffix(line, "\n"); line != "" && !strings.HasPrefix(line, "# ") {
			lines = append(lines, line)
		}
	}
	return lines
}

// ofRoot has the results of root's minictr, which TestEveryday records: a virtual
// machine takes long for them.
const ofRoot = "testdata/everyday.json"

var update = flag.Bool("update", false, "rewrite "+ofRoot)

// done is a command that was given, and what it did.
type done struct{ Command, Result string }

func resultsOfRoot(t *testing.T) (results []done) {
	t.Helper()
	text, err := os.ReadFile(ofRoot)
	if err == nil {
		err = json.Unmarshal(text, &results)
	}
	if err != nil && !*update {
		t.Fatal(err)
	}
	return results
}

// differencesOf reads a list of a page: "- `COMMAND`: REASON".
func differencesOf(t *testing.T, page string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "- `"); ok {
			command, reason, ok := strings.Cut(strings.TrimSpace(rest), "`: ")
			if !ok || reason == "" {
				t.Errorf("%s: no reason: %s", page, line)
			}
			list[command] = reason
		}
	}
	return list
}

// TestEveryday gives the same commands of every day to Docker and to minictr.
// Each is on a network of its own, which plays the host's.
func TestEveryday(t *testing.T) {
	needs(t, "dockerd", "docker", "tar", "busybox", "ip", "iptables", "unshare", "nsenter")
	listed, korean := differencesOf(t, "../../docs/differences.md"), differencesOf(t, "../../docs/differences.ko.md")
	if k, l := slices.Sorted(maps.Keys(korean)), slices.Sorted(maps.Keys(listed)); !slices.Equal(k, l) {
		t.Errorf("the two pages list other commands:\n%q\n%q", k, l)
	}
	// Who inherits processes and does not wait for them lets no namespace end.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })
	dir := t.TempDir()
	network := "/run/" + filepath.Base(scratch) + ".net"
	script := fmt.Sprintf(`mkdir %[1]s/docker %[1]s/minictr; tar -C %[2]s -cf %[1]s/docker/rootfs.tar .; cp %[1]s/docker/rootfs.tar %[1]s/minictr
touch %[3]s; unshare --net=%[3]s ip link set lo up`, dir, rootfs(t), network)
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", network).Run() })
	address := dockerd(t)
	if out, err := exec.Command("docker", "--host", address, "rmi", "busybox").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	theirs := []string{"D=docker", "DOCKER_HOST=" + address, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	ours := []string{"D=minictr", "MINICTR_DATA_ROOT=" + dir + "/data", "MINICTR_ROOT=" + dir + "/run", "LC_ALL=C", "PATH=" + scratch + ":" + os.Getenv("PATH")}
	t.Cleanup(func() {
		for _, env := range [][]string{theirs, ours} { // in case of a failure
			rm := exec.Command("sh", "-c", "$D ps -aq | xargs -r $D rm -f")
			rm.Env = append(os.Environ(), env...)
			if err := rm.Run(); err != nil {
				t.Error(err)
			}
		}
	})
	was, is := resultsOfRoot(t), []done(nil)
	for i, line := range everydayLines(t) {
		want, theySaid := outcome(t, line, dir+"/docker", theirs, nil)
		got, weSaid := outcome(t, line, dir+"/minictr", ours, []string{"nsenter", "--net=" + network})
		is = append(is, done{line, got})
		_, differs := listed[line]
		delete(listed, line)
		if (got == want) == differs {
			t.Errorf("%s\ndocker:\n%s%s\nminictr:\n%s%s", line, want, theySaid, got, weSaid)
		}
		if !*update && (i >= len(was) || is[i] != was[i]) {
			t.Errorf("%s\nminictr:\n%sanother result was recorded: go test -run TestEveryday -update", line, got)
		}
	}
	if !*update && len(was) != len(is) {
		t.Errorf("%d results are recorded, and not %d: go test -run TestEveryday -update", len(was), len(is))
	}
	if *update {
		text, err := json.MarshalIndent(is, "", "\t")
		if err == nil {
			err = os.WriteFile(ofRoot, append(text, '\n'), 0o644)
		}
		if err != nil {
			t.Error(err)
		}
	}
	for line := range listed {
		t.Errorf("differences.md lists what no test does: %s", line)
	}
}
