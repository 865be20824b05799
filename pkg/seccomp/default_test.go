package seccomp_test

import (
	"strings"
	"testing"

	moby "github.com/moby/profiles/seccomp"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/seccomp"
)

var (
	allow  = seccomp.Allow
	eperm  = seccomp.Errno(unix.EPERM)
	enosys = seccomp.Errno(unix.ENOSYS)
)

// number returns the number of a call that must exist.
func number(t testing.TB, name string, arch seccomp.Arch) uint32 {
	t.Helper()
	nr, ok := seccomp.Number(name, arch)
	if !ok {
		t.Fatalf("no system call %s on %v", name, arch)
	}
	return nr
}

func eval(t testing.TB, f seccomp.Filter, d seccomp.Data) seccomp.Action {
	t.Helper()
	got, err := f.Eval(d)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func compileDefault(t testing.TB, caps string, arch seccomp.Arch) seccomp.Filter {
	t.Helper()
	f, err := seccomp.Compile(seccomp.Default(strings.Fields(caps), arch), arch)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// everyCap is what opens most in the default profile.
const everyCap = "CAP_AUDIT_CONTROL CAP_AUDIT_READ CAP_AUDIT_WRITE CAP_BLOCK_SUSPEND CAP_BPF CAP_CHECKPOINT_RESTORE " +
	"CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_IPC_LOCK CAP_IPC_OWNER CAP_KILL " +
	"CAP_LEASE CAP_LINUX_IMMUTABLE CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_MKNOD CAP_NET_ADMIN CAP_NET_BIND_SERVICE " +
	"CAP_NET_BROADCAST CAP_NET_RAW CAP_PERFMON CAP_SETFCAP CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SYSLOG " +
	"CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_CHROOT CAP_SYS_MODULE CAP_SYS_NICE CAP_SYS_PACCT CAP_SYS_PTRACE " +
	"CAP_SYS_RAWIO CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_WAKE_ALARM"

func TestDefaultProfile(t *testing.T) {
	const namespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS
	tests := []struct {
		call string
		args [6]uint64
		caps string
		want seccomp.Action
	}{
		{call: "read", want: allow},
		{call: "write", want: allow},
		{call: "execve", want: allow},
		{call: "openat2", want: allow},
		{call: "futex_wait", want: allow},
		{call: "mseal", want: allow},
		{call: "seccomp", want: allow},
		{call: "mount", want: eperm},
		{call: "mount", caps: "CAP_SYS_ADMIN", want: allow},
		{call: "move_mount", want: eperm},
		{call: "umount2", want: eperm},
		{call: "pivot_root", caps: everyCap, want: eperm},
		{call: "unshare", args: [6]uint64{namespaces}, want: eperm},
		{call: "setns", want: eperm},
		{call: "clone", args: [6]uint64{uint64(unix.SIGCHLD)}, want: allow},
		{call: "clone", args: [6]uint64{unix.CLONE_NEWUSER | uint64(unix.SIGCHLD)}, want: eperm},
		{call: "clone", args: [6]uint64{unix.CLONE_NEWCGROUP}, want: eperm},
		{call: "clone", args: [6]uint64{unix.CLONE_NEWUSER}, caps: "CAP_SYS_ADMIN", want: allow},
		{call: "clone3", want: enosys},
		{call: "clone3", caps: "CAP_SYS_ADMIN", want: allow},
		{call: "io_uring_setup", caps: everyCap, want: eperm},
		{call: "io_uring_enter", caps: everyCap, want: eperm},
		{call: "io_uring_register", caps: everyCap, want: eperm},
		{call: "keyctl", caps: everyCap, want: eperm},
		{call: "add_key", caps: everyCap, want: eperm},
		{call: "request_key", caps: everyCap, want: eperm},
		{call: "userfaultfd", caps: everyCap, want: eperm},
		{call: "kexec_load", caps: everyCap, want: eperm},
		{call: "socket", args: [6]uint64{unix.AF_UNIX}, want: allow},
		{call: "socket", args: [6]uint64{unix.AF_INET}, want: allow},
		{call: "socket", args: [6]uint64{unix.AF_INET6}, want: allow},
		{call: "socket", args: [6]uint64{unix.AF_NETLINK}, want: allow},
		{call: "socket", args: [6]uint64{unix.AF_XDP}, want: allow},
		{call: "socket", args: [6]uint64{unix.AF_ALG}, caps: everyCap, want: eperm},
		{call: "socket", args: [6]uint64{unix.AF_VSOCK}, caps: everyCap, want: eperm},
		{call: "socket", args: [6]uint64{unix.AF_ALG | 1<<32}, want: eperm}, // the kernel takes 32 bits
		{call: "socket", args: [6]uint64{unix.AF_VSOCK | 1<<63}, want: eperm},
		{call: "socket", args: [6]uint64{1 << 20}, want: eperm},
		{call: "personality", args: [6]uint64{0x20008}, want: allow},
		{call: "personality", args: [6]uint64{0xffffffff}, want: allow},
		{call: "personality", args: [6]uint64{0x0040000}, want: eperm}, // ADDR_NO_RANDOMIZE
		{call: "bpf", want: eperm},
		{call: "bpf", caps: "CAP_BPF", want: allow},
		{call: "chroot", caps: "CAP_SYS_CHROOT", want: allow},
		{call: "reboot", want: eperm},
		{call: "init_module", want: eperm},
		{call: "open_by_handle_at", want: eperm},
		{call: "open_by_handle_at", caps: "CAP_DAC_READ_SEARCH", want: allow},
		{call: "file_getattr", caps: everyCap, want: enosys}, // newer than the profile
	}
	for _, arch := range []seccomp.Arch{seccomp.X86_64, seccomp.I386, seccomp.AArch64, seccomp.ARM} {
		native := seccomp.X86_64
		if arch == seccomp.AArch64 || arch == seccomp.ARM {
			native = seccomp.AArch64
		}
		for _, tt := range tests {
			nr, ok := seccomp.Number(tt.call, arch)
			if !ok && tt.call == "kexec_load" {
				continue
			}
			if !ok {
				t.Fatalf("no %s on %v", tt.call, arch)
			}
			f := compileDefault(t, tt.caps, native)
			got := eval(t, f, seccomp.Data{NR: nr, Arch: arch, Args: tt.args})
			if got != tt.want {
				t.Errorf("%v %s%#x with %q: %v, want %v", arch, tt.call, tt.args, tt.caps, got, tt.want)
			}
		}
	}
}

func TestDefaultProfileDetours(t *testing.T) {
	const x32 = 0x40000000
	amd64 := compileDefault(t, everyCap, seccomp.X86_64)
	arm64 := compileDefault(t, everyCap, seccomp.AArch64)
	socketcall := number(t, "socketcall", seccomp.I386)
	tests := []struct {
		name   string
		filter seccomp.Filter
		data   seccomp.Data
		want   seccomp.Action
	}{
		{"x32 read", amd64, seccomp.Data{NR: x32, Arch: seccomp.X86_64}, enosys},
		{"x32 execve", amd64, seccomp.Data{NR: x32 | 520, Arch: seccomp.X86_64}, enosys},
		{"x32 keyctl", amd64, seccomp.Data{NR: x32 | 250, Arch: seccomp.X86_64}, enosys},
		{"x32 execve without the bit", amd64, seccomp.Data{NR: 520, Arch: seccomp.X86_64}, enosys},
		{"unknown number", amd64, seccomp.Data{NR: 4000, Arch: seccomp.X86_64}, enosys},
		{"number -1", amd64, seccomp.Data{NR: 0xffffffff, Arch: seccomp.X86_64}, enosys},
		{"unknown on i386", amd64, seccomp.Data{NR: 4000, Arch: seccomp.I386}, enosys},
		{"unknown on aarch64", arm64, seccomp.Data{NR: 4000, Arch: seccomp.AArch64}, enosys},
		{"unknown on arm", arm64, seccomp.Data{NR: 4000, Arch: seccomp.ARM}, enosys},
		{"arm set_tls", arm64, seccomp.Data{NR: 0xf0005, Arch: seccomp.ARM}, allow},
		{"arm unknown private", arm64, seccomp.Data{NR: 0xf0009, Arch: seccomp.ARM}, enosys},
		{"foreign architecture", amd64, seccomp.Data{Arch: unix.AUDIT_ARCH_PPC64}, seccomp.KillProcess},
		{"aarch64 on x86_64", amd64, seccomp.Data{Arch: seccomp.AArch64}, seccomp.KillProcess},
		{"socketcall socket", amd64, seccomp.Data{NR: socketcall, Arch: seccomp.I386, Args: [6]uint64{1}}, eperm},
		{"socketcall connect", amd64, seccomp.Data{NR: socketcall, Arch: seccomp.I386, Args: [6]uint64{3}}, allow},
	}
	for _, tt := range tests {
		if got := eval(t, tt.filter, tt.data); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// The default profile drops no call for want of a table entry, but one of RISC-V.
func TestDefaultProfileUnknown(t *testing.T) {
	for _, arch := range []seccomp.Arch{seccomp.X86_64, seccomp.AArch64} {
		f := compileDefault(t, everyCap, arch)
		if len(f.Unknown) != 1 || f.Unknown[0] != "riscv_hwprobe" {
			t.Errorf("%v: unknown calls %q", arch, f.Unknown)
		}
	}
}

// Default takes all that moby's profile asks of the kernel's version for given.
func TestDefaultProfileKernels(t *testing.T) {
	for _, s := range moby.DefaultProfile().Syscalls {
		for _, f := range []*moby.Filter{s.Includes, s.Excludes} {
			if f != nil && f.MinKernel != nil && (f.MinKernel.Kernel > 5 || f.MinKernel.Kernel == 5 && f.MinKernel.Major > 15) {
				t.Errorf("%v depends on kernel %v, newer than 5.15", s.Names, f.MinKernel)
			}
		}
	}
}

func BenchmarkDefault(b *testing.B) {
	for b.Loop() {
		_ = seccomp.Default(nil, seccomp.X86_64)
	}
}

func BenchmarkCompileDefault(b *testing.B) {
	p := seccomp.Default(nil, seccomp.X86_64)
	var f seccomp.Filter
	var err error
	for b.Loop() {
		if f, err = seccomp.Compile(p, seccomp.X86_64); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(f.Program)), "instructions")
}
