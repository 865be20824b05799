package wall

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

// sensitive are files by which the kernel tells of the whole machine, or takes
// orders for it, and directories of such. Parameters that the kernel keeps for each namespace are none.
var sensitive = [...]string{
	"/proc/kcore", "/proc/kmsg", "/proc/keys", "/proc/key-users", "/proc/kallsyms", "/proc/modules", "/proc/iomem", "/proc/ioports",
	"/proc/interrupts", "/proc/slabinfo", "/proc/vmallocinfo", "/proc/pagetypeinfo", "/proc/kpagecount", "/proc/kpageflags",
	"/proc/timer_list", "/proc/sched_debug", "/proc/latency_stats", "/proc/sysrq-trigger", "/proc/mtrr", "/proc/config.gz",
	"/proc/acpi", "/proc/asound", "/proc/bus", "/proc/driver", "/proc/fs", "/proc/irq", "/proc/scsi", "/proc/sys",
	"/sys/devices/virtual/powercap", "/sys/firmware",
	"/proc/acpi/wakeup", "/proc/bus/pci/devices", "/proc/bus/input/devices", "/proc/irq/default_smp_affinity", "/proc/scsi/scsi",
	"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/sysrq", "/proc/sys/kernel/panic",
	"/proc/sys/kernel/dmesg_restrict", "/proc/sys/kernel/kptr_restrict", "/proc/sys/kernel/randomize_va_space",
	"/proc/sys/kernel/unprivileged_bpf_disabled", "/proc/sys/kernel/usermodehelper/bset", "/proc/sys/kernel/cad_pid",
	"/proc/sys/kernel/yama/ptrace_scope", "/proc/sys/kernel/hostname", "/proc/sys/kernel/random/boot_id",
	"/proc/sys/vm/drop_caches", "/proc/sys/vm/overcommit_memory", "/proc/sys/vm/panic_on_oom", "/proc/sys/vm/swappiness",
	"/proc/sys/fs/suid_dumpable", "/proc/sys/fs/protected_symlinks", "/proc/sys/fs/binfmt_misc/register",
	"/sys/kernel/uevent_helper", "/sys/kernel/vmcoreinfo", "/sys/kernel/notes", "/sys/kernel/profiling", "/sys/kernel/mm/transparent_hugepage/enabled",
	"/sys/kernel/debug/sched/debug", "/sys/kernel/tracing/trace", "/sys/kernel/security/lsm", "/sys/power/state",
	"/sys/firmware/memmap/0/start", "/sys/firmware/acpi/tables/DSDT", "/sys/firmware/dmi/tables/DMI", "/sys/firmware/efi/systab",
	"/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/memory/cgroup.procs", "/sys/fs/cgroup/memory/release_agent",
	"/sys/fs/cgroup/devices/devices.allow", "/sys/fs/cgroup/unified/cgroup.procs",
}

// A file is a sensitive one, and what the process's open(2) of it would give.
type file struct {
	Path   string `json:"path"`
	Read   bool   `json:"read"`
	Write  bool   `json:"write"`
	Masked bool   `json:"masked"` // something that is not the kernel's lies over it

	exists   bool
	order    bool // it takes writes: a file of /proc that does not can be opened for them, too
	readOnly bool // its mount is
}

func masks(p *process) (b Brick, err error) {
	b = Brick{Name: "masks", Call: `mount_setattr(MOUNT_ATTR_RDONLY), move_mount("/dev/null")`}
	covers, err := p.covers()
	if err != nil {
		return b, err
	}
	others := slices.DeleteFunc(slices.Clone(covers), func(path string) bool { return slices.Contains(sensitive[:], path) })
	own, err := p.files(append(slices.Clone(sensitive[:]), others...))
	if err != nil {
		return b, err
	}
	host, err := p.looker().files(sensitive[:])
	if err != nil {
		return b, err
	}
	covered := false
	list := own[:0]
	for i, f := range own {
		cover := slices.Contains(covers, f.Path) && (f.Masked || f.readOnly)
		covered = covered || cover && i < len(sensitive)
		if cover || i < len(sensitive) && (f.exists || host[i].exists) {
			list = append(list, f)
		}
	}
	b.Facts, b.Inside, b.Host = map[string][]file{"files": list}, count(list, len(list)), count(host, len(list))
	mounts, err := p.namespace("mnt")
	same, e := p.sharesRoot()
	switch {
	case mounts == Shared && same:
		b.State, b.Means = Shared, "it sees in /proc and /sys what the host sees, as far as its user may"
	case covered, !slices.ContainsFunc(list, func(f file) bool { return f.Read || f.Write }):
		b.State, b.Means = Walled, "what is known to tell too much is hidden by mounts; a file that nobody thought of is not"
	default:
		b.State, b.Means = Missing, "it sees what the kernel shows to all in /proc and /sys, and root in it can partly write it"
	}
	return b, errors.Join(err, e)
}

func count(list []file, of int) string {
	reads, writes := 0, 0
	for _, f := range list {
		if f.Read {
			reads++
		}
		if f.Write && f.order {
			writes++
		}
	}
	return fmt.Sprintf("reads %d, writes %d of %d", reads, writes, of)
}

