package conformance_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func status(names string) string {
	return "grep -E '^(" + names + "):' /proc/self/status | tr -s '\\t\\n' ' '"
}

func mount(options ...string) func(*specs.Spec) {
	return func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/mnt", Type: "tmpfs", Source: "tmpfs", Options: options})
	}
}

func bind(source string, options ...string) func(*specs.Spec) {
	return func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/mnt", Type: "bind", Source: source, Options: options})
	}
}

// idmap is bind with maps: user 0 is 500, and group 0 is 700.
func idmap(source string, options ...string) func(*specs.Spec) {
	return func(s *specs.Spec) {
		bind(source, options...)(s)
		m := &s.Mounts[len(s.Mounts)-1]
		m.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 500, Size: 10}}
		m.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 700, Size: 10}}
	}
}

// below shows a file system, and another below it, whose owners are printed.
func below(option, want string) func(*box) error {
	return func(b *box) (err error) {
		shown := b.dir + "/shown"
		for _, dir := range []string{shown, shown + "/below"} {
			if err := errors.Join(os.Mkdir(dir, 0o755), unix.Mount("none", dir, "tmpfs", 0, "mode=755")); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, unix.Unmount(dir, 0)) }()
		}
		s := base(b)
		idmap(shown, "rbind", option)(s)
		s.Process.Args = []string{"stat", "-c", "%u:%g", "/mnt", "/mnt/below"}
		b.write(s)
		if out, err := b.toTheEnd(); err != nil || out != want {
			return fmt.Errorf("it prints %q, not %q, %w", out, want, err)
		}
		return nil
	}
}

// allowed are the processors that a process may run on.
func allowed(pid int) (list string, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, list, _ = strings.Cut(string(text), "\nCpus_allowed_list:\t")
	list, _, _ = strings.Cut(list, "\n")
	return list, err
}

// entering has one more process enter a container, and tell where it runs.
func entering(initial, final, want string) func(*box) error {
	return func(b *box) error {
		p := base(b).Process
		p.Args = []string{"grep", "Cpus_allowed_list", "/proc/self/status"}
		p.ExecCPUAffinity = &specs.CPUAffinity{Initial: initial, Final: final}
		text, err := json.Marshal(p)
		if err := all(err, os.WriteFile(b.dir+"/process.json", text, 0o600), b.create(), b.start(), b.run("exec", "--process", b.dir+"/process.json", b.id())); err != nil {
			return err
		}
		if b.said != "Cpus_allowed_list:\t"+want+"\n" {
			return fmt.Errorf("it prints %q", b.said)
		}
		return nil
	}
}

const mountOptions = "grep ' /mnt ' /proc/self/mountinfo | cut -d' ' -f6"

const propagation = "grep ' /mnt ' /proc/self/mountinfo | cut -d' ' -f7- | sed 's/ *- .*//'"

