package sys

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// OnThread does something on a thread that ends with it: a thread's namespaces
// are its own.
func OnThread(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // the first thread never ends: keep it busy, and take another
			done <- OnThread(do)
			runtime.UnlockOSThread()
			return
		}
		done <- do()
	}()
	return <-done
}
