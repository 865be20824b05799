package namespace

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/netlink"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/sys"
)

// Sockets of rtnetlink(7), in the network that interfaces come from, and in the
// one that they go to; and that one's namespace.
const (
	Outer  plan.Reg = "rtnetlink/host"
	Inner  plan.Reg = "rtnetlink/container"
	Inside plan.Reg = "ns/" + plan.Reg(specs.NetworkNamespace)
)

// A Network joins a container to others. Its steps are the parent's, who has
// the container's namespace open, and a socket inside and outside of it.
type Network interface{ Lay(b *plan.Builder) }

// moves says whether the container gets interfaces from the host.
func moves(s *specs.Spec, h Host) bool { return len(s.Linux.NetDevices) > 0 || h.Network != nil }

// asks is the place in config.json that asks for interfaces.
func asks(s *specs.Spec, h Host) string {
	if h.Network == nil {
		return "/linux/netDevices"
	}
	_, i := find(s, specs.NetworkNamespace)
	return pointer(i)
}

// Interfaces has the parent move network interfaces of the host into the
// container's network namespace, config-linux.md "Network Devices", and join
// that to a network. Nobody brings them back: what becomes of them is the
// kernel's business, when it ends the namespace.
func Interfaces(b *plan.Builder, s *specs.Spec, h Host) {
	if !moves(s, h) {
		return
	}
	if h.Network == nil {
		b.Section(plan.Parent, "interfaces", "move network interfaces of the host inside")
	} else {
		b.Section(plan.Parent, "interfaces", "join it to a network of containers")
	}
	b.At(asks(s, h))
	if bornTwice(s, h) && !copies(s, h) {
		b.Act("its namespaces are there then", "read($report/runtime)", func(r *plan.Run) error { return r.Await() })
	}
	if IsNew(s, specs.NetworkNamespace) {
		b.Act("the container's network", fmt.Sprintf(`%s = open("/proc/$pid/ns/net", O_RDONLY|O_CLOEXEC)`, Inside), func(r *plan.Run) error {
			return open(Inside, fmt.Sprintf("/proc/%d/ns/net", r.PID))(r)
		})
	}
	b.Act("a socket belongs to the network that it is made in, so one for each", fmt.Sprintf(
		"%s = socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_ROUTE), setns(%s, CLONE_NEWNET), %s = socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_ROUTE)",
		Outer, Inside, Inner), func(r *plan.Run) error { return sockets(r, r.Fd[Inside]) })
	names := slices.Sorted(maps.Keys(s.Linux.NetDevices))
	for _, name := range names {
		inside := nameInside(s, name)
		b.At(pointerTo(name))
		b.Act("none is moved unless all are there, and their names inside are free", fmt.Sprintf("ioctl(%s, SIOCGIFINDEX, %q), ioctl(%s, SIOCGIFINDEX, %q) = ENODEV", Outer, name, Inner, inside),
			func(r *plan.Run) error { return movable(r, name, inside) })
	}
	for _, name := range names {
		inside := nameInside(s, name)
		b.At(pointerTo(name))
		b.Act("it is the container's alone now, with its lasting addresses, and it is up", fmt.Sprintf(
			"sendto(%s, {RTM_SETLINK, %q, IFLA_NET_NS_FD=%s, IFLA_IFNAME=%q}), sendto(%s, {RTM_NEWADDR, …}), sendto(%[5]s, {RTM_SETLINK, %[4]q, IFF_UP})",
			Outer, name, Inside, inside, Inner), func(r *plan.Run) error { return move(r, r.Fd[Inside], name, inside) })
	}
	b.At(asks(s, h))
	if h.Network != nil {
		h.Network.Lay(b)
	}
	GoOn(b)
}

// TakeInterfaces has the child wait for them.
func TakeInterfaces(b *plan.Builder, s *specs.Spec, h Host) {
	if !moves(s, h) {
		return
	}
	b.Section(plan.Child, "interfaces", "wait for network interfaces of the host")
	b.At(asks(s, h))
	if !Has(s, specs.UserNamespace) && !bornTwice(s, h) {
		b.Do("the runtime alone holds the other end: should it die, the wait is over", plan.Close(sync+"/write"))
	}
	b.Do("the runtime moves them, who sees both networks", plan.ReadByte(sync))
}

// nameInside is what an interface of the host is called inside. With %d the
// kernel counts.
func nameInside(s *specs.Spec, name string) string {
	return cmp.Or(s.Linux.NetDevices[name].Name, name)
}

func pointerTo(name string) string {
	return "/linux/netDevices/" + strings.ReplaceAll(name, "~", "~0")
}