// covers lists the places in /proc and /sys where something else is mounted, or
// the same once more.
func (p *process) covers() (list []string, err error) {
	mounts, err := p.mounts()
	for _, m := range mounts {
		below := strings.HasPrefix(m.at, "/proc/") || strings.HasPrefix(m.at, "/sys/")
		if below && !strings.HasPrefix(m.at, "/sys/fs/cgroup") && !slices.Contains(list, m.at) {
			list = append(list, m.at)
		}
	}
	return list, err
}

// files says of each path what the process can do there.
func (p *process) files(paths []string) (list []file, err error) {
	who, err := p.identity()
	if err != nil {
		return nil, err
	}
	root, err := sys.Number("open", func() (int, error) { return unix.Open(p.path("root"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.path("root"), err)
	}
	for _, path := range paths {
		f, e := who.open(root, path)
		list, err = append(list, f), errors.Join(err, e)
	}
	return list, errors.Join(err, sys.Close(root))
}

// open works out, without doing it, whether the process could open a file. The
// directories on the way count too.
func (who *identity) open(root int, path string) (file, error) {
	f := file{Path: path}
	for i := 1; i < len(path); i++ {
		if path[i] != '/' {
			continue
		}
		st, fs, err := stat(root, path[:i])
		if err != nil || !who.allowed(path[:i], &st, &fs, search) {
			return f, absent(err)
		}
		if fs.Type == unix.AUTOFS_SUPER_MAGIC { // a step further would have it mount something
			return f, nil
		}
	}
	st, fs, err := stat(root, path)
	if err != nil {
		return f, absent(err)
	}
	kernels := slices.Contains(kernelFiles[:], uint64(fs.Type))
	f.exists, f.Masked, f.order, f.readOnly = true, !kernels, st.Mode&0o222 != 0, fs.Flags&unix.ST_RDONLY != 0
	if kernels {
		f.Read = who.opens(path, &st, &fs, read)
		f.Write = who.opens(path, &st, &fs, write)
	}
	return f, nil
}

// absent takes what says that a file is not there for no error; or that it is
// out of reach, as a user who looks at himself is told, or whoever asks a file
// system whose server has gone.
func absent(err error) error {
	for _, errno := range [...]error{unix.ENOENT, unix.ENOTDIR, unix.EACCES, unix.ELOOP, unix.ENOTCONN, unix.EIO, unix.ESTALE} {
		if errors.Is(err, errno) {
			return nil
		}
	}
	return err
}

// stat looks at a path below a process's root, as the process would find it.
func stat(root int, path string) (st unix.Stat_t, fs unix.Statfs_t, err error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := sys.Number("openat2", func() (int, error) { return unix.Openat2(root, path, &how) })
	if err != nil {
		return st, fs, fmt.Errorf("%s: %w", path, err)
	}
	err = sys.Call("fstat", func() error { return unix.Fstat(fd, &st) })
	err = errors.Join(err, sys.Call("fstatfs", func() error { return unix.Fstatfs(fd, &fs) }))
	return st, fs, errors.Join(err, sys.Close(fd))
}

// kernelFiles are the file systems by which the kernel shows itself; what lies
// in /proc or /sys and is of another kind hides something.
var kernelFiles = [...]uint64{
	unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC,
	unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC, unix.PSTOREFS_MAGIC, unix.EFIVARFS_MAGIC, unix.BINFMTFS_MAGIC, unix.AUTOFS_SUPER_MAGIC,
}

// guarded are files whose own open asks for more than the mode does: a
// capability over the machine, which one differs from kernel to kernel, or
// hardware that is there.
var guarded = [...]string{"/proc/kmsg", "/proc/kcore", "/proc/mtrr"}

// tries opens a file of who looks as the process's capabilities over the machine
// would let it, whatever the mode: on a thread that has no others. Nothing is
// read.
func (who *identity) tries(path string, flags int) bool {
	effective := uint64(1) << unix.CAP_DAC_OVERRIDE
	if who.initial {
		effective |= who.effective
	}
	return sys.OnThread(func() error {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var own [2]unix.CapUserData
		if err := unix.Capget(&header, &own[0]); err != nil {
			return err
		}
		own[0].Effective, own[1].Effective = uint32(effective)&own[0].Permitted, uint32(effective>>32)&own[1].Permitted
		if err := unix.Capset(&header, &own[0]); err != nil { // of this thread alone
			return err
		}
		fd, err := unix.Open(path, flags|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return sys.Close(fd)
	}) == nil
}

// opens says whether open(2) for reading or for writing would work.
func (who *identity) opens(path string, st *unix.Stat_t, fs *unix.Statfs_t, want uint32) bool {
	flags := map[uint32]int{read: unix.O_RDONLY, write: unix.O_WRONLY}[want]
	switch {
	case want == write && (fs.Flags&unix.ST_RDONLY != 0 || st.Mode&unix.S_IFMT == unix.S_IFDIR):
		return false
	case fs.Type == unix.SYSFS_MAGIC && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&(want*0o111) == 0:
		return false // sysfs opens no file for what nobody may do with it
	case slices.Contains(guarded[:], path) && !who.tries(path, flags):
		return false
	}
	return who.allowed(path, st, fs, want)
}

// allowed asks in the way of the file system.
func (who *identity) allowed(path string, st *unix.Stat_t, fs *unix.Statfs_t, want uint32) bool {
	if fs.Type == unix.PROC_SUPER_MAGIC && strings.HasPrefix(path+"/", "/proc/sys/") {
		return who.mayParameter(st, want)
	}
	return who.may(st, want)
}
