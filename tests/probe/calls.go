package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A call that bears this mark as its sixth argument is never carried out.
const mark = 0x70726f62

// arrived is what such a call returns where no filter of the container's has
// refused it before.
const arrived = 0x61727276

// numbers is how many system calls an ABI has at most.
const numbers = 560

// patterns are arguments with which each call is tried: none, and some that
// filters look at: flags of namespaces, address families, personalities, and
// TIOCSTI.
var patterns = [...][5]uint32{
	{},
	{1},
	{8},
	{unix.AF_ALG},
	{unix.AF_VSOCK},
	{0x20000},
	{0x20008},
	{unix.CLONE_NEWUSER},
	{0x7e020000},
	{0xffffffff},
	{0, 1},
	{0, unix.TIOCSTI},
	{0, 0xffffffff},
	{0, 0, 1},
	{0, 0, 0xffffffff},
}

// Calls tell, for each ABI and each number, with how many of the patterns the
// call passes the container's filters. Of foreign ABIs only the first is tried.
type Calls struct {
	Unknown  string           `json:"unknown,omitempty"` // why they could not be found out
	Patterns int              `json:"patterns"`
	Passed   map[string][]int `json:"passed"`
}

// askCalls finds out what the filters of this process do with each call. It
// begins another process each time one is killed. Many deaths one after the
// other say that a filter kills whoever makes any call of a foreign ABI.
func askCalls() Calls {
	c := Calls{Patterns: len(patterns), Passed: make(map[string][]int)}
	const many = 20
	for i, abi := range abis {
		counts, deaths := make([]int, numbers), 0
		for next := 0; next < numbers*abi.patterns && (i == 0 || deaths < many); next++ { // what ended it has been refused
			answers, err := tryCalls(i, next)
			if err != nil {
				c.Unknown = err.Error()
				return c
			}
			if deaths++; len(answers) > 0 {
				deaths = 0
			}
			for _, answer := range answers {
				if answer == '+' {
					counts[next/abi.patterns]++
				}
				next++
			}
		}
		c.Passed[abi.name] = counts
	}
	return c
}

// tryCalls reads the answers of a process that tries calls, from one of them on.
func tryCalls(abi, first int) ([]byte, error) {
	cmd := again("calls", strconv.Itoa(abi), strconv.Itoa(first))
	cmd.Env = []string{"GODEBUG=asyncpreemptoff=1", "GOTRACEBACK=none"}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, err
	}
	r := bufio.NewReader(out)
	why, _ := r.ReadString('\n')
	answers, _ := io.ReadAll(r)
	_ = cmd.Wait() // a filter may have killed it
	if why != "\n" {
		return nil, fmt.Errorf("no filter of its own: %s", why)
	}
	return answers, nil
}

// calls is the process that tries them. Under its own filter each call that
// bears the mark is a notification, which has less weight than any refusal of
// another filter: what arrives would have been carried out.
func calls(abi, first int) {
	runtime.GOMAXPROCS(4)    // one is blocked while it waits for the answer
	debug.SetGCPercent(-1)   // and never stops for a collection
	runtime.LockOSThread()   // the first thread would stay, dead, when a filter kills it alone
	tried := make(chan bool) // another does it
	go func() {
		runtime.LockOSThread() // the filter is this thread's
		listener, err := marks()
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println()
		go answer(listener)
		go watch(unix.Gettid())
		try(abi, first)
		close(tried)
	}()
	<-tried
}

// watch ends this process when a thread of it has been killed.
func watch(thread int) {
	for unix.Tgkill(os.Getpid(), thread, 0) == nil {
		time.Sleep(10 * time.Millisecond)
	}
	os.Exit(1)
}

// try says of each call whether it has arrived. It makes no other calls but
// this: the runtime's could bear the mark by chance.
func try(abi, first int) {
	said, by := [1]byte{}, abis[abi]
	for i := first; i < numbers*by.patterns; i++ {
		said[0] = '-'
		if nr := uintptr(i / by.patterns); !unfiltered(nr) && by.call(nr, patterns[i%by.patterns]) == arrived {
			said[0] = '+'
		}
		_, _, _ = unix.RawSyscall6(unix.SYS_WRITE, 1, uintptr(unsafe.Pointer(&said)), 1, 0, 0, 0)
	}
}

// An abi is a way to make a system call on this processor, and with how many
// patterns that is tried.
type abi struct {
	name     string
	patterns int
	call     func(nr uintptr, args [5]uint32) uintptr
}

// native makes a call with the mark.
func native(nr uintptr, a [5]uint32) uintptr {
	r, _, _ := unix.RawSyscall6(nr, uintptr(a[0]), uintptr(a[1]), uintptr(a[2]), uintptr(a[3]), uintptr(a[4]), mark)
	return r
}

// marks installs a filter for marked calls, and returns its listener.
func marks() (int, error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, fmt.Errorf("PR_SET_NO_NEW_PRIVS: %w", err)
	}
	const sixth = 16 + 5*8 // in struct seccomp_data
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: sixth},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: mark, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return -1, fmt.Errorf("seccomp: %w", errno) // EBUSY: one of the container's has a listener
	}
	return int(fd), nil
}

// answer has each call return that it has arrived.
func answer(listener int) {
	for {
		var asks struct { // struct seccomp_notif
			id   uint64
			rest [9]uint64
		}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&asks))); errno != 0 {
			continue // a signal has interrupted the call
		}
		says := struct { // struct seccomp_notif_resp
			id           uint64
			value        int64
			errno, flags int32
		}{id: asks.id, value: arrived}
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&says)))
	}
}