// configuration is that of config.md.
var configuration = []must{
	{section: "config.md, Specification version", text: "1.x of any x is taken", edit: func(s *specs.Spec) { s.Version = "1.3.0" }, script: "echo ok", want: "ok"},
	{section: "config.md, Specification version", text: "a pre-release is taken", edit: func(s *specs.Spec) { s.Version = "1.0.2-dev" }, script: "echo ok", want: "ok"},
	{
		section: "config.md, Extensibility", text: "unknown properties are no error",
		check: func(b *box) error {
			text, err := os.ReadFile(b.dir + "/config.json")
			if err == nil {
				err = os.WriteFile(b.dir+"/config.json", []byte(strings.Replace(string(text), "{", `{"org.example": {"a": [1]}, `, 1)), 0o600)
			}
			if err != nil {
				return err
			}
			_, err = b.toTheEnd()
			return err
		},
	},
	{section: "config.md, Root", text: "readonly", edit: func(s *specs.Spec) { s.Root.Readonly = true }, script: "touch /x 2>/dev/null || echo read-only", want: "read-only"},
	{section: "config.md, Root", text: "writable unless said otherwise", script: "touch /x && echo ok", want: "ok"},
	{
		section: "config.md, Root", text: "path may be absolute", script: "echo ok",
		check: func(b *box) error {
			s := base(b)
			s.Root.Path = b.dir + "/rootfs"
			b.write(s)
			_, err := b.toTheEnd()
			return err
		},
	},
	{
		section: "config.md, Mounts", text: "in the listed order", script: "ls /mnt/below", want: "",
		edit: func(s *specs.Spec) {
			mount()(s)
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/mnt/below", Type: "tmpfs", Source: "tmpfs"})
		},
	},
	{section: "config.md, Mounts", text: "ro", edit: mount("ro"), script: mountOptions, want: "ro.*"},
	{section: "config.md, Mounts", text: "rw", edit: mount("ro", "rw"), script: mountOptions, want: "rw.*"},
	{section: "config.md, Mounts", text: "nosuid, nodev, noexec", edit: mount("nosuid", "nodev", "noexec"), script: mountOptions, want: "rw,nosuid,nodev,noexec,relatime"},
	{section: "config.md, Mounts", text: "suid, dev, exec", edit: mount("nosuid", "suid", "nodev", "dev", "noexec", "exec"), script: mountOptions, want: "rw,relatime"},
	{section: "config.md, Mounts", text: "noatime", edit: mount("noatime"), script: mountOptions, want: "rw,noatime"},
	{section: "config.md, Mounts", text: "nodiratime", edit: mount("nodiratime"), script: mountOptions, want: "rw,(nodiratime,relatime|relatime,nodiratime)"},
	{section: "config.md, Mounts", text: "strictatime", edit: mount("strictatime"), script: mountOptions, want: "rw"},
	{section: "config.md, Mounts", text: "a relative destination is below /", edit: func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "mnt", Type: "tmpfs", Source: "tmpfs"})
	}, script: "grep -c ' /mnt ' /proc/self/mountinfo", want: "1"},
	{section: "config.md, Mounts", text: "relatime, atime, diratime, nostrictatime", edit: mount("noatime", "relatime", "strictatime", "nostrictatime", "nodiratime", "diratime"), script: mountOptions, want: "rw,relatime"},
	{section: "config.md, Mounts", text: "sync, dirsync, lazytime", edit: mount("sync", "dirsync", "lazytime"), script: "grep ' /mnt ' /proc/self/mountinfo | sed 's/.* - //' | grep -oE 'sync|dirsync|lazytime' | sort | tr '\\n' ' '", want: "dirsync lazytime sync"},
	{section: "config.md, Mounts", text: "words that change nothing are no error", edit: mount("defaults", "async", "loud", "silent", "norelatime", "iversion", "noiversion", "nolazytime"), script: "grep -c ' /mnt ' /proc/self/mountinfo", want: "1"},
	{section: "config.md, Mounts", text: "remount", edit: func(s *specs.Spec) {
		mount("nosuid")(s)
		mount("remount", "nosuid", "noexec", "ro")(s)
	}, script: mountOptions + " | sort -u", want: "ro,nosuid,noexec,relatime"},
	{section: "config.md, Mounts", text: "nosymfollow", edit: mount("nosymfollow"), script: mountOptions, want: "rw,(nosymfollow,relatime|relatime,nosymfollow)"},
	{section: "config.md, Mounts", text: "symfollow", edit: mount("nosymfollow", "symfollow"), script: mountOptions, want: "rw,relatime"},
	{section: "config.md, Mounts", text: "tmpcopyup", edit: func(s *specs.Spec) { // the shell itself is there by that
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/bin", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup"}})
	}, script: "grep -c ' /bin tmpfs ' /proc/mounts", want: "1"},
	{section: "config.md, Mounts", text: "a relative source is below the bundle", edit: bind("rootfs/bin", "bind"), script: "test -x /mnt/busybox && echo ok", want: "ok"},
	{section: "config.md, Mounts", text: "bind, private", edit: bind("/tmp", "bind", "private"), script: propagation, want: ""},
	{section: "config.md, Mounts", text: "bind, shared", edit: bind("/tmp", "bind", "shared"), script: propagation, want: "shared:\\d+"},
	{section: "config.md, Mounts", text: "rbind, rshared", edit: bind("/sys", "rbind", "rshared"), script: "grep ' /mnt' /proc/self/mountinfo | grep -vc shared:", want: "0"},
	{section: "config.md, Mounts", text: "bind, slave", edit: bind("/tmp", "bind", "shared", "slave"), script: propagation, want: "(shared:\\d+ )?master:\\d+( propagate_from:\\d+)?|"},
	{section: "config.md, Mounts", text: "rbind, rprivate", edit: bind("/sys", "rbind", "rprivate"), script: "grep ' /mnt' /proc/self/mountinfo | grep -cE 'shared:|master:'", want: "0"},
	{section: "config.md, Mounts", text: "rbind, rslave", edit: bind("/sys", "rbind", "rslave"), script: "grep ' /mnt' /proc/self/mountinfo | grep -c shared:", want: "0"},
	{section: "config.md, Mounts", text: "rbind, runbindable", edit: bind("/sys", "rbind", "runbindable"), script: "grep ' /mnt' /proc/self/mountinfo | grep -vc unbindable", want: "0"},
	{section: "config.md, Mounts", text: "bind, unbindable", edit: bind("/tmp", "bind", "unbindable"), script: propagation, want: "unbindable"},
	{section: "config.md, Mounts", text: "bind", edit: bind("/proc", "bind"), script: "test -d /mnt/1 && echo ok", want: "ok"},
	{section: "config.md, Mounts", text: "bind, ro", edit: bind("/tmp", "bind", "ro"), script: mountOptions, want: "ro.*"},
	{section: "config.md, Mounts", text: "bind, nosuid, nodev, noexec, noatime", edit: bind("/tmp", "bind", "nosuid", "nodev", "noexec", "noatime"), script: mountOptions, want: "rw,nosuid,nodev,noexec,noatime"},
	{section: "config.md, Mounts", text: "rbind", edit: bind("/sys", "rbind"), script: "test -e /mnt/fs/cgroup/memory/tasks && echo ok", want: "ok"},
	{section: "config.md, Mounts", text: "rro", edit: bind("/sys", "rbind", "rro"), script: "grep ' /mnt' /proc/self/mountinfo | cut -d' ' -f6 | grep -c ^rw", want: "0"},
	{section: "config.md, Mounts", text: "rrw, rsuid, rdev, rexec", edit: bind("/sys", "rbind", "rro", "rnosuid", "rnodev", "rnoexec", "rrw", "rsuid", "rdev", "rexec"), script: "grep ' /mnt' /proc/self/mountinfo | cut -d' ' -f6 | grep -cE 'ro|nosuid|nodev|noexec'", want: "0"},
	{section: "config.md, Mounts", text: "rnoatime, rnodiratime, rnosymfollow", edit: bind("/sys", "rbind", "rnoatime", "rnodiratime", "rnosymfollow"), script: "grep ' /mnt' /proc/self/mountinfo | cut -d' ' -f6 | grep -vc noatime,nodiratime,nosymfollow", want: "0"},
	{section: "config.md, Mounts", text: "ratime, rdiratime, rsymfollow", edit: bind("/sys", "rbind", "rnoatime", "rnodiratime", "rnosymfollow", "ratime", "rdiratime", "rsymfollow"), script: "grep ' /mnt' /proc/self/mountinfo | cut -d' ' -f6 | grep -cE 'noatime|nodiratime|nosymfollow'", want: "0"},
	{section: "config.md, Mounts", text: "rstrictatime", edit: bind("/sys", "rbind", "rstrictatime"), script: "grep ' /mnt' /proc/self/mountinfo | cut -d' ' -f6 | grep -cE 'noatime|relatime'", want: "0"},
	{section: "config.md, Mounts", text: "rrelatime, rnostrictatime", edit: bind("/sys", "rbind", "rstrictatime", "rnostrictatime", "rrelatime"), script: "grep ' /mnt' /proc/self/mountinfo | cut -d' ' -f6 | grep -vc relatime", want: "0"},
	{section: "config.md, Mounts", text: "rnosuid, rnodev, rnoexec", edit: bind("/sys", "rbind", "rnosuid", "rnodev", "rnoexec"), script: "grep ' /mnt' /proc/self/mountinfo | cut -d' ' -f6 | grep -vc nosuid,nodev,noexec", want: "0"},
	{
		section: "config.md, Mounts", text: "of a file", edit: bind("/bin/busybox", "bind"), script: "echo no",
		check: func(b *box) error {
			s := base(b)
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/etc/file", Type: "bind", Source: b.dir + "/config.json", Options: []string{"bind"}})
			s.Process.Args = []string{"head", "-c", "1", "/etc/file"}
			b.write(s)
			if out, err := b.toTheEnd(); err != nil || out != "{" {
				return fmt.Errorf("it prints %q, %w", out, err)
			}
			return nil
		},
	},
	{section: "config.md, Mounts", text: "type-specific data", edit: mount("size=64k", "mode=711"), script: "stat -c %a /mnt; grep ' /mnt ' /proc/mounts | grep -o size=64k", want: "711\nsize=64k"},
	{section: "config.md, Mounts", text: "data of a bind mount has no meaning", edit: bind("/tmp", "bind", "mode=755"), script: "echo ok", want: "ok"},
	{section: "config.md, Mounts", text: "uidMappings, gidMappings", edit: idmap("/tmp", "bind", "idmap"), script: "stat -c %u:%g /mnt", want: "500:700"},
	{section: "config.md, Mounts", text: "idmap without mappings takes the user namespace's", edit: func(s *specs.Spec) {
		mapped(s)
		bind("/tmp", "bind", "idmap")(s)
	}, script: "stat -c %u:%g /mnt", want: "0:0"},
	{section: "config.md, Mounts", text: "idmap is not for mounts below", check: below("idmap", "500:700\n0:0\n")},
	{section: "config.md, Mounts", text: "ridmap is for mounts below as well", check: below("ridmap", "500:700\n500:700\n")},
	{section: "config.md, Process", text: "cwd", edit: func(s *specs.Spec) { s.Process.Cwd = "/tmp" }, script: "pwd", want: "/tmp"},
	{section: "config.md, Process", text: "env is all there is", edit: func(s *specs.Spec) { s.Process.Env = []string{"PATH=/bin", "A=1 2", "HOME=/x"} }, script: "env | grep -vE '^(SHLVL|PWD|OLDPWD|_)=' | sort", want: "A=1 2\nHOME=/x\nPATH=/bin"},
	{
		section: "config.md, Process", text: "args[0] is looked for in PATH of env", edit: func(s *specs.Spec) { s.Process.Args = []string{"busybox", "echo", "found"} },
		check: func(b *box) error {
			if out, err := b.toTheEnd(); err != nil || out != "found\n" {
				return fmt.Errorf("it prints %q, %w", out, err)
			}
			return nil
		},
	},
	{section: "config.md, POSIX process", text: "rlimits", edit: func(s *specs.Spec) {
		s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}, {Type: "RLIMIT_CORE", Soft: 0, Hard: 0}}
	}, script: "ulimit -Sn; ulimit -Hn; ulimit -c", want: "100\n200\n0"},
	{section: "config.md, Linux Process", text: "capabilities, each set", edit: func(s *specs.Spec) {
		s.Process.Capabilities = &specs.LinuxCapabilities{
			Bounding: []string{"CAP_CHOWN", "CAP_KILL", "CAP_SETUID"}, Effective: []string{"CAP_CHOWN"}, Permitted: []string{"CAP_CHOWN", "CAP_KILL"},
			Inheritable: []string{"CAP_KILL"}, Ambient: []string{"CAP_KILL"},
		}
		s.Process.User = specs.User{UID: 1000, GID: 1000}
	}, script: status("Cap.*"), want: "CapInh: 0000000000000020 CapPrm: 0000000000000020 CapEff: 0000000000000020 CapBnd: 00000000000000a1 CapAmb: 0000000000000020"},
	{section: "config.md, Linux Process", text: "no capabilities are none", edit: func(s *specs.Spec) { s.Process.Capabilities = &specs.LinuxCapabilities{} }, script: status("CapBnd|CapEff"), want: "CapEff: 0000000000000000 CapBnd: 0000000000000000"},
	{section: "config.md, Linux Process", text: "noNewPrivileges", edit: func(s *specs.Spec) { s.Process.NoNewPrivileges = true }, script: status("NoNewPrivs"), want: "NoNewPrivs: 1"},
	{section: "config.md, Linux Process", text: "noNewPrivileges is not set unless asked for", script: status("NoNewPrivs"), want: "NoNewPrivs: 0"},
	{section: "config.md, Linux Process", text: "oomScoreAdj", edit: func(s *specs.Spec) { s.Process.OOMScoreAdj = new(500) }, script: "cat /proc/self/oom_score_adj", want: "500"},
	{section: "config.md, Linux Process", text: "scheduler", edit: func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 5} }, script: "cut -d' ' -f19,41 /proc/self/stat", want: "5 3"},
	{section: "config.md, Linux Process", text: "scheduler: a real-time policy, its priority, and flags", edit: func(s *specs.Spec) {
		if _, err := os.Stat("/sys/" + realtime); err == nil { // each cgroup needs time of its own
			s.Linux.Resources.CPU = &specs.LinuxCPU{RealtimeRuntime: new(int64(10000)), RealtimePeriod: new(uint64(500000))}
		}
		s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedRR, Priority: 7, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}}
	}, script: "exec cut -d' ' -f40,41 /proc/self/stat", want: "7 2"},
	{section: "config.md, Linux Process", text: "execCPUAffinity is not for the first process", edit: func(s *specs.Spec) {
		s.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0", Final: "0"}
	}, check: func(b *box) error {
		own, err := allowed(os.Getpid())
		if err := all(err, b.create()); err != nil {
			return err
		}
		if its, err := allowed(b.pid); err != nil || its != own {
			return fmt.Errorf("it runs on %s, and we on %s, %w", its, own, err)
		}
		return nil
	}},
	{section: "config.md, Linux Process", text: "execCPUAffinity.final is for those that enter", edit: stays, check: entering("0-1", "0", "0")},
	{section: "config.md, Linux Process", text: "execCPUAffinity.initial is for the time before the cgroup, which may have other processors", edit: func(s *specs.Spec) {
		stays(s)
		s.Linux.Resources.CPU = &specs.LinuxCPU{Cpus: "0", Mems: "0"}
	}, check: entering(strconv.Itoa(runtime.NumCPU()-1), "", "0")},
	{section: "config.md, Linux Process", text: "ioPriority", edit: func(s *specs.Spec) {
		s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
	}, script: "busybox ionice", want: "best-effort: prio 6"},
	{section: "config.md, User", text: "uid, gid and additionalGids", edit: func(s *specs.Spec) { s.Process.User = specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{7, 8}} }, script: status("Uid|Gid|Groups"), want: "Uid: 5 5 5 5 Gid: 6 6 6 6 Groups: 7 8 ?"},
	{section: "config.md, User", text: "umask", edit: func(s *specs.Spec) { s.Process.User.Umask = new(uint32(0o27)) }, script: "umask", want: "0027"},
	{section: "config.md, Hostname", text: "is seen inside", edit: func(s *specs.Spec) { s.Hostname = "box" }, script: "hostname", want: "box"},
	{section: "config.md, Domainname", text: "is seen inside", edit: func(s *specs.Spec) { s.Domainname = "example" }, script: "cat /proc/sys/kernel/domainname", want: "example"},
	{
		section: "config.md, Annotations", text: "are in the state, and unknown ones no error", edit: func(s *specs.Spec) { s.Annotations = map[string]string{"org.example.key": "value"} },
		check: func(b *box) error {
			err := b.create()
			s, e := b.state()
			if s.Annotations["org.example.key"] != "value" {
				return errors.Join(err, e, fmt.Errorf("annotations: %v", s.Annotations))
			}
			return errors.Join(err, e)
		},
	},
}
