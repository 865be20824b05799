package main

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minictr/minictr/pkg/lang"
)

// What minictr refuses, it refuses in one line that names the flag, the field
// or the step, with exit status 1, of run 125, and nothing is left of it. These tests
// are the list of such lines; read them aloud before changing one.

// host is a minictr with directories of its own.
type host struct {
	dir string
}

func newHost(t *testing.T) host {
	t.Helper()
	h := host{t.TempDir()}
	if err := os.Mkdir(filepath.Join(h.dir, "run"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, code := h.run(t, nil, "images"); code != 0 && os.Getuid() == 0 { // makes the store
		t.Fatal(out)
	}
	return h
}

// run returns what minictr writes to standard error, and its exit status.
func (h host) run(t *testing.T, stdin []byte, args ...string) (string, int) {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), minictr, args...)
	cmd.Dir, cmd.Stdin, cmd.Stderr = h.dir, bytes.NewReader(stdin), &stderr
	cmd.Env = append(os.Environ(), "MINICTR_DATA_ROOT="+h.dir+"/root", "MINICTR_ROOT="+h.dir+"/run")
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return stderr.String(), exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return stderr.String(), 0
}

// refuses checks that minictr refuses the arguments with this message, where
// DIR is the host's directory and N any step.
func (h host) refuses(t *testing.T, stdin []byte, want string, args ...string) {
	t.Helper()
	before := h.fingerprint(t)
	got, code := h.run(t, stdin, args...)
	status := statusFailed
	bundle := slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--bundle") })
	if slices.Contains(args, "run") && !bundle {
		status = statusRun
	}
	if code != status {
		t.Errorf("exit status %d, want %d", code, status)
	}
	if line, rest, _ := strings.Cut(got, "\n"); rest != "" || !strings.HasPrefix(line, "minictr: ") {
		t.Errorf("not one line of minictr's:\n%s", got)
	}
	text, page := withoutCode(h.neutral(got))
	if page != "" && (pageOf(page, lang.English) == "" || bundle) {
		t.Errorf("the code %s has no page, or who calls the OCI's commands does not expect it", page)
	}
	if !matches(text, want) {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	var left map[string]string
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		left = h.fingerprint(t)
		maps.DeleteFunc(left, func(name, value string) bool { return before[name] == value })
		if len(left) == 0 {
			break // others' cgroups come and go
		}
	}
	if len(left) > 0 {
		t.Errorf("left: %q", slices.Sorted(maps.Keys(left)))
	}
}

// withoutCode takes the code of its page from a message.
func withoutCode(message string) (text, code string) {
	if m := regexp.MustCompile(`^(.*) \[([A-Z0-9-]+)\]$`).FindStringSubmatch(message); m != nil {
		return m[1], m[2]
	}
	return message, ""
}

// neutral takes from a message what differs from host to host.
func (h host) neutral(message string) string {
	text := strings.TrimSuffix(strings.TrimPrefix(message, "minictr: "), "\n")
	text = strings.ReplaceAll(strings.ReplaceAll(text, h.dir, "DIR"), "b/config.json: ", "")
	return regexp.MustCompile(`step \d+`).ReplaceAllString(text, "step N")
}

// matches compares a text with a pattern in which "..." stands for anything.
func matches(text, pattern string) bool {
	parts := strings.Split(pattern, "...")
	for i, part := range parts {
		parts[i] = regexp.QuoteMeta(part)
	}
	return regexp.MustCompile(`^` + strings.Join(parts, `.*`) + `$`).MatchString(text)
}

// fingerprint is what a refused command could leave: files, mounts, cgroups.
func (h host) fingerprint(t *testing.T) map[string]string {
	t.Helper()
	print := make(map[string]string)
	err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && !d.IsDir() {
			print[path] = info.ModTime().String()
		} else if err == nil {
			print[path] = "directory"
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, h.dir) {
			print[line] = "mount"
		}
	}
	for _, pattern := range []string{"/sys/fs/cgroup/minictr*/*", "/sys/fs/cgroup/*/minictr*/*"} {
		groups, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range groups {
			// One with processes is another test's.
			if procs, err := os.ReadFile(g + "/cgroup.procs"); err == nil && len(procs) == 0 {
				print[g] = "cgroup"
			}
		}
	}
	return print
}

