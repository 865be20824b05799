package rootfs

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// stayFirst gives a command that is PID 1 what the kernel gives every PID 1:
// signals that it has no handler for do nothing, see kill(2). Go's runtime has
// a handler for all of them, which would end the process instead. Handlers,
// and not SIG_IGN, because a program that is executed would inherit that.
func stayFirst() {
	if os.Getpid() != 1 {
		return
	}
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM,
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGPIPE)
}