func sockets(r *plan.Run, netns int) error {
	var own, other unix.Stat_t
	if err := errors.Join(unix.Stat("/proc/self/ns/net", &own), unix.Fstat(netns, &other)); err != nil {
		return fmt.Errorf("stat of a network namespace: %w", err)
	}
	if own.Ino == other.Ino {
		return errors.New("the container's network namespace is the runtime's own")
	}
	if err := rtnetlink(r, Outer); err != nil {
		return err
	}
	return sys.OnThread(func() error {
		if err := unix.Setns(netns, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("setns: %w", err)
		}
		return rtnetlink(r, Inner)
	})
}

func rtnetlink(r *plan.Run, reg plan.Reg) error {
	fd, err := netlink.Open()
	if err == nil {
		r.Fd[reg] = fd
	}
	return err
}

// movable tells why an interface can't be moved. Without this the kernel would
// find a name to be taken when the interface has left the host.
func movable(r *plan.Run, name, inside string) error {
	if _, err := netlink.IndexOf(r.Fd[Outer], name); err != nil {
		return fmt.Errorf("the host's interface %s: %w", name, err)
	}
	switch _, err := netlink.IndexOf(r.Fd[Inner], inside); {
	case errors.Is(err, unix.ENODEV):
		return nil
	case err != nil:
		return fmt.Errorf("the container's interface %s: %w", inside, err)
	}
	return fmt.Errorf("the container has an interface %s: %w", inside, unix.EEXIST)
}

// move moves one interface. Its addresses are gone then, and are added again.
func move(r *plan.Run, netns int, name, inside string) error {
	index, err := netlink.IndexOf(r.Fd[Outer], name)
	if err != nil {
		return fmt.Errorf("the host's interface %s: %w", name, err)
	}
	addresses, err := netlink.Ask(r.Fd[Outer], unix.RTM_GETADDR, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfAddrmsg))
	if err != nil {
		return fmt.Errorf("RTM_GETADDR: %w", err)
	}
	next, err := free(r.Fd[Inner], index)
	if err != nil {
		return fmt.Errorf("SIOCGIFNAME: %w", err)
	}
	link := netlink.Attribute(netlink.Link(index, 0), unix.IFLA_NET_NS_FD, netlink.Number(uint32(netns)))
	link = netlink.Attribute(link, unix.IFLA_NEW_IFINDEX, netlink.Number(next))
	link = netlink.Attribute(link, unix.IFLA_IFNAME, netlink.String(inside))
	if err := netlink.Do(r.Fd[Outer], "RTM_SETLINK", unix.RTM_SETLINK, 0, link); err != nil {
		return err
	}
	for _, a := range addresses {
		message, stays := readdress(a, index, next)
		if !stays {
			continue
		}
		if err := netlink.Do(r.Fd[Inner], "RTM_NEWADDR", unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, message); err != nil {
			return err
		}
	}
	return netlink.Do(r.Fd[Inner], "RTM_SETLINK, IFF_UP", unix.RTM_SETLINK, 0, netlink.Link(next, unix.IFF_UP))
}

// free is the first number, from one on, that no interface has. The kernel is
// told to take it, for a name that it makes up itself is known to nobody else.
func free(socket int, index uint32) (uint32, error) {
	for ; ; index++ {
		ifr, err := unix.NewIfreq("")
		if err != nil {
			return 0, err
		}
		ifr.SetUint32(index)
		if err := unix.IoctlIfreq(socket, unix.SIOCGIFNAME, ifr); errors.Is(err, unix.ENODEV) {
			return index, nil
		} else if err != nil {
			return 0, err
		}
	}
}

// readdress makes of one of the addresses that were asked for a message that
// gives it to an interface of another number. It stays with the interface if it
// is permanent, and of global scope.
func readdress(address []byte, index, next uint32) (message []byte, stays bool) {
	const flagsAt, scopeAt, indexAt = 2, 3, 4 // in struct ifaddrmsg
	message = slices.Clone(address[:unix.SizeofIfAddrmsg])
	flags := uint32(message[flagsAt])
	for kind, value := range netlink.Attributes(address[unix.SizeofIfAddrmsg:]) {
		switch kind {
		case unix.IFA_FLAGS:
			flags = binary.NativeEndian.Uint32(value)
			fallthrough
		default:
			message = netlink.Attribute(message, kind, value)
		case unix.IFA_LABEL: // the name that it had on the host
		}
	}
	stays = flags&unix.IFA_F_PERMANENT != 0 && message[scopeAt] == unix.RT_SCOPE_UNIVERSE &&
		binary.NativeEndian.Uint32(message[indexAt:]) == index
	binary.NativeEndian.PutUint32(message[indexAt:], next)
	return message, stays
}
