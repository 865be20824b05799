package sys

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Forever is longer than anybody waits.
const Forever = 1<<63 - 1

// Await waits for a process to end, by its pidfd, and says whether it has.
func Await(pidfd int, wait time.Duration) (ended bool, err error) {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for end := time.Now().Add(wait); ; {
		n, err := unix.Poll(fds, int(min(max(0, time.Until(end)).Milliseconds(), 1<<30)))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return false, fmt.Errorf("poll of a process: %w", err)
		case n > 0, time.Now().After(end):
			return n > 0, nil
		}
	}
}
