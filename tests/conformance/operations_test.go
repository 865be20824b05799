package conformance_test

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func stays(s *specs.Spec) { s.Process.Args = []string{"sleep", "1000"} }

// all are errors that must not be.
func all(errs ...error) error { return errors.Join(errs...) }

// operations are those of runtime.md.
var operations = []must{
	{
		section: "runtime.md, State", text: "status is created, running and stopped, pid is there until then, and what else must be", edit: stays,
		check: func(b *box) error {
			if err := b.create(); err != nil {
				return err
			}
			s, err := b.state()
			if err != nil || s.Version == "" || s.ID != b.id() || s.Status != specs.StateCreated || s.Pid != b.pid || s.Bundle != b.dir {
				return fmt.Errorf("created: %+v %w", s, err)
			}
			if err := all(b.start(), b.is(specs.StateRunning), b.run("kill", b.id(), "KILL")); err != nil {
				return err
			}
			_, err = b.ended()
			return all(err, b.is(specs.StateStopped))
		},
	},
	{
		section: "runtime.md, Create", text: "the ID must be unique", edit: stays,
		check: func(b *box) error {
			return all(b.create(), b.refuses("create", "--bundle", b.dir, b.id()), b.is(specs.StateCreated))
		},
	},
	{
		section: "runtime.md, Create", text: "the user-specified program must not be run at this time", script: "touch /ran; sleep 1000",
		check: func(b *box) error {
			if err := b.create(); err != nil {
				return err
			}
			if _, err := os.Stat(b.dir + "/rootfs/ran"); err == nil {
				return errors.New("it has run")
			}
			return nil
		},
	},
	{
		section: "runtime.md, Create", text: "changes of config.json after this have no effect", script: "echo before",
		check: func(b *box) error {
			if err := b.create(); err != nil {
				return err
			}
			s := base(b)
			s.Process.Args = []string{"echo", "after"}
			b.write(s)
			if err := b.start(); err != nil {
				return err
			}
			if _, err := b.ended(); err != nil || b.output() != "before\n" {
				return fmt.Errorf("it prints %q, %w", b.output(), err)
			}
			return nil
		},
	},
	{
		section: "runtime.md, Create", text: "an error if config.json can't be applied",
		check: func(b *box) error {
			s := base(b)
			s.Process.Cwd = "not/absolute"
			b.write(s)
			return all(b.refuses("create", "--bundle", b.dir, b.id()), b.refuses("state", b.id()))
		},
	},
	{
		section: "runtime.md, Start", text: "of a container that is not created is an error, without effect", edit: stays,
		check: func(b *box) error {
			return all(b.refuses("start", b.id()), b.create(), b.start(), b.refuses("start", b.id()), b.is(specs.StateRunning))
		},
	},
	{
		section: "runtime.md, Kill", text: "of one that neither is created nor runs is an error", script: "true",
		check: func(b *box) error {
			err := all(b.refuses("kill", b.id(), "KILL"), b.create(), b.start())
			_, e := b.ended()
			return all(err, e, b.refuses("kill", b.id(), "KILL"))
		},
	},
	{
		section: "runtime.md, Kill", text: "the signal is sent to the container's process", script: `trap "echo caught; exit" USR1; echo up; while :; do sleep 0.01; done`,
		check: func(b *box) error {
			if err := all(b.create(), b.start()); err != nil {
				return err
			}
			for !strings.Contains(b.output(), "up") {
				if err := b.is(specs.StateRunning); err != nil {
					return err
				}
			}
			err := b.run("kill", b.id(), "USR1")
			if _, e := b.ended(); e != nil || b.output() != "up\ncaught\n" {
				return fmt.Errorf("it prints %q, %w", b.output(), e)
			}
			return err
		},
	},
	{
		section: "runtime.md, Delete", text: "of one that is not stopped is an error, without effect", edit: stays,
		check: func(b *box) error {
			return all(b.create(), b.start(), b.refuses("delete", b.id()), b.is(specs.StateRunning))
		},
	},
	{
		section: "runtime.md, Delete", text: "removes what create made, and the ID may be used again", script: "true",
		check: func(b *box) error {
			if _, err := b.toTheEnd(); err != nil {
				return err
			}
			if dirs := b.left(); len(dirs) > 0 {
				return fmt.Errorf("left: %q", dirs)
			}
			_, err := b.toTheEnd()
			return err
		},
	},
	{
		section: "runtime.md, Delete", text: "of one that does not exist is an error",
		check: func(b *box) error { return b.refuses("delete", b.id()) },
	},
	{
		section: "runtime.md, Query State", text: "of one that does not exist is an error",
		check: func(b *box) error { return b.refuses("state", b.id()) },
	},
	{
		section: "runtime.md, Lifecycle", text: "the exit status is the program's", script: "exit 7",
		check: func(b *box) error {
			if err := all(b.create(), b.start()); err != nil {
				return err
			}
			if status, err := b.ended(); err != nil || status.ExitStatus() != 7 {
				return fmt.Errorf("%v, %w", status, err)
			}
			return nil
		},
	},
	{
		section: "runtime-linux.md, File descriptors", text: "only 0, 1 and 2 are open", script: "ls /proc/self/fd | tr '\\n' ' '", want: "0 1 2 3", // 3 is that of ls
	},
	{
		section: "runtime-linux.md, Dev symbolic links", text: "are there", script: "for f in fd stdin stdout stderr; do readlink /dev/$f; done | tr '\\n' ' '",
		want: "/proc/self/fd /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2",
	},
}
