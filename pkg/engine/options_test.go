package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/spec"
)

var update = flag.Bool("update", false, "rewrite the golden specs")

// alpine is an image to make specs of.
func alpine() Template {
	return Template{
		Config: spec.Image{
			Cmd: []string{"/bin/sh"}, Env: []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"},
			Labels:  map[string]string{"maker": "nobody", spec.Unlimited: "true"},
			Volumes: map[string]struct{}{"/data": {}, "/dev/shm/": {}},
		},
		Layers: []string{"l/0", "l/1"},
		Read: func(path string) ([]byte, error) {
			switch path {
			case "/etc/passwd":
				return []byte("root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000:me:/home/me:/bin/sh\n"), nil
			case "/etc/group":
				return []byte("root:x:0:\nwheel:x:10:me\n"), nil
			}
			return nil, fs.ErrNotExist
		},
	}
}

// TestSpec compares what options make of an image with testdata: the default
// as a whole, and for each set of options where they differ from it, as a JSON
// merge patch (RFC 7396).
func TestSpec(t *testing.T) {
	base := document(t, Options{})
	golden(t, "default.json", base)
	for name, o := range map[string]Options{
		"arguments": {Args: []string{"ls", "-l"}},
		"process": {
			Entrypoint: []string{"env"}, Workdir: "/srv", User: "me", Terminal: true, Privileges: true,
			Env: []string{"A=1", "A=2", "HERE", "MISSING"}, Sources: Sources{Lookup: func(name string) (string, bool) { return "found", name == "HERE" }},
		},
		"limits":       {Limits: Limits{Memory: "20m", CPUs: "0.5", Pids: 20}},
		"no-limits":    {Limits: Limits{Pids: -1}},
		"capabilities": {CapAdd: []string{"net_raw", "CAP_SYS_PTRACE"}, CapDrop: []string{"chown", "Kill", "net_raw"}},
		"no-power":     {CapDrop: []string{"ALL"}, ReadOnly: true},
		"host-network": {Connection: Connection{Network: "host"}, Hostname: "box"},
		"volumes":      {Volumes: []string{"/srv/a:/a", "/srv/b:/b/:ro,noexec"}},
		"without":      {Without: []string{"cgroup", "seccomp", "masks", "nnp", "uts"}},
		"without-root": {Without: []string{"root"}},
	} {
		t.Run(name, func(t *testing.T) { golden(t, name+".json", difference(base, document(t, o))) })
	}
}