// TestRefusesCommandLines gives minictr flags and arguments that make no
// sense. None of it needs root, because none of it gets as far.
func TestRefusesCommandLines(t *testing.T) {
	h := newHost(t)
	long := strings.Repeat("x", 65)
	for _, c := range []struct{ args, want string }{
		// unknown words
		{"nosuch", `unknown command "nosuch": minictr help lists them`},
		{"--nosuch", "unknown flag --nosuch: minictr help"},
		{"run --nosuch tiny", "unknown flag --nosuch: minictr help run"},
		{"run -Z tiny", "unknown flag -Z: minictr help run"},
		{"run -iZ tiny", "unknown flag -Z: minictr help run"},
		{"images -qx", "unknown flag -x: minictr help images"},
		{"help nosuch", `unknown command "nosuch": minictr help lists them`},
		{"completion csh", `no completion for the shell "csh"; there are bash, zsh and fish`},
		// arguments that are missing or too many
		{"run", "run needs an image: minictr run tiny sh"},
		{"plan", "plan needs an image: minictr plan tiny sh"},
		{"rm", "rm needs a container: minictr ps -a lists them"},
		{"rmi", "rmi needs an image: minictr images lists them"},
		{"pull", "pull requires exactly 1 argument(s): minictr pull IMAGE"},
		{"load", "image: load: the archive is empty"},
		{"load one two", "load requires exactly 1 argument(s): minictr load FILE"},
		{"completion", "completion requires exactly 1 argument(s): minictr completion bash|zsh|fish"},
		{"image", "image needs a second word: from, prune, tree; ls, rm, tag, pull and others are as without it"},
		{"images one two", "images requires exactly 1 argument(s): minictr images [REPOSITORY[:TAG]]"},
		{"spec here", "spec takes no arguments"},
		{"doctor me", "doctor takes no arguments"},
		{"version 2", "version takes no arguments"},
		{"run --bundle .", "run requires exactly 1 argument(s): minictr run --bundle DIR ID"},
		{"run --bundle . a b", "run requires exactly 1 argument(s): minictr run --bundle DIR ID"},
		{"run --name", "flag needs an argument: --name: minictr help run"},
		{"run -e", "flag needs an argument: -e: minictr help run"},
		// values of flags
		{"run -ite", "flag needs an argument: -e: minictr help run"},
		{"run --pids-limit many tiny", `invalid value "many" for flag --pids-limit: it is no number: minictr help run`},
		{"run --rm=maybe tiny", `invalid value "maybe" for flag --rm: it is neither true nor false: minictr help run`},
		{"--mirror localhost images", `--mirror: "localhost" is not HOST=URL, as in docker.io=http://localhost:5000`},
		{"plan --env =x tiny", `--env: "=x" is not NAME=VALUE`},
		{"plan --workdir here tiny", `--workdir: "here" is not an absolute path`},
		{"plan --user nobodyhere tiny", `user "nobodyhere": no such user in the image's /etc/passwd`},
		{"plan --user root:nogrouphere tiny", `user "root:nogrouphere": no such group "nogrouphere" in the image's /etc/group`},
		{"plan --user -1 tiny", `user "-1": -1 is no id from 0 to 2147483647`},
		{"plan --user 4294967295 tiny", `user "4294967295": 4294967295 is no id from 0 to 2147483647`},
		{"plan --user 99999999999999999999 tiny", `user "99999999999999999999": 99999999999999999999 is no id from 0 to 2147483647`},
		{"plan --user 0:2147483648 tiny", `user "0:2147483648": 2147483648 is no id from 0 to 2147483647`},
		{"plan --volume data tiny", `--volume: "data" is not HOST:CONTAINER[:OPTIONS], with CONTAINER an absolute path below /`},
		{"plan --volume /tmp:data tiny", `--volume: "/tmp:data" is not HOST:CONTAINER[:OPTIONS], with CONTAINER an absolute path below /`},
		{"plan --volume /tmp:/ tiny", `--volume: "/tmp:/" is not HOST:CONTAINER[:OPTIONS], with CONTAINER an absolute path below /`},
		{"plan --volume /tmp:/tmp:rw,loud tiny", `--volume: unknown option "loud" in "/tmp:/tmp:rw,loud"`},
		{"plan --volume :/data tiny", `--volume: ":/data" is not HOST:CONTAINER[:OPTIONS], with CONTAINER an absolute path below /`},
		{"plan --memory= tiny", "--memory: it is empty: leave it out, or give it a value"},
		{"plan --cpus= tiny", "--cpus: it is empty: leave it out, or give it a value"},
		{"run --bundle= x", "--bundle: it is empty: leave it out, or give it a value"},
		{"plan --diff --read-only --format json tiny", "--diff prints calls: it goes with neither --format nor --verbose"},
		{"plan --volume ./nosuch:/data tiny", "/mounts/8/source: DIR/nosuch: no such file or directory"},
		{"plan --hostname " + long + " tiny", `/hostname: "` + long + `" is longer than 64 bytes`},
		{"plan --memory lots tiny", `--memory: "lots" is no number of bytes, with or without b, k, m or g`},
		{"plan --memory -1m tiny", `--memory: "-1m" is no number of bytes, with or without b, k, m or g`},
		{"plan --memory 99999999999g tiny", `--memory: "99999999999g" is no number of bytes, with or without b, k, m or g`},
		{"plan --memory 100k tiny", `--memory: "100k" is less than 6 MB, with which no program begins`},
		{"plan --cpus two tiny", `--cpus: "two" is no number of processors from 0.01 to 4096`},
		{"plan --cpus 0 tiny", `--cpus: "0" is no number of processors from 0.01 to 4096`},
		{"plan --cpus NaN tiny", `--cpus: "NaN" is no number of processors from 0.01 to 4096`},
		{"plan --pids-limit -2 tiny", "--pids-limit: -2 is neither a number of processes nor -1, no limit"},
		{"plan --cap-add fly tiny", `--cap-add: unknown capability "CAP_FLY"`},
		{"plan --cap-drop fly tiny", `--cap-drop: unknown capability "CAP_FLY"`},
		{"plan --network container:nosuch tiny", "--network: container does not exist: nosuch: minictr ps lists them"},
		{"plan --gpus all tiny", "--gpus: nothing here knows how to share a graphics processor; --device gives a device that the host has"},
		{"run --health-cmd true tiny", "--health-cmd: there are no health checks: what serves says itself whether it does"},
		{"run --runtime=runc tiny", "--runtime: minictr is the runtime itself, and knows no other"},
		{"plan --isolation process tiny", "--isolation: it is for Windows; here it is made of the bricks of the wall: minictr plan"},
		{"plan --platform arm tiny", `--platform: "arm" is not OS/ARCH[/VARIANT], as in linux/arm64`},
		{"plan --cpu-shares -1 tiny", `invalid value "-1" for flag --cpu-shares: it is no number: minictr help plan`},
		{"plan --tmpfs /x:loud tiny", `--tmpfs: unknown option "loud" in "/x:loud"`},
		{"plan --without wheels tiny", `--without: no brick "wheels" can be left out; there are pid, net, ipc, uts, user, cgroup, seccomp, masks, root, nnp, caps`},
		{"plan --without mount tiny", `--without: no brick "mount" can be left out; there are pid, net, ipc, uts, user, cgroup, seccomp, masks, root, nnp, caps`},
		{"plan --name a/b tiny", `--name: invalid container ID format: "a/b": letters, digits and _+-. are allowed, at most 128`},
		{"plan --name .. tiny", `--name: invalid container ID format: "..": letters, digits and _+-. are allowed, at most 128`},
		{"plan --format xml tiny", `--format: "xml" is neither text nor json`},
		{"plan --diff --nosuch tiny", "--diff: unknown flag --nosuch: minictr help plan"},
		{"plan -e A=B nosuch/", "--env: not for a bundle, which has a config.json to say that"},
		{"plan nosuch/ ls", "plan of a bundle takes no command: config.json has it"},
		{"run --hostname box --bundle nosuch x", "--hostname: not for a bundle, which has a config.json to say that"},
		// files and names
		{"plan nosuch/", "JSON specification file config.json not found: open nosuch/config.json: no such file or directory"},
		{"run --bundle nosuch x", "JSON specification file config.json not found: open DIR/nosuch/config.json: no such file or directory"},
		{"spec --bundle nosuch", "open nosuch/config.json: no such file or directory"},
		{"load \x1b[2Jnosuch\u009b", `image: load \x1b[2Jnosuch\x9b: stat \x1b[2Jnosuch\x9b: no such file or directory`},
		{"pull UPPER", `reference "UPPER": "UPPER": the name must be in lower case`},
		{"pull name:", `reference "name:": "" is not a tag: want at most 128 letters, digits, '_', '.' and '-', not beginning with '.' or '-'`},
		{"pull name@sha256:abc", `reference "name@sha256:abc": digest "sha256:abc": want 64 lower-case hexadecimal digits`},
		{"rm nosuch", "container does not exist: nosuch: minictr ps lists them"},
		{"rm ../victim", "container does not exist: ../victim: minictr ps lists them"},
	} {
		t.Run(c.args, func(t *testing.T) { h.refuses(t, nil, c.want, strings.Fields(c.args)...) })
	}
}
