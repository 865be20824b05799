package spec

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestDefault checks that the default wall has all the bricks, and stays the
// same on its way through a bundle.
func TestDefault(t *testing.T) {
	s := Default()
	if err := Validate(s); err != nil {
		t.Fatal(err)
	}
	for _, n := range []specs.LinuxNamespaceType{
		specs.PIDNamespace, specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.MountNamespace, specs.CgroupNamespace,
	} {
		if !hasNamespace(s, n) {
			t.Errorf("no %s namespace", n)
		}
	}
	caps := s.Process.Capabilities
	if len(caps.Bounding) != 11 || !slices.Equal(caps.Bounding, caps.Effective) || !slices.Equal(caps.Bounding, caps.Permitted) ||
		caps.Inheritable != nil || caps.Ambient != nil || slices.Contains(caps.Bounding, "CAP_SYS_ADMIN") {
		t.Errorf("capabilities %+v", caps)
	}
	if !s.Process.NoNewPrivileges || *s.Linux.Resources.Pids.Limit != 2048 || s.Linux.Resources.Devices[0].Allow ||
		len(s.Linux.MaskedPaths) == 0 || len(s.Linux.ReadonlyPaths) == 0 {
		t.Error("a brick is missing")
	}
	for _, m := range s.Mounts {
		if !slices.Contains(m.Options, "nosuid") || !slices.Contains(m.Options, "noexec") {
			t.Errorf("%s: %q", m.Destination, m.Options)
		}
		if strings.HasPrefix(m.Destination, "/sys") && !slices.Contains(m.Options, "ro") {
			t.Errorf("%s can be written", m.Destination)
		}
	}
	bundle := t.TempDir()
	if err := Write(bundle, s); err != nil {
		t.Fatal(err)
	}
	if got, err := Load(bundle); err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, s)
	}
	if err := Write(bundle, s); !errors.Is(err, fs.ErrExist) {
		t.Errorf("config.json is replaced: %v", err)
	}
}

// TestDefaultShares checks that two defaults have nothing in common: who
// edits one does not edit the other.
func TestDefaultShares(t *testing.T) {
	s, want := Default(), Default()
	s.Process.Capabilities.Bounding[0] = "x"
	s.Process.Env[0] = "x"
	s.Mounts[0].Options[0] = "x"
	*s.Linux.Resources.Pids.Limit = 1
	if !reflect.DeepEqual(Default(), want) || s.Process.Capabilities.Effective[0] == "x" {
		t.Error("an edit shows elsewhere")
	}
}

func TestLoad(t *testing.T) {
	bundle := t.TempDir()
	_, err := Load(bundle)
	if !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "JSON specification file config.json not found: ") {
		t.Errorf("got %v", err)
	}
	name := filepath.Join(bundle, ConfigFile)
	if err := os.WriteFile(name, []byte("{\n\n}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(bundle); err == nil || !strings.HasPrefix(err.Error(), name+": /ociVersion: ") {
		t.Errorf("got %v", err)
	}
}

// TestParse reads texts that differ from the default one in a place.
func TestParse(t *testing.T) {
	for _, c := range []struct{ name, old, to, want string }{
		{"the same", "", "", ""},
		{"an unknown field", `"ociVersion"`, `"new": {"a": [1]}, "ociVersion"`, ""},
		{"null", `"root": {`, `"hooks": null, "root": {`, ""},
		{"no JSON", "{", "x", "line 1: invalid character"},
		{"a wrong type", `"/proc",`, "[],", "/mounts/0/destination: must be a string, not an array"},
		{"a wrong element", `"sh"`, "1", "/process/args/0: must be a string, not a number"},
		{"a wrong number", `2048`, `"2048"`, "/linux/resources/pids/limit: must be a whole number, not a string"},
		{"a wrong value", `"RLIMIT_CORE"`, "true", "/process/rlimits/0/type: must be a string, not true"},
		{"a NUL in text", `"sh"`, `"a\u0000"`, "/process/args/0: a NUL byte ends every string of the kernel"},
		{"a NUL in a name", `"ociVersion"`, `"annotations": {"\u0000": ""}, "ociVersion"`, "/annotations: a NUL byte ends"},
		{"a NUL under an unknown field", `"ociVersion"`, `"new": "\u0000", "ociVersion"`, ""},
		{"a backslash and a u", `"sh"`, `"\\u0000"`, ""},
		{"invalid", `"/proc",`, `"",`, "/mounts/0/destination: missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(defaultText(t), c.old, c.to, 1)
			if c.old != "" && !strings.Contains(defaultText(t), c.old) {
				t.Fatalf("the default has no %s", c.old)
			}
			_, err := Parse([]byte(text))
			if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func defaultText(t testing.TB) string {
	t.Helper()
	bundle := t.TempDir()
	if err := Write(bundle, Default()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(bundle, ConfigFile))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// FuzzParse checks that no text brings Parse down, that what it takes stays
// the same when it is written and read again, and that no string of it holds
// a NUL.
func FuzzParse(f *testing.F) {
	f.Add([]byte(defaultText(f)))
	f.Add([]byte(`{"ociVersion":"1.0.0","linux":{"namespaces":[{"type":"mount"}],"sysctl":{"a..b":""}},"root":{"path":"/"},"process":{"args":["x\u0000"],"cwd":"/","user":{"uid":4294967295}}}`))
	f.Add([]byte(`{"mounts":[{"destination":{}}],"mounts":[]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Parse(text)
		if err != nil {
			if strings.Contains(err.Error(), "specs.") {
				t.Errorf("the message names a type of Go: %v", err)
			}
			return
		}
		if err := noNUL("", reflect.ValueOf(s)); err != nil {
			t.Error(err)
		}
		bundle := t.TempDir()
		if err := Write(bundle, s); err != nil {
			t.Fatal(err)
		}
		again, err := Load(bundle)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(bundle, ConfigFile)); err != nil {
			t.Fatal(err)
		}
		if err := Write(bundle, again); err != nil {
			t.Fatal(err)
		}
	})
}