// document is the spec as JSON, and without the filter, which is another
// package's and as long as the rest.
func document(t *testing.T, o Options) map[string]any {
	t.Helper()
	s, bricks, err := Spec("ID", alpine(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(bricks) < len(o.Without) {
		t.Errorf("%d bricks are left out, want %d", len(bricks), len(o.Without))
	}
	filtered := !slices.ContainsFunc(bricks, func(b spec.Brick) bool { return b.Name == "seccomp" })
	if filtered != (s.Linux.Seccomp != nil) {
		t.Errorf("that system calls are filtered is %t, and what is said is %t", !filtered, filtered)
	}
	s.Linux.Seccomp = nil
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var d map[string]any
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// difference is the merge patch that makes b of a.
func difference(a, b map[string]any) map[string]any {
	patch := make(map[string]any)
	for key := range a {
		if _, there := b[key]; !there {
			patch[key] = nil
		}
	}
	for key, value := range b {
		from, isObject := a[key].(map[string]any)
		to, both := value.(map[string]any)
		switch {
		case isObject && both:
			if inner := difference(from, to); len(inner) > 0 {
				patch[key] = inner
			}
		case !equal(a[key], value):
			patch[key] = value
		}
	}
	return patch
}

func equal(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return errors.Join(err1, err2) == nil && bytes.Equal(x, y)
}

func golden(t *testing.T, name string, v any) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}

// TestSpecFilter checks that the filter knows of the capabilities: without
// CAP_SYS_ADMIN there is no mount(2) to try.
func TestSpecFilter(t *testing.T) {
	allows := func(o Options, call string) bool {
		s, _, err := Spec("ID", alpine(), o)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(s.Linux.Seccomp.Syscalls, func(r specs.LinuxSyscall) bool {
			return r.Action == specs.ActAllow && slices.Contains(r.Names, call)
		})
	}
	if allows(Options{}, "mount") || !allows(Options{CapAdd: []string{"SYS_ADMIN"}}, "mount") {
		t.Error("the filter does not follow the capabilities")
	}
}

func TestSpecRefuses(t *testing.T) {
	nothing := alpine()
	nothing.Config.Cmd = nil
	for _, c := range []struct {
		o    Options
		img  Template
		want string
	}{
		{Options{}, nothing, "the image names no command to run: add one after the image"},
		{Options{Entrypoint: []string{}}, alpine(), "the image names no command to run: add one after the image"},
		{Options{Env: []string{"=x"}}, alpine(), `--env: "=x" is not NAME=VALUE`},
		{Options{Env: []string{""}}, alpine(), `--env: "" is not NAME=VALUE`},
		{Options{Name: "a/b"}, alpine(), `--name: invalid container ID format: "a/b": letters, digits and _+-. are allowed, at most 128`},
		{Options{User: "you"}, alpine(), `user "you": no such user in the image's /etc/passwd`},
		{Options{CapAdd: []string{""}}, alpine(), `--cap-add: unknown capability "CAP_"`},
		{Options{Limits: Limits{CPUs: "-1"}}, alpine(), `--cpus: "-1" is no number of processors from 0.01 to 4096`},
		{Options{Limits: Limits{CPUs: "Inf"}}, alpine(), `--cpus: "Inf" is no number of processors from 0.01 to 4096`},
		{Options{Volumes: []string{"a:b:c:d"}}, alpine(), `--volume: "a:b:c:d" is not HOST:CONTAINER[:OPTIONS], with CONTAINER an absolute path below /`},
		{Options{Volumes: []string{"/a:/.."}}, alpine(), `--volume: "/a:/.." is not HOST:CONTAINER[:OPTIONS], with CONTAINER an absolute path below /`},
		{Options{Hostname: strings.Repeat("x", 65)}, alpine(), `/hostname: "` + strings.Repeat("x", 65) + `" is longer than 64 bytes`},
	} {
		if _, _, err := Spec("ID", c.img, c.o); err == nil || err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}

func TestBytesOf(t *testing.T) {
	for _, c := range []struct {
		text string
		want int64 // 0: refused
	}{
		{"6291456", 6 << 20},
		{"6291456b", 6 << 20},
		{"6144k", 6 << 20},
		{"6m", 6 << 20},
		{"20M", 20 << 20},
		{"20mb", 20 << 20},
		{"20MiB", 20 << 20},
		{"1g", 1 << 30},
		{"1Gb", 1 << 30},
		{"1GiB", 1 << 30},
		{"8589934591g", 8589934591 << 30},
		{"", 0},
		{"m", 0},
		{"1", 1},
		{"5m", 5 << 20},
		{"-6m", 0},
		{"6.5m", 13 << 19},
		{"6 m", 0},
		{"6mm", 0},
		{"6t", 0},
		{"0x6m", 0},
		{"8589934592g", 0},
		{"9223372036854775808", 0},
		{"6mbb", 0},
		{"6kk", 0},
		{"6bk", 0},
	} {
		got, err := Bytes(c.text)
		if got != c.want || (err == nil) != (c.want != 0) {
			t.Errorf("Bytes(%q) = %d, %v, want %d", c.text, got, err, c.want)
		}
	}
}

func TestCapabilities(t *testing.T) {
	got, err := capabilities("--x", []string{"chown", "CAP_NET_RAW", "Cap_Sys_Time", "all"})
	if want := []string{"CAP_CHOWN", "CAP_NET_RAW", "CAP_SYS_TIME", "ALL"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	for _, bad := range []string{"", "CAP_", "fly", "CAP_CAP_CHOWN", "CAP_ALL", "chown "} {
		if got, err := capabilities("--x", []string{bad}); err == nil || !strings.HasPrefix(err.Error(), "--x: unknown capability ") {
			t.Errorf("%q: got %q, %v", bad, got, err)
		}
	}
}

// TestBuiltinTemplate checks that the description of the built-in image, which
// plans are made of, has what a container of it needs.
func TestBuiltinTemplate(t *testing.T) {
	s, _, err := Spec("ID", builtinTemplate(), Options{User: "student"})
	if err != nil {
		t.Fatal(err)
	}
	if s.Process.User.UID != 1000 || s.Process.Args[0] != "/bin/sh" || len(s.Mounts[0].Options) == 0 {
		t.Errorf("got %+v, %+v", s.Process, s.Mounts[0])
	}
}
