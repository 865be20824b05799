package seccomp_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/seccomp"
)

// helper in the environment makes the test binary load filters and try calls.
const helper = "SECCOMP_TEST_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helper) != "" {
		tryAll()
		return
	}
	os.Exit(m.Run())
}

// A trial is a filter to load, and calls to make under it.
type trial struct {
	Program []unix.SockFilter
	Flags   uint32 // with TSYNC the program is only checked
	Calls   []seccomp.Data
	Results []unix.Errno
	Exec    string // a program to execute in the place of calls
	Failure string // of the load
}

func tryAll() {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil { // a kill leaves no core file
		panic(err)
	}
	var trials []trial
	if err := json.NewDecoder(os.Stdin).Decode(&trials); err != nil {
		panic(err)
	}
	if slices.ContainsFunc(trials, func(tr trial) bool { return tr.Flags&unix.SECCOMP_FILTER_FLAG_TSYNC != 0 }) {
		divided := make(chan string)
		go func() {
			runtime.LockOSThread() // a thread with a filter of its own: TSYNC gets no further than to find it
			divided <- (&trial{Program: []unix.SockFilter{{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW}}}).try()
			select {}
		}()
		if failure := <-divided; failure != "" {
			panic(failure)
		}
	}
	for i := range trials {
		if trials[i].Flags&unix.SECCOMP_FILTER_FLAG_TSYNC != 0 {
			trials[i].Failure = trials[i].try()
			continue
		}
		done := make(chan bool)
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with its filter
			trials[i].Failure = trials[i].try()
			close(done)
		}()
		<-done
	}
	if err := json.NewEncoder(os.Stdout).Encode(trials); err != nil {
		panic(err)
	}
}

// try loads the filter and makes the calls, and returns why the load failed.
func (tr *trial) try() string {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err.Error()
	}
	program := unix.SockFprog{Len: uint16(len(tr.Program)), Filter: &tr.Program[0]}
	differs, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(tr.Flags), reflect.ValueOf(&program).Pointer())
	runtime.KeepAlive(&program)
	if e != 0 {
		return e.Error()
	}
	if differs != 0 {
		return ""
	}
	if tr.Exec != "" {
		return unix.Exec(tr.Exec, []string{tr.Exec}, nil).Error()
	}
	for _, d := range tr.Calls {
		a := d.Args
		_, _, e := unix.RawSyscall6(uintptr(d.NR), uintptr(a[0]), uintptr(a[1]), uintptr(a[2]), uintptr(a[3]), uintptr(a[4]), uintptr(a[5]))
		tr.Results = append(tr.Results, e)
	}
	return ""
}

func nativeArch(t *testing.T) seccomp.Arch {
	t.Helper()
	arch := seccomp.Native()
	if arch == 0 {
		t.Skip("no filters for " + runtime.GOARCH)
	}
	return arch
}

// inKernel makes the trials in another process.
func inKernel(t *testing.T, trials []trial) ([]trial, error) {
	t.Helper()
	input, err := json.Marshal(trials)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = []string{helper + "=1"}
	cmd.Stdin = bytes.NewReader(input)
	output, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var results []trial
	if err := json.Unmarshal(output, &results); err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if r.Failure != "" && r.Flags&unix.SECCOMP_FILTER_FLAG_TSYNC == 0 {
			t.Fatalf("the kernel refuses filter %d: %s\n%v", i, r.Failure, seccomp.Filter{Program: r.Program})
		}
	}
	return results, nil
}

// expected is the errno of a call that succeeds if it is made.
func expected(t *testing.T, a seccomp.Action) unix.Errno {
	t.Helper()
	switch datum := unix.Errno(a & unix.SECCOMP_RET_DATA); a & unix.SECCOMP_RET_ACTION_FULL {
	case unix.SECCOMP_RET_ERRNO:
		return min(datum, 4095)
	case unix.SECCOMP_RET_TRACE:
		return unix.ENOSYS // nobody traces
	case seccomp.Allow:
		return 0
	default:
		t.Fatalf("%v cannot be tried", a)
		return 0
	}
}

// plainCalls take no arguments: rules for them can say what they like.
var plainCalls = []string{"getuid", "geteuid", "getgid", "getegid"}

// plainProfile makes rules for plainCalls.
func (c *choices) plainProfile() *specs.LinuxSeccomp {
	p := profileOf()
	for range 1 + c.below(8) {
		s := specs.LinuxSyscall{Names: []string{pick(c, plainCalls...), pick(c, plainCalls...)}}
		s.Action = pick(c, specs.ActErrno, specs.ActErrno, specs.ActAllow, specs.ActTrace)
		if s.Action == specs.ActErrno {
			s.ErrnoRet = new(uint(c.below(256)) * 16)
		}
		for range 1 + c.below(3) {
			s.Args = append(s.Args, specs.LinuxSeccompArg{
				Index: uint(c.below(6)), Op: pick(c, operators...), Value: pick(c, edges...), ValueTwo: pick(c, edges...),
			})
		}
		p.Syscalls = append(p.Syscalls, s)
	}
	return p
}

