package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// storing are the system calls by which commands change a store, each with the
// place of what it is about among its arguments: a descriptor, or, negative,
// a descriptor and the path that follows it. It is 9 where the first argument
// is a path alone.
var storing = map[uint64]struct {
	name string
	arg  int
}{
	unix.SYS_OPENAT: {"openat", -1}, unix.SYS_OPENAT2: {"openat2", -1}, unix.SYS_MKDIRAT: {"mkdirat", -1}, unix.SYS_MKNODAT: {"mknodat", -1},
	unix.SYS_SYMLINKAT: {"symlinkat", -2}, unix.SYS_LINKAT: {"linkat", -3}, unix.SYS_RENAMEAT: {"renameat", -3}, unix.SYS_RENAMEAT2: {"renameat2", -3},
	unix.SYS_UNLINKAT: {"unlinkat", -1}, unix.SYS_FCHOWNAT: {"fchownat", -1}, unix.SYS_FCHMODAT: {"fchmodat", -1}, unix.SYS_FCHMODAT2: {"fchmodat2", -1},
	unix.SYS_UTIMENSAT: {"utimensat", -1}, unix.SYS_WRITE: {"write", 1}, unix.SYS_PWRITE64: {"pwrite64", 1}, unix.SYS_PWRITEV: {"pwritev", 1},
	unix.SYS_COPY_FILE_RANGE: {"copy_file_range", 3}, unix.SYS_SENDFILE: {"sendfile", 1}, unix.SYS_FTRUNCATE: {"ftruncate", 1},
	unix.SYS_FALLOCATE: {"fallocate", 1}, unix.SYS_FCHOWN: {"fchown", 1}, unix.SYS_FCHMOD: {"fchmod", 1}, unix.SYS_FSETXATTR: {"fsetxattr", 1},
	unix.SYS_FLOCK: {"flock", 1}, unix.SYS_SYNCFS: {"syncfs", 1}, unix.SYS_FSYNC: {"fsync", 1}, unix.SYS_FDATASYNC: {"fdatasync", 1},
	unix.SYS_SETXATTR: {"setxattr", 9}, unix.SYS_LSETXATTR: {"lsetxattr", 9}, unix.SYS_REMOVEXATTR: {"removexattr", 9}, unix.SYS_RENAME: {"rename", 9},
	unix.SYS_CHOWN: {"chown", 9}, unix.SYS_LCHOWN: {"lchown", 9}, unix.SYS_CHMOD: {"chmod", 9}, unix.SYS_MKNOD: {"mknod", 9},
	unix.SYS_MKDIR: {"mkdir", 9}, unix.SYS_UNLINK: {"unlink", 9}, unix.SYS_RMDIR: {"rmdir", 9}, unix.SYS_TRUNCATE: {"truncate", 9},
}

// A tracer counts a command's calls of storing on files below a directory, in
// the order of all threads, and has one of them be the last, or fail.
type tracer struct {
	leader int
	dir    string
	at     int        // which one; 0 is none
	errno  unix.Errno // 0 is SIGKILL
	calls  []string
	inside map[int]bool // the threads that are in a call
	faulty int          // the thread that is in that call

	interrupts bool // a signal arrives at each reading of a directory
}

// traced runs a minictr under a tracer.
func (h host) traced(t *testing.T, tr *tracer, args ...string) (r result) {
	t.Helper()
	out, err := os.CreateTemp(temp(t), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	runtime.LockOSThread() // the tracer is a thread
	defer runtime.UnlockOSThread()
	cmd := h.command(args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tr.leader, tr.inside = cmd.Process.Pid, map[int]bool{}
	ws, err := tr.run()
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it is reaped: this closes what is ours
	said, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	r = result{"", string(said), ws.ExitStatus()}
	if ws.Signaled() {
		r.status = 128 + int(ws.Signal())
	}
	return r
}

// run is the life of the command, from its first stop.
func (tr *tracer) run() (end unix.WaitStatus, err error) {
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_EXITKILL
	for first := true; ; {
		var ws unix.WaitStatus
		tid, err := unix.Wait4(-1, &ws, unix.WALL|unix.WNOTHREAD, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return end, fmt.Errorf("wait4: %w", err)
		case !ws.Stopped() && tid == tr.leader: // the last of its threads
			return ws, nil
		case !ws.Stopped():
			continue
		case first:
			first = false
			err = unix.PtraceSetOptions(tid, options)
		case ws.StopSignal() == unix.SIGTRAP|0x80:
			err = tr.step(tid)
		}
		deliver := 0
		if s := ws.StopSignal(); s != unix.SIGTRAP && s != unix.SIGTRAP|0x80 && s != unix.SIGSTOP {
			deliver = int(s)
		}
		if err = errors.Join(err, unix.PtraceSyscall(tid, deliver)); err != nil && !errors.Is(err, unix.ESRCH) { // killed meanwhile
			return end, fmt.Errorf("ptrace: %w", err)
		}
	}
}

// step is at the beginning or the end of a call.
func (tr *tracer) step(tid int) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	tr.inside[tid] = !tr.inside[tid]
	switch {
	case !tr.inside[tid] && tid == tr.faulty:
		tr.faulty = 0
		regs.Rax = -uint64(tr.errno)
		return unix.PtraceSetRegs(tid, &regs)
	case !tr.inside[tid]:
		return nil
	}
	if tr.interrupts && regs.Orig_rax == unix.SYS_GETDENTS64 {
		return unix.Tgkill(tr.leader, tid, unix.SIGURG)
	}
	call := tr.describe(tid, &regs)
	if call == "" {
		return nil
	}
	tr.calls = append(tr.calls, call)
	switch {
	case len(tr.calls) != tr.at:
		return nil
	case tr.errno == 0:
		return unix.Kill(tr.leader, unix.SIGKILL)
	}
	tr.faulty = tid
	regs.Orig_rax = ^uint64(0) // no call has this number
	return unix.PtraceSetRegs(tid, &regs)
}

// describe names a call and its file, if it is one of storing below dir.
func (tr *tracer) describe(tid int, regs *unix.PtraceRegs) string {
	call, found := storing[regs.Orig_rax]
	if !found {
		return ""
	}
	args := []uint64{regs.Rdi, regs.Rsi, regs.Rdx, regs.R10, regs.R8}
	fd := func(n uint64) string {
		place, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, int32(n)))
		return place
	}
	var name string
	switch {
	case call.arg == 9:
		name = text(tid, args[0])
		if rest, found := strings.CutPrefix(name, "/proc/self/fd/"); found { // how attributes are set
			var n uint64
			_, _ = fmt.Sscan(rest, &n)
			name = fd(n) + rest[strings.IndexByte(rest+"/", '/'):]
		}
	case call.arg > 0:
		name = fd(args[call.arg-1])
	default:
		if name = text(tid, args[-call.arg]); !strings.HasPrefix(name, "/") {
			name = fd(args[-call.arg-1]) + "/" + name
		}
	}
	if name, below := strings.CutPrefix(name, tr.dir); below {
		return call.name + " " + name
	}
	return ""
}

// text reads a string of the command's.
func text(tid int, address uint64) string {
	buf := make([]byte, unix.PathMax)
	n, _ := unix.PtracePeekData(tid, uintptr(address), buf[:64])
	if slices.Index(buf[:n], 0) < 0 {
		n, _ = unix.PtracePeekData(tid, uintptr(address), buf)
	}
	s, _, _ := bytes.Cut(buf[:n], []byte{0})
	return string(s)
}
