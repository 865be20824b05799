package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/cgroup"
	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/format"
	"github.com/minictr/minictr/pkg/network"
	"github.com/minictr/minictr/pkg/rootless"
	"github.com/minictr/minictr/rootfs"
)

func doctorCommand(*pflag.FlagSet) action {
	return func(c *call) error {
		if err := c.exactly(0, ""); err != nil {
			return err
		}
		missing := 0
		for _, check := range checks {
			f := check.find(c)
			if f.state == lacks {
				missing++
			}
			report(c.stdout, check.name, f)
		}
		if missing > 0 {
			return fmt.Errorf("%d thing(s) that containers need are missing here", missing)
		}
		return nil
	}
}

// A state is what a check found.
type state string

const (
	has     state = "ok"
	limited state = "limited" // containers run, with less
	lacks   state = "missing" // containers don't run
)

// A finding is the outcome of a check, and what to do about it.
type finding struct {
	state  state
	text   string
	advice string
}

func report(w io.Writer, name string, f finding) {
	fmt.Fprintf(w, "%-8s %-12s %s\n", f.state, name, f.text)
	if f.advice != "" {
		fmt.Fprintf(w, "%-8s %-12s -> %s\n", "", "", f.advice)
	}
}

var checks = [...]struct {
	name string
	find func(*call) finding
}{
	{"kernel", checkKernel},
	{"privilege", checkPrivilege},
	{"namespaces", checkNamespaces},
	{"cgroups", checkCgroups},
	{"overlayfs", checkOverlay},
	{"seccomp", checkSeccomp},
	{"program", checkProgram},
	{"images", checkImages},
	{"networks", checkNetworks},
	{"boot", checkBoot},
}

// minKernel has openat2, clone3 into a cgroup, close_range, mount_setattr,
// cgroup.kill and overlayfs in user namespaces.
const minMajor, minMinor = 5, 15

func checkKernel(*call) finding {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return finding{lacks, err.Error(), ""}
	}
	release := unix.ByteSliceToString(u.Release[:])
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err == nil && (major < minMajor || major == minMajor && minor < minMinor) {
		return finding{lacks, "Linux " + release, fmt.Sprintf("minictr needs Linux %d.%d or newer", minMajor, minMinor)}
	}
	return finding{has, "Linux " + release + ": the one that all containers here share", ""}
}

func checkPrivilege(c *call) finding {
	if os.Geteuid() == 0 {
		return finding{has, "this is root", ""}
	}
	if dir := filepath.Dir(c.root); unix.Access(c.root, unix.W_OK) != nil && unix.Access(dir, unix.W_OK) != nil {
		return finding{lacks, "this is not root, and nothing can be kept in " + dir, "log in as this user, or have XDG_RUNTIME_DIR name a directory of his"}
	}
	ids, alone, err := rootless.Find(os.Geteuid(), os.Getegid())
	if err == nil {
		err = rootless.Try(container.Help)
	}
	switch {
	case err != nil:
		return finding{lacks, "this is not root, and can't be root of a user namespace: " + oneLine(err.Error()), forbidden()}
	case alone != "":
		return finding{
			limited, "not root: it will be root of a user namespace, with nobody else in it: " + alone,
			"files of images are all this user's, and no program can be another: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 NAME, with newuidmap (Debian: uidmap)",
		}
	}
	return finding{
		has, fmt.Sprintf("not root: it will be root of a user namespace of %d ids, which its containers share", ids.Count()),
		"who breaks out of a container is this user, and root of the other containers",
	}
}

// forbidden says what keeps users from making user namespaces.
func forbidden() string {
	for _, f := range [...]struct{ sysctl, forbids string }{
		{"kernel.unprivileged_userns_clone", "0"}, {"kernel.apparmor_restrict_unprivileged_userns", "1"}, {"user.max_user_namespaces", "0"},
	} {
		text, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(f.sysctl, ".", "/"))
		if err == nil && strings.TrimSpace(string(text)) == f.forbids {
			return f.sysctl + " is " + f.forbids + ": with sysctl root can allow it, or use sudo"
		}
	}
	return "use sudo"
}

func checkNamespaces(*call) finding {
	var absent []string
	for _, ns := range []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"} {
		if _, err := os.Stat("/proc/self/ns/" + ns); err != nil {
			absent = append(absent, ns)
		}
		limit := "max_" + ns + "_namespaces"
		if text, err := os.ReadFile("/proc/sys/user/" + limit); err == nil && strings.TrimSpace(string(text)) == "0" {
			return finding{limited, "new " + ns + " namespaces are forbidden: user." + limit + " is 0", "a container that asks for one is refused: sysctl user." + limit + "=1000 allows them"}
		}
	}
	switch {
	case len(absent) == 0:
		return finding{has, "all eight types", ""}
	case len(absent) == 1 && (absent[0] == "time" || absent[0] == "user"):
		return finding{limited, "no " + absent[0] + " namespaces", "the default wall does without"}
	}
	return finding{lacks, "no " + strings.Join(absent, ", ") + " namespaces", "the kernel must be built with them, or --without leaves the brick out"}
}

