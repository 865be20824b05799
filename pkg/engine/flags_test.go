package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/spec"
)

// known are sources that know one volume, one container and one network.
func known() Sources {
	find := func(name, known, found string) (string, error) {
		if name != known {
			return "", errors.New("no such: " + name)
		}
		return found, nil
	}
	return Sources{
		Lookup: func(name string) (string, bool) { return "taken", name == "TAKEN" },
		Volume: func(name string) (string, error) {
			if name == "" {
				return "/volumes/new", nil
			}
			return find(name, "data", "/volumes/data")
		},
		Join: func(kind, name string) (string, error) { return find(name, "web", "/proc/7/ns/"+kind) },
		MountsOf: func(name string) ([]specs.Mount, error) {
			_, err := find(name, "web", "")
			return []specs.Mount{
				{Destination: "/shared", Type: "bind", Source: "/volumes/hidden", Options: []string{"rbind"}},
				{Destination: "/web", Type: "bind", Source: "/volumes/web", Options: []string{"rbind"}},
			}, err
		},
		FindNetwork: func(name string) error {
			_, err := find(name, "blue", "")
			return err
		},
	}
}

// written is a file with a text.
func written(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestSpecOfFlags is what each flag changes in config.json, as TestSpec has it.
func TestSpecOfFlags(t *testing.T) {
	base := document(t, Options{Sources: known()})
	env := written(t, "\ufeff# a comment\nA=from the file\n\n  B=x y\r\nTAKEN\nNOT\n")
	labels := written(t, "one=1\ntwo\n")
	changes := make(map[string]any)
	for name, o := range map[string]Options{
		"environment":  {EnvFiles: []string{env}, Env: []string{"A=from the flag"}},
		"labels":       {Labels: []string{"two=2", "maker=me"}, LabelFiles: []string{labels}, Annotations: []string{"note=it"}, StopSignal: "QUIT"},
		"groups":       {User: "me", Groups: []string{"wheel", "77", "77"}},
		"names":        {Hostname: "box", Domainname: "lab"},
		"memory":       {Limits: Limits{Memory: "20m", MemorySwap: "30m", MemoryReservation: "10m", OOMKillDisable: true}},
		"memory-swap":  {Limits: Limits{Memory: "20m", MemorySwap: "-1"}},
		"cpu":          {Limits: Limits{CPUShares: 512, CPUPeriod: 50_000, CPUQuota: 25_000, CpusetCPUs: "0-1,3", CpusetMems: "0"}},
		"other-limits": {Limits: Limits{CgroupParent: "lab/one", BlkioWeight: 300, OOMScoreAdj: 500}},
		"ulimits":      {Limits: Limits{Ulimits: []string{"nofile=64:128", "core=-1", "nproc=1", "nproc=9"}}},
		"sysctl":       {Limits: Limits{Sysctls: []string{"net.core.somaxconn=99", "kernel.shmmax=1000"}}},
		"mounts": {Mounts: []string{
			"type=bind,src=/srv/a,dst=/a/deep,ro,bind-propagation=rslave", "type=bind,source=/srv/b,target=/b,bind-nonrecursive",
			"type=tmpfs,destination=/c,tmpfs-size=1m,tmpfs-mode=700", "source=data,target=/d,volume-nocopy", `"type=bind","src=/srv/x,y",dst=/e,readonly=false`,
		}},
		"named-volumes": {Volumes: []string{"data:/data:ro", "/fresh", "/srv:/srv:z,bind"}},
		"volumes-from":  {VolumesFrom: []string{"web:ro"}, Volumes: []string{"data:/shared", "/srv:/data/below"}},
		"tmpfs":         {Tmpfs: []string{"/t", "/u:exec,size=1m,mode=1777"}, ShmSize: "1m"},
		"order":         {Volumes: []string{"/srv/a:/x/y", "/srv/b:/x", "/srv/c:/dev/shm/"}},
		"secrets": {
			Secrets: []string{"id=db,src=/srv/password", "id=key,src=/srv/key,target=/etc/key,uid=5,gid=6,mode=0440", "id=c,src=/srv/c,target=certs/c"},
			Configs: []string{"src=/srv/app.conf,target=/etc/app.conf"},
		},
		"device":          {Devices: []string{"/dev/null:/dev/nothing:r", "/dev/zero", "/dev/full:w"}},
		"no-caps-but-one": {CapDrop: []string{"all"}, CapAdd: []string{"chown"}},
		"security":        {Security: []string{"no-new-privileges=false", "apparmor=box", "label=disable", "mask=/proc/cmdline:/proc/stat", "unmask=/proc/fs"}},
		"unconfined":      {Security: []string{"seccomp=unconfined", "systempaths=unconfined", "apparmor:unconfined"}},
		"host-names":      {UTS: "host"},
		"host-pid-ipc":    {PID: "host", IPC: "host", Cgroupns: "host", Userns: "host"},
		"no-shm":          {IPC: "none"},
		"joined":          {PID: "container:web", IPC: "container:web", UTS: "container:web", Connection: Connection{Network: "container:web"}},
		"connected": {Connection: Connection{
			Network: "blue", Aliases: []string{"w"}, MAC: "02:42:ac:11:00:02", IP: "10.0.0.2", IP6: "fd00::2", Publish: []string{"80"}, DNS: []string{"9.9.9.9"},
			AddHosts: []string{"db:10.0.0.3", "gw=host-gateway", "six:[::1]"},
		}},
	} {
		o.Sources = known()
		t.Run(name, func(t *testing.T) { changes[name] = difference(base, document(t, o)) })
	}
	golden(t, "flags.json", changes)
}

// TestPrivileged is that nothing is held back but namespaces and limits, and
// that each brick that is gone is told, once.
func TestPrivileged(t *testing.T) {
	s, bricks, err := Spec("ID", alpine(), Options{Privileged: true, CapDrop: []string{"chown"}, Without: []string{"seccomp", "caps", "uts"}})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, b := range bricks {
		names = append(names, b.Name)
	}
	if want := []string{"caps", "seccomp", "masks", "nnp", "devices", "sys", "uts"}; !slices.Equal(names, want) {
		t.Errorf("it is told that %q are gone, want %q", names, want)
	}
	caps := heldCapabilities()
	if len(caps) == 0 {
		t.Skip("needs root: nobody holds a capability here")
	}
	if got := s.Process.Capabilities.Bounding; len(got) != len(caps)-1 || slices.Contains(got, "CAP_CHOWN") || len(caps) < 2 {
		t.Errorf("of %d capabilities it has %q", len(caps), got)
	}
	if s.Linux.Seccomp != nil || s.Process.NoNewPrivileges || len(s.Linux.MaskedPaths)+len(s.Linux.ReadonlyPaths) > 0 {
		t.Error("a filter, no_new_privs or masks are there")
	}
	if r := s.Linux.Resources; len(r.Devices) != 1 || !r.Devices[0].Allow || *r.Pids.Limit == 0 {
		t.Errorf("rules for devices, and limits: %+v", r)
	}
	for _, m := range s.Mounts {
		if slices.Contains(m.Options, "ro") {
			t.Errorf("%s is read-only", m.Destination)
		}
	}
	if !slices.ContainsFunc(s.Linux.Devices, func(d specs.LinuxDevice) bool {
		return d.Path == "/dev/null" && d.Major == 1 && d.Minor == 3 && d.Type == "c"
	}) {
		t.Errorf("no /dev/null among %d devices", len(s.Linux.Devices))
	}
	if s, bricks, err = Spec("ID", alpine(), Options{CapAdd: []string{"all"}, CapDrop: []string{"kill"}}); err != nil || len(bricks) != 1 || bricks[0].Name != "caps" ||
		len(s.Process.Capabilities.Effective) != len(caps)-1 || s.Linux.Seccomp == nil {
		t.Errorf("--cap-add all: %v, %v, %+v", err, bricks, s.Process.Capabilities)
	}
}

// TestDeviceTree is that a directory stands for the devices below it.
func TestDeviceTree(t *testing.T) {
	s, _, err := Spec("ID", alpine(), Options{Devices: []string{"/dev:/there:r"}})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(s.Linux.Devices, func(d specs.LinuxDevice) bool { return d.Path == "/there/null" })
	if i < 0 || s.Linux.Resources.Devices[i+1].Access != "r" || *s.Linux.Resources.Devices[i+1].Minor != 3 {
		t.Errorf("device %d of %d", i, len(s.Linux.Devices))
	}
	own := func(r specs.LinuxDeviceCgroup) bool {
		return r.Access == "rwm" && r.Minor != nil && *r.Minor == 3 && *r.Major == 1
	}
	s.Linux.Devices = s.Linux.Devices[i : i+1]
	if rules := spec.DefaultDevices(s); !slices.ContainsFunc(rules, own) {
		t.Error("/dev/null, which every container has, can't be used any more")
	}
}

// TestProfile reads a profile as Docker writes them, and one of config.json.
func TestProfile(t *testing.T) {
	file := written(t, `{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
		"archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}, {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}],
		"syscalls": [
			{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
			{"name": "openat", "action": "SCMP_ACT_ALLOW", "args": null},
			{"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
			{"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
			{"names": ["s390_runtime_instr"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390"]}},
			{"names": ["futex"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
			{"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}}]}`)
	calls := func(o Options) (names []string, p *specs.LinuxSeccomp) {
		o.Security = []string{"seccomp=" + file}
		s, bricks, err := Spec("ID", alpine(), o)
		if err != nil || len(bricks) > 0 {
			t.Fatal(err, bricks)
		}
		for _, r := range s.Linux.Seccomp.Syscalls {
			names = append(names, r.Names...)
		}
		return names, s.Linux.Seccomp
	}
	names, p := calls(Options{})
	if want := []string{"read", "write", "openat", "clone", "futex"}; !slices.Equal(names, want) || len(p.Architectures) != 2 || *p.DefaultErrnoRet != 38 {
		t.Errorf("got %q, %+v", names, p)
	}
	if names, _ = calls(Options{CapAdd: []string{"sys_admin"}}); !slices.Contains(names, "mount") || slices.Contains(names, "clone") {
		t.Errorf("with CAP_SYS_ADMIN: %q", names)
	}
	n := machine{release: "6.1.0-18-amd64"}
	for want, is := range map[string]bool{"4.8": true, "6.1": true, "6.1.0": true, "6.2": false, "7": false} {
		if n.atLeast(want) != is {
			t.Errorf("%s is at least %s: %t", n.release, want, !is)
		}
	}
}

func TestFlagsRefuse(t *testing.T) {
	empty, binary := written(t, "{}"), written(t, "A=\xff")
	blank := written(t, "A B=c\n")
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{EnvFiles: []string{"/nosuch"}}, "--env-file: open /nosuch: no such file or directory"},
		{Options{EnvFiles: []string{binary}}, "--env-file: " + binary + " is no text in UTF-8"},
		{Options{EnvFiles: []string{blank}}, `--env-file: "A B=c" in ` + blank + " is not NAME=VALUE, with no blank in NAME"},
		{Options{Labels: []string{"=x"}}, `--label: "=x" is not NAME=VALUE`},
		{Options{Labels: []string{spec.Unlimited + "=true"}}, `--label: "org.minictr.unlimited": names that begin so are orders to this runtime`},
		{Options{Annotations: []string{"x"}}, `--annotation: "x" is not NAME=VALUE`},
		{Options{Groups: []string{"nosuch"}}, `--group-add: no such group "nosuch" in the image's /etc/group`},
		{Options{StopSignal: "SING"}, `--stop-signal: "SING" is no signal: a name such as TERM or SIGTERM, or a number from 1 to 64`},
		{Options{StopSignal: "65"}, `--stop-signal: "65" is no signal: a name such as TERM or SIGTERM, or a number from 1 to 64`},
		{Options{StopTimeout: new(-2)}, "--stop-timeout: -2 is neither a number of seconds nor -1, for ever"},
		{Options{Limits: Limits{MemorySwap: "1g"}}, "--memory-swap: it limits memory and swap together, and needs --memory"},
		{Options{Limits: Limits{Memory: "1g", MemorySwap: "10m"}}, `--memory-swap: "10m" is less than --memory 1g, which it includes`},
		{Options{Limits: Limits{Memory: "10m", MemoryReservation: "1g"}}, `--memory-reservation: "1g" is more than --memory 10m`},
		{Options{Limits: Limits{CPUs: "1", CPUQuota: 5000}}, "--cpus: it is a quota per period: it does not go with --cpu-quota or --cpu-period"},
		{Options{Limits: Limits{CPUPeriod: 10}}, "--cpu-period: 10 is not from 1000 to 1000000 microseconds"},
		{Options{Limits: Limits{CPUQuota: 10}}, "--cpu-quota: 10 is neither at least 1000 microseconds nor -1, no limit"},
		{Options{Limits: Limits{CPUShares: 1}}, "--cpu-shares: 1 is not from 2 to 262144"},
		{Options{Limits: Limits{CpusetCPUs: "3-1"}}, `--cpuset-cpus: "3-1" is no list of numbers and ranges, such as 0-2,4`},
		{Options{Limits: Limits{CpusetMems: "0-"}}, `--cpuset-mems: "0-" is no list of numbers and ranges, such as 0-2,4`},
		{Options{Limits: Limits{BlkioWeight: 5}}, "--blkio-weight: 5 is not from 10 to 1000"},
		{Options{Limits: Limits{OOMScoreAdj: 1001}}, "--oom-score-adj: 1001 is not from -1000, never, to 1000, first"},
		{Options{Limits: Limits{Ulimits: []string{"nofile"}}}, `--ulimit: "nofile" is not NAME=SOFT[:HARD], each a number or -1, no limit`},
		{Options{Limits: Limits{Ulimits: []string{"nofile=2:1"}}}, `--ulimit: "nofile=2:1": the soft limit is above the hard one`},
		{Options{Limits: Limits{Ulimits: []string{"files=1"}}}, `--ulimit: "files=1": there is no limit "files"; there are cpu, fsize, data, stack, core, rss, nproc, nofile, memlock, as, locks, sigpending, msgqueue, nice, rtprio, rttime`},
		{Options{Limits: Limits{Sysctls: []string{"x"}}}, `--sysctl: "x" is not NAME=VALUE`},
		{Options{Limits: Limits{Sysctls: []string{"vm.swappiness=1"}}}, `/linux/sysctl: "vm.swappiness" belongs to no namespace: it would change the host`},
		{Options{Limits: Limits{Sysctls: []string{"net.core.somaxconn=1"}}, Connection: Connection{Network: "host"}}, `--sysctl: "net.core.somaxconn=1": with --network host it would be another's parameter`},
		{Options{VolumesFrom: []string{"other"}}, "--volumes-from: no such: other"},
		{Options{VolumesFrom: []string{"web:z"}}, `--volumes-from: "web:z" is not CONTAINER[:ro]`},
		{Options{Volumes: []string{"other:/x"}}, "--volume: no such: other"},
		{Options{Volumes: []string{"/a:/x", "/b:/x/"}}, `--volume: "/b:/x/": there is another mount at /x already: /a:/x`},
		{Options{Volumes: []string{"/a:/x"}, Tmpfs: []string{"/x"}}, `--tmpfs: "/x": there is another mount at /x already: /a:/x`},
		{Options{Mounts: []string{"type=bind,src=/a"}}, `--mount: "type=bind,src=/a": target must be an absolute path below /`},
		{Options{Mounts: []string{"type=bind,dst=/a"}}, `--mount: "type=bind,dst=/a": source must be an absolute path of the host`},
		{Options{Mounts: []string{"type=npipe,dst=/a"}}, `--mount: "type=npipe,dst=/a": type=npipe is none of bind, volume and tmpfs`},
		{Options{Mounts: []string{"type=tmpfs,src=/a,dst=/a"}}, `--mount: "type=tmpfs,src=/a,dst=/a": a tmpfs has no source`},
		{Options{Mounts: []string{"type=bind,src=/a,dst=/a,tmpfs-size=1"}}, `--mount: "type=bind,src=/a,dst=/a,tmpfs-size=1": tmpfs-size is not for type=bind`},
		{Options{Mounts: []string{"src=/a,dst=/a"}}, `--mount: "src=/a,dst=/a": source must be the name of a volume: type=bind shows a path`},
		{Options{Mounts: []string{"type=bind,src=/a,dst=/a,ro=maybe"}}, `--mount: "type=bind,src=/a,dst=/a,ro=maybe": readonly=maybe is neither true nor false`},
		{Options{Mounts: []string{"type=bind,src=/a,source=/b,dst=/a"}}, `--mount: "type=bind,src=/a,source=/b,dst=/a": source is there twice`},
		{Options{Mounts: []string{"where=/a"}}, `--mount: "where=/a": unknown key "where"; there are type, source, target, readonly, bind-propagation, bind-nonrecursive, bind-recursive, volume-nocopy, tmpfs-size, tmpfs-mode, consistency`},
		{Options{Tmpfs: []string{"x"}}, `--tmpfs: "x" is not PATH[:OPTIONS], with an absolute path below /`},
		{Options{Tmpfs: []string{"/x:bind"}}, `--tmpfs: unknown option "bind" in "/x:bind"`},
		{Options{ShmSize: "0"}, `--shm-size: "0" is not above zero`},
		{Options{Secrets: []string{"src=/a"}}, `--secret: "src=/a" is not id=NAME,src=FILE`},
		{Options{Secrets: []string{"id=../x,src=/a"}}, `--secret: "id=../x,src=/a" is not id=NAME,src=FILE`},
		{Options{Secrets: []string{"id=x,src=/a,mode=9"}}, `--secret: "id=x,src=/a,mode=9": mode: "9" is no mode from 0 to 0777`},
		{Options{Secrets: []string{"id=x,src=/a,uid=me"}}, `--secret: "id=x,src=/a,uid=me": uid: "me" is no number from 0 to 2147483647`},
		{Options{Configs: []string{"src=/a"}}, `--config: "src=/a" is not src=FILE,target=PATH, with an absolute path`},
		{Options{Devices: []string{"null"}}, `--device: "null" is not HOST[:CONTAINER[:rwm]], with absolute paths`},
		{Options{Devices: []string{"/dev/null:/dev/x:rwx"}}, `--device: "/dev/null:/dev/x:rwx" is not HOST[:CONTAINER[:rwm]], with absolute paths`},
		{Options{Devices: []string{"/nosuch"}}, "--device: /nosuch: no such file or directory"},
		{Options{Devices: []string{"/etc/passwd"}}, `--device: "/etc/passwd" is neither a device nor a directory of devices`},
		{Options{Security: []string{"sing"}}, `--security-opt: "sing" is not NAME=VALUE`},
		{Options{Security: []string{"sing=loud"}}, `--security-opt: "sing=loud": it is unknown; there are no-new-privileges, seccomp, apparmor, label, systempaths, mask and unmask`},
		{Options{Security: []string{"no-new-privileges=no"}}, `--security-opt: "no-new-privileges=no": it is neither true nor false`},
		{Options{Security: []string{"seccomp=" + empty}}, `--security-opt: "seccomp=` + empty + `": ` + empty + " is no profile: it has no defaultAction"},
		{Options{Security: []string{"label=type:x"}}, `--security-opt: "label=type:x": only label=disable can be had: containers of images have no label of SELinux`},
		{Options{PID: "shared"}, `--pid: "shared" is neither private, host nor container:NAME`},
		{Options{Cgroupns: "container:web"}, `--cgroupns: "container:web" is neither private nor host`},
		{Options{PID: "container:other"}, "--pid: no such: other"},
		{Options{UTS: "host", Hostname: "x"}, "--hostname and --domainname: with --uts host the names are another's"},
		{Options{Userns: "auto"}, `--userns: "auto" is neither host nor "": the files of images have owners that no map of ids here knows`},
		{Options{Connection: Connection{Network: "red"}}, "--network: no such: red"},
		{Options{Connection: Connection{Publish: []string{"80"}}}, "--network: no such: bridge"},
		{Options{Connection: Connection{Network: "none", Publish: []string{"80"}}}, "--publish: it needs a network that containers connect to: --network bridge, or the name of another"},
		{Options{Connection: Connection{Network: "container:web", DNS: []string{"1.1.1.1"}}}, "--add-host and --dns: with --network container:NAME the files are the other's"},
		{Options{Connection: Connection{IP: "fd00::1"}}, `--ip: "fd00::1" is no IPv4 address`},
		{Options{Connection: Connection{MAC: "01:00:00:00:00:00"}}, `--mac-address: "01:00:00:00:00:00" is no address of one interface, such as 02:42:ac:11:00:02`},
		{Options{Connection: Connection{DNS: []string{"x"}}}, `--dns: "x" is no IP address`},
		{Options{Connection: Connection{AddHosts: []string{"x"}}}, `--add-host: "x": it is NAME:ADDRESS, such as db:10.0.0.5, or NAME:host-gateway`},
		{Options{Restart: "always:3"}, `--restart: "always:3": only on-failure takes a number`},
		{Options{Restart: "often"}, `--restart: "often" is none of no, on-failure[:N], always and unless-stopped`},
		{Options{LogDriver: "syslog"}, `--log-driver: "syslog" is neither json-file nor none: output is kept in a file, or not at all`},
		{Options{LogOpts: []string{"tag=x"}}, `--log-opt: "tag=x" is neither max-size=BYTES nor max-file=N`},
		{Options{Pull: "often"}, `--pull: "often" is none of always, missing and never`},
	} {
		c.o.Sources = known()
		if _, _, err := Spec("ID", alpine(), c.o); err == nil || err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}

