package conformance_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/spec"
)

// script is a hook of the host's.
func script(text string) specs.Hook {
	return specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", text}, Env: []string{"PATH=/bin:/usr/bin"}}
}

// endedBy has a hook of a kind fail: the operation must fail, the program must
// not go on, and the container's life ends as after delete.
func endedBy(kind string) must {
	return must{section: "runtime.md, Lifecycle", text: kind + " fails: an error, the container is stopped and destroyed, and poststop runs", check: func(b *box) error {
		s, file := base(b), b.dir+"/note"
		s.Process.Args = []string{"sh", "-c", "touch /ran; exec sleep 1000"}
		s.Hooks = &specs.Hooks{Poststop: []specs.Hook{note(file, "poststop")}}
		if kind == "poststart" {
			s.Version = "1.3.0" // before it was a warning
		}
		for _, h := range spec.HooksOf(s) {
			if h.Kind == kind {
				*h.Hooks = []specs.Hook{{Path: "/bin/false"}}
			}
		}
		b.write(s)
		var err error
		if kind == "startContainer" || kind == "poststart" {
			if err := b.create(); err != nil {
				return err
			}
			err = b.refuses("start", b.id())
			if _, e := b.ended(); e != nil {
				return all(err, e)
			}
		} else {
			err = b.refuses("create", "--bundle", b.dir, b.id())
		}
		text, _ := os.ReadFile(file)
		if got := strings.Join(names(string(text)), " "); got != "poststop" {
			err = errors.Join(err, fmt.Errorf("noted: %q", got))
		}
		if dirs := b.left(); len(dirs) > 0 {
			err = errors.Join(err, fmt.Errorf("left: %q", dirs))
		}
		if _, e := os.Stat(b.dir + "/rootfs/ran"); e == nil && kind != "poststart" {
			err = errors.Join(err, errors.New("the program has run"))
		}
		return all(err, b.refuses("state", b.id()))
	}}
}

// told has the hooks of a kind note the state that they are given.
func told(kind string, status specs.ContainerState, inside bool) must {
	return must{section: "runtime.md, State", text: "what a " + kind + " hook is told: it is " + string(status), check: func(b *box) error {
		s := base(b)
		stays(s)
		s.Hooks = new(specs.Hooks)
		file := b.dir + "/note"
		for _, h := range spec.HooksOf(s) {
			switch {
			case h.Kind != kind:
			case kind == "startContainer": // its file is the container's
				file = b.dir + "/rootfs/note"
				*h.Hooks = []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "cat >/note"}, Env: []string{"PATH=/bin"}}}
			default:
				*h.Hooks = []specs.Hook{script("cat >" + file)}
			}
		}
		b.write(s)
		err := all(b.create(), b.start(), b.run("kill", b.id(), "KILL"))
		pid := b.pid
		_, e := b.ended()
		if err := all(err, e, b.run("delete", b.id())); err != nil {
			return err
		}
		switch {
		case status == specs.StateStopped:
			pid = 0
		case inside:
			pid = 1
		}
		text, err := os.ReadFile(file)
		var got specs.State
		if err = errors.Join(err, json.Unmarshal(text, &got)); err != nil || got.Status != status || got.Pid != pid && pid != 0 || got.ID != b.id() || got.Bundle != b.dir {
			return fmt.Errorf("it is told %s, and the process is %d, %w", text, pid, err)
		}
		return nil
	}}
}

// where has the hooks of a kind note in which namespaces they run.
func where(kind string, inside bool) must {
	text := kind + " hooks run in the runtime's namespaces"
	if inside {
		text = kind + " hooks run in the container's namespaces"
	}
	return must{section: "config.md, POSIX-platform Hooks", text: text, check: func(b *box) error {
		s := base(b)
		stays(s)
		s.Hooks = new(specs.Hooks)
		file, link := b.dir+"/note", "readlink /proc/self/ns/uts /proc/self/ns/ipc /proc/self/ns/net /proc/self/ns/mnt"
		for _, h := range spec.HooksOf(s) {
			switch {
			case h.Kind != kind:
			case kind == "startContainer":
				file = b.dir + "/rootfs/note"
				*h.Hooks = []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "for n in uts ipc net mnt; do readlink /proc/self/ns/$n; done >/note"}, Env: []string{"PATH=/bin"}}}
			default:
				*h.Hooks = []specs.Hook{script(link + " >" + file)}
			}
		}
		b.write(s)
		if err := b.create(); err != nil {
			return err
		}
		of := "self"
		if inside {
			of = fmt.Sprint(b.pid)
		}
		want := ""
		for _, n := range []string{"uts", "ipc", "net", "mnt"} {
			l, err := os.Readlink("/proc/" + of + "/ns/" + n)
			if err != nil {
				return err
			}
			want += l + "\n"
		}
		err := all(b.start(), b.run("kill", b.id(), "KILL"))
		_, e := b.ended()
		got, e2 := os.ReadFile(file)
		if err := all(err, e, b.run("delete", b.id())); err != nil {
			return err
		}
		if kind == "poststop" {
			got, e2 = os.ReadFile(file)
		}
		if string(got) != want {
			return errors.Join(e2, fmt.Errorf("in %q, not %q", got, want))
		}
		return e2
	}}
}

