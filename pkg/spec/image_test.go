package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// files are those of an image.
func files(passwd, group string) FileReader {
	return func(path string) ([]byte, error) {
		switch {
		case path == "/etc/passwd" && passwd != "":
			return []byte(passwd), nil
		case path == "/etc/group" && group != "":
			return []byte(group), nil
		}
		return nil, fs.ErrNotExist
	}
}

func TestSetImage(t *testing.T) {
	for _, c := range []struct {
		name             string
		config           Image
		entrypoint, args []string
		want             []string // nil: an error
	}{
		{"Cmd", Image{Cmd: []string{"a", "b"}}, nil, nil, []string{"a", "b"}},
		{"Entrypoint and Cmd", Image{Entrypoint: []string{"e"}, Cmd: []string{"a"}}, nil, nil, []string{"e", "a"}},
		{"arguments for Cmd", Image{Entrypoint: []string{"e"}, Cmd: []string{"a"}}, nil, []string{"x"}, []string{"e", "x"}},
		{"another entrypoint", Image{Entrypoint: []string{"e"}, Cmd: []string{"a"}}, []string{"f"}, nil, []string{"f"}},
		{"another entrypoint, and arguments", Image{Entrypoint: []string{"e"}, Cmd: []string{"a"}}, []string{"f"}, []string{"x"}, []string{"f", "x"}},
		{"no entrypoint", Image{Entrypoint: []string{"e"}, Cmd: []string{"a"}}, []string{}, []string{"x"}, []string{"x"}},
		{"nothing", Image{}, nil, nil, nil},
		{"nothing left", Image{Entrypoint: []string{"e"}, Cmd: []string{"a"}}, []string{}, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Default()
			err := SetImage(s, c.config, c.entrypoint, c.args, files("", ""))
			if (err == nil) != (c.want != nil) || err == nil && !slices.Equal(s.Process.Args, c.want) {
				t.Errorf("got %q, %v, want %q", s.Process.Args, err, c.want)
			}
		})
	}
}

// TestSetImageConfig is the rest of an image's configuration.
func TestSetImageConfig(t *testing.T) {
	s := Default()
	err := SetImage(s, Image{
		Cmd: []string{"x"}, WorkingDir: "srv", StopSignal: "SIGINT", User: "5",
		Env:    []string{"A=1", "PATH=/p", "A=2", "no value", "=no name", "B="},
		Labels: map[string]string{"maker": "me", Unlimited: "true"},
	}, nil, nil, files("", ""))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"PATH=/p", "A=2", "B=", "HOME=/"}; !slices.Equal(s.Process.Env, want) {
		t.Errorf("got %q, want %q", s.Process.Env, want)
	}
	if s.Process.Cwd != "/srv" || s.Process.User.UID != 5 {
		t.Errorf("got %q, %v", s.Process.Cwd, s.Process.User)
	}
	// A label is no order to this runtime: an image can't take its own limits off.
	want := map[string]string{"maker": "me", "org.opencontainers.image.stopSignal": "SIGINT"}
	if !maps.Equal(s.Annotations, want) {
		t.Errorf("got %q, want %q", s.Annotations, want)
	}
	if err := Validate(s); err != nil {
		t.Error(err)
	}
}