func checkCgroups(*call) finding {
	layout, err := cgroup.Detect()
	if err != nil {
		return finding{lacks, err.Error(), ""}
	}
	var controllers []string
	for _, h := range layout.Hierarchies {
		controllers = append(controllers, h.Controllers...)
	}
	text := layout.Version().String() + ": " + strings.Join(controllers, " ")
	for _, needed := range []string{"memory", "pids", "cpu"} {
		if !strings.Contains(" "+text+" ", " "+needed+" ") {
			return finding{limited, text, "the controller " + needed + " is not there: such limits are refused"}
		}
	}
	if container.Rootless() {
		if missing, err := container.Undelegated(); err != nil || missing != "" {
			return finding{
				limited, text + "; none is delegated to this user: limits, and pause, are refused, and nothing ends a fork bomb",
				"with version 2: systemd-run --user --scope -p Delegate=yes minictr run ...",
			}
		}
	}
	return finding{has, text, ""}
}

func checkOverlay(*call) finding {
	text, err := os.ReadFile("/proc/filesystems")
	if err == nil && strings.Contains(string(text), "\toverlay\n") {
		return finding{has, "layers of images can be stacked", ""}
	}
	return finding{limited, "not loaded yet", "sudo modprobe overlay, if the first run does not load it"}
}

func checkSeccomp(*call) finding {
	text, err := os.ReadFile("/proc/sys/kernel/seccomp/actions_avail")
	if err != nil {
		return finding{lacks, "this kernel has no system call filters", "--without seccomp leaves that brick out"}
	}
	return finding{has, "filters can " + strings.ReplaceAll(strings.TrimSpace(string(text)), "_", " "), ""}
}

func checkProgram(*call) finding {
	if _, err := rootfs.ID(); err != nil {
		return finding{limited, err.Error(), "the built-in image can't be made of this program"}
	}
	return finding{has, "static: it can be the built-in image, " + rootfs.Short, ""}
}

func checkImages(c *call) finding {
	e, err := c.engine()
	if err != nil {
		return finding{lacks, err.Error(), ""}
	}
	if _, err := os.Stat(e.Root); err != nil {
		return finding{has, e.Root + " will be made", ""}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(e.Root, &st); err != nil {
		return finding{limited, err.Error(), ""}
	}
	free := int64(st.Bavail) * st.Bsize
	f := finding{has, fmt.Sprintf("%s has %s free", e.Root, format.Size(free)), ""}
	if _, err := unix.Lgetxattr(e.Root, "user.overlay.opaque", nil); container.Rootless() && errors.Is(err, unix.ENOTSUP) {
		f = finding{limited, e.Root + " is on a file system without attributes of users", "many images need them: --data-root chooses another file system"}
	}
	if st.Type == unix.OVERLAYFS_SUPER_MAGIC {
		f = finding{limited, e.Root + " is on overlayfs", "layers can't be stacked on it: --data-root chooses another file system"}
	}
	return f
}

func checkNetworks(*call) finding {
	if os.Geteuid() != 0 {
		if carrier := rootless.Carrier(); carrier != "" {
			return finding{has, "in a network namespace of yours, which " + carrier + " connects to the host", ""}
		}
		return finding{limited, rootless.NoCarrier, "install passt, or slirp4netns"}
	}
	if err := network.Try(); err != nil {
		return finding{limited, err.Error(), "modprobe -a bridge veth nf_tables nft_chain_nat nft_masq, if they are modules; --network none and host need none of it"}
	}
	if barred, err := network.Barred(); err != nil {
		return finding{limited, err.Error(), ""}
	} else if len(barred) > 0 {
		return finding{
			limited, "what containers send is dropped, unless a rule there accepts it: nft list chain " + strings.Join(barred, ", "),
			`a rule that lets networks pass: nft insert rule ` + barred[0] + ` iifname "mc-*" accept, and the same with oifname`,
		}
	}
	return finding{has, "bridges, veth pairs and published ports: made, and gone again", ""}
}

// boot is the unit of docs/minictr-restart.service, where systemctl enable puts it.
const boot = "minictr-restart.service"

func checkBoot(*call) finding {
	if _, err := os.Stat("/etc/systemd/system/multi-user.target.wants/" + boot); err == nil {
		return finding{has, "containers that restart start with the host", ""}
	}
	const text = "after a boot no container starts by itself"
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return finding{limited, text, "no systemd here: at boot, run minictr start --all --filter should-start-on-boot=true"}
	}
	return finding{limited, text, "copy docs/" + boot + " to /etc/systemd/system, then systemctl enable " + boot}
}