// built has a hook of create look at the container's process: its namespaces
// and mounts must be there, and its root not changed yet.
func built(kind string) must {
	return must{section: "config.md, POSIX-platform Hooks", text: kind + " hooks run after the namespaces and mounts are made, before pivot_root", check: func(b *box) error {
		_, _, _, err := withHooks(b, func(h *specs.Hooks, file string) {
			// The state has the PID, but of a hook inside that of the inside.
			look := script(`pid=$(sed 's/.*"pid": *\([0-9]*\).*/\1/'); [ "` + kind + `" = createContainer ] && pid=self
				grep -q ` + b.dir + `/rootfs/proc /proc/$pid/mountinfo && [ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/` + fmt.Sprint(os.Getpid()) + `/ns/net)" ] && echo yes >` + file)
			for _, own := range spec.HooksOf(&specs.Spec{Hooks: h}) {
				if own.Kind == kind {
					*own.Hooks = []specs.Hook{look}
				}
			}
		}, "sleep 1000")
		if text, _ := os.ReadFile(b.dir + "/note"); string(text) != "yes\n" {
			return errors.Join(err, errors.New("they are not, or it is"))
		}
		return err
	}}
}

// resolved has a hook whose file is on one side of the wall alone.
func resolved(kind string) must {
	side := "the runtime's"
	if kind == "startContainer" {
		side = "the container's"
	}
	return must{section: "config.md, POSIX-platform Hooks", text: "the path of " + kind + " hooks is " + side, check: func(b *box) error {
		path, file := b.dir+"/hook", b.dir+"/rootfs/hook"
		if kind == "startContainer" {
			path = "/hook"
		} else {
			file = path
		}
		if err := os.WriteFile(file, []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil {
			return err
		}
		_, _, _, err := withHooks(b, func(h *specs.Hooks, _ string) {
			for _, own := range spec.HooksOf(&specs.Spec{Hooks: h}) {
				if own.Kind == kind {
					*own.Hooks = []specs.Hook{{Path: path}}
				}
			}
		}, "sleep 1000")
		if strings.Contains(b.said, "hook") { // of poststop a warning is all
			return errors.Join(err, errors.New(b.said))
		}
		return err
	}}
}

// nameless has an operation without the ID of a container.
func nameless(section string, args ...string) must {
	return must{section: "runtime.md, " + section, text: "without an ID it is an error", check: func(b *box) error { return b.refuses(args...) }}
}

// lifecycle is that of runtime.md, and what of config.md is about it.
var lifecycle = []must{
	endedBy("prestart"), endedBy("createRuntime"), endedBy("createContainer"), endedBy("startContainer"), endedBy("poststart"),
	told("prestart", specs.StateCreating, false), told("createRuntime", specs.StateCreating, false), told("createContainer", specs.StateCreating, true),
	told("startContainer", specs.StateCreated, true), told("poststart", specs.StateRunning, false), told("poststop", specs.StateStopped, false),
	where("prestart", false), where("createRuntime", false), where("createContainer", true),
	where("startContainer", true), where("poststart", false), where("poststop", false),
	built("prestart"), built("createRuntime"), built("createContainer"),
	resolved("prestart"), resolved("createRuntime"), resolved("createContainer"), resolved("startContainer"), resolved("poststart"), resolved("poststop"),
	nameless("Query State", "state"), nameless("Create", "create"), nameless("Start", "start"), nameless("Kill", "kill"), nameless("Delete", "delete"),
	{section: "runtime.md, Create", text: "without a bundle it is an error", check: func(b *box) error {
		return all(b.refuses("create", "--bundle", b.dir+"/nosuch", b.id()), b.refuses("state", b.id()))
	}},
	{section: "runtime.md, Create", text: "an ID that is no name is an error", check: func(b *box) error {
		return all(b.refuses("create", "--bundle", b.dir, "../"+b.id()), b.refuses("create", "--bundle", b.dir, ""))
	}},
	{section: "runtime.md, Errors", text: "an error that is found late leaves all as it was", edit: func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"net.nosuch": "1"} }, check: notCreated},
	{section: "runtime.md, State", text: "adheres to its schema", edit: stays, check: func(b *box) error {
		err := all(b.create(), b.run("state", b.id()))
		var s struct {
			OCIVersion, ID, Status, Bundle *string
			Pid                            *uint
			Annotations                    map[string]string
		}
		if err := errors.Join(err, json.Unmarshal([]byte(b.said), &s)); err != nil || s.OCIVersion == nil || s.ID == nil || s.Status == nil || s.Bundle == nil {
			return fmt.Errorf("%s, %w", b.said, err)
		}
		return nil
	}},
	{section: "runtime.md, Start", text: "a container without a process is never started", edit: func(s *specs.Spec) { s.Process = nil }, check: func(b *box) error {
		if err := b.run("create", "--bundle", b.dir, b.id()); err != nil {
			return nil //nolint:nilerr // what can't be started need not be created
		}
		return b.refuses("start", b.id())
	}},
	{section: "runtime.md, Kill", text: "of one that is created is its end", edit: stays, check: func(b *box) error {
		err := all(b.create(), b.run("kill", b.id(), "KILL"))
		status, e := b.ended()
		if err := all(err, e); err != nil || status.Signal() != unix.SIGKILL {
			return fmt.Errorf("it ends by %v, %w", status, err)
		}
		return b.is(specs.StateStopped)
	}},
	{section: "runtime.md, Delete", text: "leaves what it did not make", script: "true", check: func(b *box) (err error) {
		parent := b.place("pids")
		if err := os.Mkdir(parent, 0o755); err != nil {
			return err
		}
		pid, stop, err := other(unix.CLONE_NEWNET)
		if err != nil {
			return err
		}
		defer stop()
		s := base(b)
		s.Linux.CgroupsPath = b.cgroup() + "/below"
		without(specs.NetworkNamespace)(s)
		with(specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: fmt.Sprintf("/proc/%d/ns/net", pid)})(s)
		b.write(s)
		_, err = b.toTheEnd()
		for _, file := range []string{parent, fmt.Sprintf("/proc/%d/ns/net", pid), b.dir + "/rootfs/bin/busybox", b.dir + "/config.json"} {
			_, e := os.Stat(file)
			err = errors.Join(err, e)
		}
		if _, e := os.Stat(parent + "/below"); e == nil {
			err = errors.Join(err, errors.New("its cgroup is left"))
		}
		return err
	}},
	{section: "runtime.md, Warnings", text: "what is a warning changes nothing", edit: func(s *specs.Spec) {
		s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/bin/false"}, {Path: "/bin/true"}}}
	}, check: func(b *box) error {
		_, err := b.toTheEnd()
		return err
	}},
	{section: "config.md, Linux Process", text: "a capability that can't be granted is a warning", edit: func(s *specs.Spec) {
		s.Process.Capabilities.Bounding = append(s.Process.Capabilities.Bounding, "CAP_FLY")
	}, check: func(b *box) error {
		err := b.create()
		if text := b.said + b.output(); err != nil || !strings.Contains(text, "CAP_FLY") {
			return fmt.Errorf("it says %q, %w", text, err)
		}
		return b.start()
	}},
	{section: "config-linux.md, Network Devices", text: "one stays in a network that outlives the container", check: func(b *box) error {
		pid, stop, err := other(unix.CLONE_NEWNET)
		if err != nil {
			return err
		}
		defer stop()
		if err := ip("link add lent1 type veth"); err != nil {
			return err
		}
		defer func() { _ = ip("link del lent1") }()
		s := base(b)
		without(specs.NetworkNamespace)(s)
		with(specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: fmt.Sprintf("/proc/%d/ns/net", pid)})(s)
		s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"lent1": {}}
		b.write(s)
		if _, err := b.toTheEnd(); err != nil {
			return err
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
		if !strings.Contains(string(text), "lent1:") {
			return errors.Join(err, errors.New("it is gone"))
		}
		return err
	}},
}