func TestSetUser(t *testing.T) {
	const (
		passwd = "root:x:0:0:root:/root:/bin/sh\nme:x:1000:100:Me:/home/me:/bin/sh\n1000:x:0:0:evil:/evil:/bin/sh\n" +
			"homeless:x:7:8:::\nshort:x:9\nbad:x:x:0::/:\nempty:x:::::\nminus:x:-1:0::/:\nlarge:x:4294967296:0::/:\ngroupless:x:10:none::/:\n"
		group = "root:x:0:\nusers:x:100:\nwheel:x:10:root,me\naudio:x:11:me,other\nsame:x:100:me\nlarge:x:2147483648:me\nbad:x:x:me\n5:x:6:\n"
	)
	for _, c := range []struct {
		user string
		want string // uid gid additional-gids home, or an error
	}{
		{"", "0 0 [0 10] /root"},
		{"root", "0 0 [0 10] /root"},
		{"0", "0 0 [0 10] /root"},
		{"me", "1000 100 [100 10 11] /home/me"},
		{"1000", "1000 100 [100 10 11] /home/me"}, // and not the user whose name is 1000
		{"me:wheel", "1000 10 [10] /home/me"},
		{"me:5", "1000 5 [5] /home/me"}, // and not the group whose name is 5
		{"1234", "1234 0 [0] /"},
		{"1234:4321", "1234 4321 [4321] /"},
		{":5", "0 5 [5] /root"},
		{"homeless", "7 8 [8] /"},
		{"2147483647", "2147483647 0 [0] /"},
		{"nobodyhere", `user "nobodyhere": no such user in the image's /etc/passwd`},
		{"me:nogroup", `user "me:nogroup": no such group "nogroup" in the image's /etc/group`},
		{"me:", `user "me:": no such group "" in the image's /etc/group`},
		{"me:a:b", `user "me:a:b": no such group "a:b" in the image's /etc/group`},
		{"-1", `user "-1": -1 is no id from 0 to 2147483647`},
		{"4294967295", `user "4294967295": 4294967295 is no id from 0 to 2147483647`},
		{"4294967296", `user "4294967296": 4294967296 is no id from 0 to 2147483647`},
		{"2147483648", `user "2147483648": 2147483648 is no id from 0 to 2147483647`},
		{"18446744073709551616", `user "18446744073709551616": 18446744073709551616 is no id from 0 to 2147483647`},
		{"0:-1", `user "0:-1": -1 is no id from 0 to 2147483647`},
		{"0x10", `user "0x10": no such user in the image's /etc/passwd`},
		{" 5", `user " 5": no such user in the image's /etc/passwd`},
		{"short", `user "short": no such user in the image's /etc/passwd`},
		{"bad", `user "bad" in the image's /etc/passwd: "x" is no number`},
		{"empty", `user "empty" in the image's /etc/passwd: "" is no number`},
		{"minus", `user "minus" in the image's /etc/passwd: -1 is no id from 0 to 2147483647`},
		{"large", `user "large" in the image's /etc/passwd: 4294967296 is no id from 0 to 2147483647`},
		{"groupless", `user "groupless" in the image's /etc/passwd: "none" is no number`},
		{"me:large", `user "me:large": group "large" in the image's /etc/group: 2147483648 is no id from 0 to 2147483647`},
		{"me:bad", `user "me:bad": group "bad" in the image's /etc/group: "x" is no number`},
	} {
		t.Run(c.user, func(t *testing.T) {
			s := Default()
			err := SetUser(s, c.user, files(passwd, group))
			if err != nil {
				if err.Error() != c.want {
					t.Errorf("got  %v\nwant %s", err, c.want)
				}
				return
			}
			u := s.Process.User
			home := strings.TrimPrefix(s.Process.Env[len(s.Process.Env)-1], "HOME=")
			if got := fmt.Sprintln(u.UID, u.GID, u.AdditionalGids, home); got != c.want+"\n" {
				t.Errorf("got %swant %s", got, c.want)
			}
		})
	}
}

