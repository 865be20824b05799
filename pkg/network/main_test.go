package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/namespace"
	"github.com/minictr/minictr/pkg/netlink"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/sys"
)

// alone is set where this program runs in a network namespace that plays the
// host; role says what else it is to do there than to run tests.
const alone, role = "MINICTR_NETWORK_ALONE", "MINICTR_NETWORK_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch {
	case os.Getenv(role) != "":
		err = act(strings.Fields(os.Getenv(role)))
	case os.Getuid() != 0 || os.Getenv(alone) != "":
		os.Exit(m.Run())
	default:
		self := again(os.Args[1:]...)
		self.Env = append(os.Environ(), alone+"=1")
		self.SysProcAttr.Unshareflags = unix.CLONE_NEWNET
		err = self.Run()
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(max(exit.ExitCode(), 1))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func again(args ...string) *exec.Cmd {
	self := exec.Command("/proc/self/exe", args...)
	self.Stdout, self.Stderr = os.Stdout, os.Stderr
	self.SysProcAttr = &syscall.SysProcAttr{}
	return self
}

// inRole runs this program once more, to act.
func inRole(words ...string) *exec.Cmd {
	self := again()
	self.Env = append(os.Environ(), role+"="+strings.Join(words, " "))
	return self
}

// act is what other processes do in tests.
func act(words []string) error {
	m := &Manager{Root: words[1]}
	switch words[0] {
	case "join": // leases for many containers, and tells of them
		for _, id := range words[3:] {
			a, err := m.Join(Endpoint{ID: id, Network: words[2]})
			if err != nil {
				return err
			}
			fmt.Println(a.Addresses)
		}
	case "publish":
		return publishAll(words[2])
	case "publish-on":
		return publishOn(words[2])
	case "live": // joins containers and leaves, until it is killed
		fmt.Println("it begins")
		for i := 0; ; i = (i + 1) % 3 {
			ns, err := newNamespace()
			if err != nil {
				return err
			}
			id := fmt.Sprintf("%s-%d", words[3], i)
			a, err := m.Join(Endpoint{ID: id, Network: words[2]})
			if err == nil {
				err = carryOut(a, ns)
			}
			if err = errors.Join(err, m.Leave(id), unix.Close(ns)); err != nil {
				return err
			}
		}
	}
	return nil
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

// newNamespace makes a network namespace that nobody is in, with its loopback
// interface up, as a container's has it.
func newNamespace() (ns int, err error) {
	err = sys.OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		socket, err := netlink.Open()
		if err != nil {
			return err
		}
		up := netlink.Attribute(netlink.Link(0, unix.IFF_UP), unix.IFLA_IFNAME, netlink.String("lo"))
		err = errors.Join(netlink.Do(socket, "RTM_SETLINK", unix.RTM_SETLINK, 0, up), unix.Close(socket))
		if err == nil {
			ns, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		return err
	})
	return ns, err
}

// within does something in a namespace.
func within(ns int, do func() error) error {
	return sys.OnThread(func() error {
		if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			return err
		}
		return do()
	})
}

// planOf are the steps of an attachment.
func planOf(a *Attachment) []*plan.Step {
	b := plan.New()
	b.Section(plan.Parent, "interfaces", "join it to a network of containers")
	a.Lay(b)
	return b.Plan().Sections[0].Steps
}

// carryOut carries the steps of an attachment out, for a namespace.
func carryOut(a *Attachment, ns int) (err error) {
	r := &plan.Run{Fd: map[plan.Reg]int{namespace.Inside: ns}}
	if r.Fd[namespace.Outer], err = netlink.Open(); err != nil {
		return err
	}
	err = within(ns, func() (err error) {
		r.Fd[namespace.Inner], err = netlink.Open()
		return err
	})
	if err != nil {
		return errors.Join(err, unix.Close(r.Fd[namespace.Outer]))
	}
	for _, step := range planOf(a) {
		if e := step.Act(r); e != nil {
			err = fmt.Errorf("%s: %w", step, e)
			break
		}
	}
	return errors.Join(err, unix.Close(r.Fd[namespace.Outer]), unix.Close(r.Fd[namespace.Inner]))
}

// joined is a container's network namespace on a network.
func joined(t *testing.T, m *Manager, e Endpoint) (a *Attachment, ns int) {
	t.Helper()
	ns, err := newNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(unix.Close(ns), m.Leave(e.ID)); err != nil {
			t.Error(err)
		}
	})
	if a, err = m.Join(e); err == nil {
		err = carryOut(a, ns)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a, ns
}

// ours are the interfaces here that this package has made.
func ours(t *testing.T) (names []string) {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		if strings.HasPrefix(i.Name, "mc") {
			names = append(names, i.Name)
		}
	}
	slices.Sort(names)
	return names
}

// nothing wants nothing to be left: no interface, no lease, no file half made.
func nothing(t *testing.T, m *Manager) {
	t.Helper()
	if names := ours(t); len(names) > 0 {
		t.Errorf("interfaces are left: %v", names)
	}
	leases, err := filepath.Glob(filepath.Join(m.Root, "*", "leases", "*"))
	if err != nil || len(leases) > 0 {
		t.Errorf("leases are left: %v, %v", leases, err)
	}
}

// talk has a program in one namespace send some bytes to one in another, or in
// this one if that is negative.
func talk(from, to int, at netip.AddrPort) error {
	in := func(ns int, do func() error) error {
		if ns < 0 {
			return sys.OnThread(do)
		}
		return within(ns, do)
	}
	var listener net.Listener
	err := in(to, func() (err error) {
		listener, err = net.Listen("tcp", at.String())
		return err
	})
	if err != nil {
		return err
	}
	defer listener.Close()
	return in(from, func() error {
		c, err := net.DialTimeout("tcp", listener.Addr().String(), patience)
		if err != nil {
			return err
		}
		return c.Close()
	})
}
