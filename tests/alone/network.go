package alone

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// LoopbackUp has 127.0.0.1 and ::1 answer in a new network.
func LoopbackUp() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, ifr)
}

// Network is all that containers can leave of networks: interfaces, addresses,
// routes and rules.
func Network(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, command := range []string{"nft list ruleset", "busybox ip link", "busybox ip -4 addr", "busybox ip -6 addr", "busybox ip route", "busybox ip -6 route"} {
		words := strings.Fields(command)
		out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
		if errors.Is(err, exec.ErrNotFound) {
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		all.Write(out)
	}
	return all.String()
}
