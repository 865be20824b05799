package rootfs

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// The programs that show what a process is are lists of system calls too, and
// not Go: they have one thread, no handler for any signal, and need a page or
// two. Nothing loops, so what they can take is bounded by how they are made.

const (
	hogPieces = 10
	hogPiece  = 8 << 20 // bytes
	forks     = 10      // a list that forks n times ends in 2^n processes
	stay      = 60      // seconds that the burners keep what they got
)

type program struct {
	name  string
	steps []*plan.Step
}

func programs() []program {
	return []program{
		{"burn-mem", burnMem()},
		{"burn-pids", burnPIDs()},
		{"orphan", orphan()},
		{"pause", []*plan.Step{pause()}},
		{"zombie", zombie()},
	}
}

// burnMem takes memory piece by piece and says so after each, so that the last
// line printed tells how far it came.
func burnMem() []*plan.Step {
	steps := []*plan.Step{say("taking 80 MB of memory, 8 MB at a time\n")}
	for i := range hogPieces {
		steps = append(steps,
			step("mmap", unix.SYS_MMAP, num(0), num(hogPiece), num(unix.PROT_READ|unix.PROT_WRITE),
				num(unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE), num(^uint64(0)), num(0)),
			say(fmt.Sprintf("%d MB\n", (i+1)*hogPiece>>20)),
			wait(0, 50_000_000))
	}
	return append(steps, wait(stay, 0))
}

// burnPIDs forks over and over: parent and child both go on with the list.
// Where fork is refused the process only goes on.
func burnPIDs() []*plan.Step {
	steps := []*plan.Step{say(fmt.Sprintf("forking %d times: %d processes, unless a limit refuses\n", forks, 1<<forks))}
	for range forks {
		steps = append(steps, allow(fork(), unix.EAGAIN), wait(0, 20_000_000))
	}
	return append(steps, wait(stay, 0))
}

// zombie has a child that ends and is never waited for. Who is who shows
// waitid(2), which here only looks: the child has no child of its own, so the
// call fails and ends it.
func zombie() []*plan.Step {
	look := unix.WEXITED | unix.WNOHANG | unix.WNOWAIT
	return []*plan.Step{
		fork(),
		step("waitid", unix.SYS_WAITID, num(unix.P_ALL), num(0), num(0), num(uint64(look)), num(0)),
		say("my child has ended, and I never wait for it\n"),
		pause(),
	}
}

// orphan leaves a child behind, which ends a second later, when PID 1 is its
// parent. A timer tells the two apart, because a child does not inherit it:
// what the parent waits for is there at once, and the child waits in vain.
func orphan() []*plan.Step {
	alarm := words(1 << (uint(unix.SIGALRM) - 1))
	return []*plan.Step{
		step("rt_sigprocmask", unix.SYS_RT_SIGPROCMASK, num(unix.SIG_BLOCK), alarm, num(0), num(8)),
		step("setitimer", unix.SYS_SETITIMER, num(unix.ITIMER_REAL), words(0, 0, 0, 1000), num(0)),
		fork(),
		allow(step("rt_sigtimedwait", unix.SYS_RT_SIGTIMEDWAIT, alarm, num(0), words(1, 0), num(8)), unix.EAGAIN),
	}
}

func num(v uint64) plan.Num { return plan.Num{Value: v} }

// words is a block of 64-bit words, which is what a timespec or itimerval is.
func words(v ...uint64) plan.Mem {
	data := make([]byte, 0, 8*len(v))
	for _, w := range v {
		data = binary.LittleEndian.AppendUint64(data, w)
	}
	return plan.Mem{Data: data, Text: fmt.Sprint(v)}
}

func step(name string, number uintptr, args ...plan.Arg) *plan.Step {
	return &plan.Step{Call: plan.Call{Name: name, Number: number, Args: args}}
}

func allow(s *plan.Step, errno unix.Errno) *plan.Step {
	s.Allow = []plan.Allow{{Errno: errno}}
	return s
}

// fork is clone(2) with no flag but the signal that tells the parent of the end.
func fork() *plan.Step {
	return step("clone", unix.SYS_CLONE, num(uint64(unix.SIGCHLD)), num(0), num(0), num(0), num(0))
}

func wait(seconds, nanoseconds uint64) *plan.Step {
	return step("nanosleep", unix.SYS_NANOSLEEP, words(seconds, nanoseconds), num(0))
}

// pause waits for a signal that ends the process: ppoll(2) of nothing, since
// not every machine has pause(2).
func pause() *plan.Step {
	return step("ppoll", unix.SYS_PPOLL, num(0), num(0), num(0), num(0), num(0))
}

// say writes a line to standard output, if there is one to write to.
func say(line string) *plan.Step {
	return allow(&plan.Step{Call: plan.WriteTo(1, line)}, unix.EBADF)
}