// TestRecord reads what is kept for later.
func TestRecord(t *testing.T) {
	for text, want := range map[string]Restart{
		"": {"no", 0}, "no": {"no", 0}, "always": {"always", 0}, "unless-stopped": {"unless-stopped", 0},
		"on-failure": {"on-failure", 0}, "on-failure:5": {"on-failure", 5},
	} {
		if got, err := ParseRestart(text); got != want || err != nil {
			t.Errorf("%q is %+v, %v", text, got, err)
		}
	}
	if got, err := ParseLog("none", []string{"max-size=1m", "max-file=2"}); err != nil || got != (Log{true, 1 << 20, 2}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, c := range []struct {
		c    Connection
		want string
	}{
		{Connection{}, ""},
		{Connection{Network: "host"}, ""},
		{Connection{Publish: []string{"80"}}, "bridge"},
		{Connection{Network: "blue", Publish: []string{"80"}}, "blue"},
	} {
		if got := c.c.On(); got != c.want {
			t.Errorf("%+v is on %q", c.c, got)
		}
	}
	file := filepath.Join(t.TempDir(), "id")
	o := Options{CIDFile: file}
	if err := o.noteID("abc"); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(file)
	if e := o.noteID("def"); string(text) != "abc" || err != nil || !errors.Is(e, fs.ErrExist) || !errors.Is(e, unix.EEXIST) || !strings.HasPrefix(e.Error(), "--cidfile: ") {
		t.Errorf("%q, %v, %v", text, err, e)
	}
}