// TestSetUserFiles is about the files themselves.
func TestSetUserFiles(t *testing.T) {
	s := Default()
	if err := SetUser(s, "0", files("", "")); err != nil || !slices.Equal(s.Process.User.AdditionalGids, []uint32{0}) {
		t.Errorf("without files: %v, %v", s.Process.User, err)
	}
	broken := errors.New("broken")
	if err := SetUser(s, "0", func(string) ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	// A line may be longer than any buffer, and the last need not end.
	long := "crowd:x:5:" + strings.Repeat("somebody,", 20000) + "\nwheel:x:10:me"
	if err := SetUser(s, "me", files("me:x:1000:1000::/:", long)); err != nil || !slices.Equal(s.Process.User.AdditionalGids, []uint32{1000, 10}) {
		t.Errorf("got %v, %v", s.Process.User, err)
	}
	// The image's own HOME stays.
	s.Process.Env = []string{"HOME=/own"}
	if err := SetUser(s, "me", files("me:x:1000:1000::/home/me:", "")); err != nil || !slices.Equal(s.Process.Env, []string{"HOME=/own"}) {
		t.Errorf("got %q, %v", s.Process.Env, err)
	}
}

func TestWithout(t *testing.T) {
	for _, b := range Bricks() {
		t.Run(b.Name, func(t *testing.T) {
			s := Default()
			s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
			s.Mounts = slices.Insert(s.Mounts, 0, specs.Mount{Destination: "/", Type: "overlay", Source: "overlay"})
			s.Hostname = "x"
			if b.Name == "user" { // which the default has not
				s.Linux.Namespaces = append(s.Linux.Namespaces, userNS)
				s.Linux.UIDMappings = []specs.LinuxIDMapping{{Size: 1}}
				s.Linux.GIDMappings = s.Linux.UIDMappings
			}
			before := fmt.Sprintf("%+v %+v %+v %v", s.Linux, s.Process, s.Root, s.Mounts)
			got, err := Without(s, b.Name)
			if err != nil || len(got) != 1 || got[0].Name != b.Name || got[0].Leaks == "" {
				t.Fatalf("got %v, %v", got, err)
			}
			if after := fmt.Sprintf("%+v %+v %+v %v", s.Linux, s.Process, s.Root, s.Mounts); after == before {
				t.Error("nothing is left out")
			}
			if !hasNamespace(s, specs.MountNamespace) {
				t.Error("its mounts would be the host's")
			}
			if err := Validate(s); err != nil {
				t.Error(err)
			}
		})
	}
	_, err := Without(Default(), "mount")
	if want := `no brick "mount" can be left out; there are pid, net, ipc, uts, user, cgroup, seccomp, masks, root, nnp, caps`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestWithoutAll leaves everything out at once, but for one of the two bricks
// that tell which processes are the container's.
func TestWithoutAll(t *testing.T) {
	s := Default()
	var names []string
	for _, b := range Bricks() {
		if b.Name != "pid" {
			names = append(names, b.Name)
		}
	}
	if _, err := Without(s, names...); err != nil {
		t.Fatal(err)
	}
	if err := Validate(s); err != nil {
		t.Fatal(err)
	}
	if len(s.Linux.Namespaces) != 2 || s.Annotations[Unlimited] == "" || !s.Root.Readonly || s.Root.Path != "/" {
		t.Errorf("got %+v, %+v", s.Linux.Namespaces, s.Root)
	}
	for _, c := range []string{"CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_BOOT", "CAP_SYS_TIME", "CAP_DAC_READ_SEARCH"} {
		if slices.Contains(s.Process.Capabilities.Bounding, c) {
			t.Errorf("with %s it touches the host", c)
		}
	}
	if _, err := Without(s, "pid"); err != nil || Validate(s) == nil {
		t.Errorf("nothing can find its processes: %v", err)
	}
	if len(Capabilities) != 11 || Capabilities[10] != "CAP_SYS_CHROOT" {
		t.Errorf("the default has changed: %q", Capabilities)
	}
}

// TestWithoutPairs checks that capabilities which come back where the brick
// that holds them is left out as well don't reach the host.
func TestWithoutPairs(t *testing.T) {
	for brick, held := range map[string]string{"pid": "CAP_SYS_PTRACE", "net": "CAP_NET_ADMIN", "ipc": "CAP_IPC_OWNER", "cgroup": "CAP_MKNOD"} {
		alone, both := Default(), Default()
		both.Mounts = append(both.Mounts, specs.Mount{Destination: "/data", Type: "bind", Source: "/dev"})
		for s, names := range map[*specs.Spec][]string{alone: {"caps"}, both: {"caps", brick}} {
			if _, err := Without(s, names...); err != nil {
				t.Fatal(err)
			}
			if got, want := slices.Contains(s.Process.Capabilities.Bounding, held), s == alone; got != want {
				t.Errorf("without %q: %s is %v", names, held, got)
			}
		}
		if data := both.Mounts[len(both.Mounts)-1]; brick == "cgroup" && !slices.Contains(data.Options, "nodev") {
			t.Errorf("devices of the host can be opened: %v", data)
		}
	}
}

// TestDefaultDevices checks the rules for devices: none that reaches the host.
func TestDefaultDevices(t *testing.T) {
	s := Default()
	s.Process.Terminal = true
	s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/u", Type: "u", Major: 10, Minor: 200}, {Path: "/dev/p", Type: "p"}}
	var rules []string
	number := func(n *int64) string {
		if n == nil {
			return "*"
		}
		return fmt.Sprint(*n)
	}
	for _, r := range DefaultDevices(s) {
		rules = append(rules, fmt.Sprintf("%t %s %s:%s %s", r.Allow, r.Type, number(r.Major), number(r.Minor), r.Access))
	}
	want := []string{
		"true c *:* m", "true b *:* m", "true c 1:3 rwm", "true c 1:5 rwm", "true c 1:7 rwm", "true c 1:8 rwm", "true c 1:9 rwm",
		"true c 5:0 rwm", "true c 5:2 rwm", "true c 136:* rwm", "true c 5:1 rwm", "true c 10:200 rwm",
	}
	if !slices.Equal(rules, want) {
		t.Errorf("got  %q\nwant %q", rules, want)
	}
}