func TestKernelAgrees(t *testing.T) {
	arch := nativeArch(t)
	random := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, 1<<20)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	c := choices(b)

	profiles := []*specs.LinuxSeccomp{longProfile(300, 1), longProfile(10, 62)}
	for range 200 {
		profiles = append(profiles, c.plainProfile())
	}
	var trials []trial
	for _, p := range profiles {
		f, err := seccomp.Compile(p, arch)
		if err != nil {
			t.Fatal(err)
		}
		tr := trial{Program: f.Program, Flags: f.Flags}
		for range 50 {
			d := seccomp.Data{NR: number(t, pick(&c, plainCalls...), arch), Arch: arch}
			for i := range d.Args {
				d.Args[i] = pick(&c, edges...)
			}
			tr.Calls = append(tr.Calls, d)
		}
		trials = append(trials, tr)
	}

	results, err := inKernel(t, trials)
	if err != nil {
		t.Fatal(err)
	}
	failed := 0
	for i, r := range results {
		for j, d := range r.Calls {
			action := eval(t, seccomp.Filter{Program: r.Program}, d)
			if want := expected(t, action); r.Results[j] != want {
				t.Errorf("filter %d: %+v: errno %d, want %d by %v", i, d, r.Results[j], want, action)
			}
			if r.Results[j] != 0 {
				failed++
			}
		}
	}
	if failed < 500 {
		t.Errorf("only %d calls failed: the filters try too little", failed)
	}
}

func TestKernelDefaultProfile(t *testing.T) {
	arch := nativeArch(t)
	f := compileDefault(t, "", arch)
	tests := []struct {
		name string
		args [6]uint64
		want unix.Errno
	}{
		{"getpid", [6]uint64{}, 0},
		{"personality", [6]uint64{0xffffffff}, 0},
		{"personality", [6]uint64{1 << 18}, unix.EPERM},
		{"unshare", [6]uint64{0}, unix.EPERM},
		{"mount", [6]uint64{}, unix.EPERM},
		{"clone", [6]uint64{unix.CLONE_NEWUSER}, unix.EPERM},
		{"clone3", [6]uint64{}, unix.ENOSYS},
		{"io_uring_setup", [6]uint64{}, unix.EPERM},
		{"keyctl", [6]uint64{}, unix.EPERM},
		{"userfaultfd", [6]uint64{}, unix.EPERM},
		{"socket", [6]uint64{unix.AF_VSOCK, unix.SOCK_STREAM}, unix.EPERM},
		{"socket", [6]uint64{unix.AF_ALG, unix.SOCK_SEQPACKET}, unix.EPERM},
		{"socket", [6]uint64{unix.AF_UNIX, unix.SOCK_STREAM}, 0},
		{"file_getattr", [6]uint64{}, unix.ENOSYS},
	}
	tr := trial{Program: f.Program, Flags: f.Flags}
	for _, tt := range tests {
		tr.Calls = append(tr.Calls, seccomp.Data{NR: number(t, tt.name, arch), Arch: arch, Args: tt.args})
	}
	tr.Calls = append(tr.Calls, seccomp.Data{NR: 100000})
	results, err := inKernel(t, []trial{tr})
	if err != nil {
		t.Fatal(err)
	}
	for i, tt := range tests {
		if got := results[0].Results[i]; got != tt.want {
			t.Errorf("%s%#x: errno %d, want %d", tt.name, tt.args, got, tt.want)
		}
	}
	if got := results[0].Results[len(tests)]; got != unix.ENOSYS {
		t.Errorf("call 100000: errno %d", got)
	}
}

func TestKernelKills(t *testing.T) {
	arch := nativeArch(t)
	for _, flags := range [][]specs.LinuxSeccompFlag{nil, {specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow}} {
		p := profileOf(specs.LinuxSyscall{Names: []string{"getuid"}, Action: specs.ActKillProcess})
		p.Flags = flags
		f, err := seccomp.Compile(p, arch)
		if err != nil {
			t.Fatal(err)
		}
		calls := []seccomp.Data{{NR: number(t, "getuid", arch)}}
		isKilled(t, trial{Program: f.Program, Flags: f.Flags, Calls: calls})
	}
}

func isKilled(t *testing.T, tr trial) {
	t.Helper()
	_, err := inKernel(t, []trial{tr})
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("the process survives: %v", err)
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	if !ok || status.Signal() != unix.SIGSYS {
		t.Errorf("%v", err)
	}
}

// A division by zero kills the thread; here it is the only one of a program that wants to end.
func TestKernelKillsDivision(t *testing.T) {
	arch := nativeArch(t)
	end := number(t, "exit_group", arch)
	f := seccomp.Filter{Program: []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_ABS},
		{Code: unix.BPF_ALU | unix.BPF_SUB, K: end},
		{Code: unix.BPF_MISC | unix.BPF_TAX},
		{Code: unix.BPF_ALU | unix.BPF_DIV | unix.BPF_X},
		{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW},
	}}
	if got := eval(t, f, seccomp.Data{NR: end}); got != seccomp.KillThread {
		t.Errorf("Eval says %v", got)
	}
	isKilled(t, trial{Program: f.Program, Exec: "/bin/true"})
}
