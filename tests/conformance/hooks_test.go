package conformance_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/spec"
)

// note is a hook that notes its name, its state and its environment.
func note(file, name string) specs.Hook {
	return specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", "echo " + name + " $E $(cat) >>" + file}, Env: []string{"E=" + name + "-env", "PATH=/bin:/usr/bin"}}
}

// withHooks runs a container's life with hooks, and returns what is noted after
// create, start and delete.
func withHooks(b *box, edit func(h *specs.Hooks, file string), script string) (created, started, deleted string, err error) {
	s, file := base(b), b.dir+"/note"
	s.Process.Args = []string{"sh", "-c", script}
	s.Hooks = new(specs.Hooks)
	s.Annotations = map[string]string{"k": "v"}
	edit(s.Hooks, file)
	b.write(s)
	read := func() string {
		text, _ := os.ReadFile(file)
		return string(text)
	}
	if err := b.create(); err != nil {
		return read(), "", "", err
	}
	created = read()
	if err := b.start(); err != nil {
		return created, read(), "", err
	}
	started = read()
	_ = b.run("kill", b.id(), "KILL")
	if _, err := b.ended(); err != nil {
		return created, started, "", err
	}
	err = b.run("delete", b.id())
	return created, started, read(), err
}

// names are those of the hooks that have run.
func names(text string) (list []string) {
	for line := range strings.Lines(text) {
		name, _, _ := strings.Cut(line, " ")
		list = append(list, name)
	}
	return list
}

// prestart are the oldest hooks, which few ask for any more.
func prestart(h *specs.Hooks) *[]specs.Hook { return spec.HooksOf(&specs.Spec{Hooks: h})[0].Hooks }

// hooks are those of config.md, and of the lifecycle in runtime.md.
var hooks = []must{
	{
		section: "config.md, POSIX-platform Hooks", text: "in order, each at its time", check: func(b *box) error {
			created, started, deleted, err := withHooks(b, func(h *specs.Hooks, file string) {
				h.CreateRuntime = []specs.Hook{note(file, "createRuntime"), note(file, "second")}
				h.CreateContainer = []specs.Hook{note(file, "createContainer")}
				h.Poststart = []specs.Hook{note(file, "poststart")}
				h.Poststop = []specs.Hook{note(file, "poststop")}
			}, "sleep 1000")
			want := []string{"createRuntime", "second", "createContainer", "poststart", "poststop"}
			for i, got := range []string{created, started, deleted} {
				if n := 3 + i; strings.Join(names(got), " ") != strings.Join(want[:n], " ") {
					err = errors.Join(err, fmt.Errorf("after step %d: %q, not %q", i+1, names(got), want[:n]))
				}
			}
			return err
		},
	},
	{
		section: "config.md, POSIX-platform Hooks", text: "prestart runs in create, before createRuntime", check: func(b *box) error {
			created, _, _, err := withHooks(b, func(h *specs.Hooks, file string) {
				h.CreateRuntime = []specs.Hook{note(file, "createRuntime")}
				*prestart(h) = []specs.Hook{note(file, "prestart")}
			}, "sleep 1000")
			if got := strings.Join(names(created), " "); got != "prestart createRuntime" {
				return errors.Join(err, fmt.Errorf("in create: %q", got))
			}
			return err
		},
	},
	{
		section: "config.md, POSIX-platform Hooks", text: "the state is passed over stdin, and env is the hook's", check: func(b *box) error {
			created, _, _, err := withHooks(b, func(h *specs.Hooks, file string) { h.CreateRuntime = []specs.Hook{note(file, "createRuntime")} }, "sleep 1000")
			words := strings.SplitN(strings.TrimSpace(created), " ", 3)
			if len(words) != 3 || words[1] != "createRuntime-env" {
				return errors.Join(err, fmt.Errorf("noted: %q", created))
			}
			var s specs.State
			if e := json.Unmarshal([]byte(words[2]), &s); e != nil || s.ID != b.id() || s.Pid <= 0 || s.Bundle != b.dir || s.Annotations["k"] != "v" || s.Version == "" {
				return errors.Join(err, e, fmt.Errorf("state: %s", words[2]))
			}
			return err
		},
	},
	{
		section: "runtime.md, Lifecycle", text: "startContainer runs in the container before the program", check: func(b *box) error {
			_, _, _, err := withHooks(b, func(h *specs.Hooks, _ string) {
				h.StartContainer = []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo hook >>/order"}, Env: []string{"PATH=/bin"}}}
			}, "echo program >>/order; touch /up; sleep 1000")
			for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
				if text, _ := os.ReadFile(b.dir + "/rootfs/order"); string(text) == "hook\nprogram\n" || string(text) == "hook\n" {
					return err
				}
			}
			text, _ := os.ReadFile(b.dir + "/rootfs/order")
			return errors.Join(err, fmt.Errorf("order: %q", text))
		},
	},
	{
		section: "runtime.md, Lifecycle", text: "poststart runs after the program has begun", check: func(b *box) error {
			_, started, _, err := withHooks(b, func(h *specs.Hooks, file string) {
				h.Poststart = []specs.Hook{{Path: "/bin/sh", Args: []string{
					"sh", "-c",
					`i=0; while [ $i -lt 1000 ] && ! [ -e ` + b.dir + `/rootfs/begun ]; do sleep 0.02; i=$((i+1)); done; [ -e ` + b.dir + `/rootfs/begun ] && echo after >>` + file + `; true`,
				}}}
			}, "touch /begun; sleep 1000")
			if started != "after\n" {
				return errors.Join(err, errors.New("the program had not begun"))
			}
			return err
		},
	},
	{
		section: "runtime.md, Lifecycle", text: "poststart fails, in a bundle of a version before 1.3: a warning, and life goes on", check: func(b *box) error {
			_, _, _, err := withHooks(b, func(h *specs.Hooks, _ string) { h.Poststart = []specs.Hook{{Path: "/bin/false"}} }, "sleep 1000")
			return err
		},
	},
	{
		section: "runtime.md, Lifecycle", text: "poststop fails: a warning, and the container is gone", check: func(b *box) error {
			_, _, _, err := withHooks(b, func(h *specs.Hooks, _ string) { h.Poststop = []specs.Hook{{Path: "/bin/false"}} }, "sleep 1000")
			return errors.Join(err, b.refuses("state", b.id()))
		},
	},
	{
		section: "config.md, POSIX-platform Hooks", text: "timeout is kept", check: func(b *box) error {
			begin := time.Now()
			_, _, _, err := withHooks(b, func(h *specs.Hooks, _ string) {
				h.CreateRuntime = []specs.Hook{{Path: "/bin/sleep", Args: []string{"sleep", "15"}, Timeout: new(1)}}
			}, "sleep 1000")
			if err == nil {
				return errors.New("no error")
			}
			if d := time.Since(begin); d > 10*time.Second {
				return fmt.Errorf("it took %v", d)
			}
			return nil
		},
	},
}
