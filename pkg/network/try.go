package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/namespace"
	"github.com/minictr/minictr/pkg/netlink"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/sys"
)

// Try takes the steps by which a container with a published port joins a network,
// in a network namespace that ends with it, and returns the error of the first
// that fails.
func Try() (err error) {
	dir, err := os.MkdirTemp("", "minictr-try-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	at := netip.MustParsePrefix("192.0.2.2/24") // RFC 5737, for documentation
	a := Attachment{
		Endpoint: Endpoint{
			ID: "try", Network: "try", MAC: hardware(at.Addr()),
			Ports: []Port{{HostIP: netip.AddrFrom4([4]byte{127, 0, 0, 1}), Host: 80, Container: 80, Proto: "tcp"}},
		},
		Addresses: []netip.Prefix{at}, Gateways: []netip.Addr{gateway(at)}, Bridge: "try",
		manager: &Manager{Root: dir},
	}
	b := plan.New()
	b.Section(plan.Parent, "interfaces", "join it to a network of containers")
	a.Lay(b)
	return sys.OnThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare(CLONE_NEWNET): %w", err)
		}
		socket, err := netlink.Open()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, unix.Close(socket)) }()
		here, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		defer here.Close() // nothing was written
		run := &plan.Run{Fd: map[plan.Reg]int{namespace.Outer: socket, namespace.Inner: socket, namespace.Inside: int(here.Fd())}}
		for _, section := range b.Plan().Sections {
			for _, step := range section.Steps {
				if err := step.Act(run); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
