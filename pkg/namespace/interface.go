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

	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/sys"
)

// Sockets of rtnetlink(7), in the network that interfaces come from, and in the
// one that they go to.
const (
	outer plan.Reg = "rtnetlink/host"
	inner plan.Reg = "rtnetlink/container"
)

// moves says whether the container gets interfaces of the host.
func moves(s *specs.Spec) bool { return len(s.Linux.NetDevices) > 0 }

// Interfaces has the parent move network interfaces of the host into the
// container's network namespace, config-linux.md "Network Devices". Nobody
// brings them back: what becomes of them is the kernel's business, when it ends
// the namespace.
func Interfaces(b *plan.Builder, s *specs.Spec, h Host) {
	if !moves(s) {
		return
	}
	b.Section(plan.Parent, "interfaces", "move network interfaces of the host inside")
	b.At("/linux/netDevices")
	if bornTwice(s, h) && !copies(s, h) {
		b.Act("its namespaces are there then", "read($report/runtime)", func(r *plan.Run) error { return r.Await() })
	}
	netns := plan.Reg("ns/" + specs.NetworkNamespace)
	if IsNew(s, specs.NetworkNamespace) {
		b.Act("the container's network", fmt.Sprintf(`%s = open("/proc/$pid/ns/net", O_RDONLY|O_CLOEXEC)`, netns), func(r *plan.Run) error {
			return open(netns, fmt.Sprintf("/proc/%d/ns/net", r.PID))(r)
		})
	}
	b.Act("a socket belongs to the network that it is made in, so one for each", fmt.Sprintf(
		"%s = socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_ROUTE), setns(%s, CLONE_NEWNET), %s = socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_ROUTE)",
		outer, netns, inner), func(r *plan.Run) error { return sockets(r, r.Fd[netns]) })
	names := slices.Sorted(maps.Keys(s.Linux.NetDevices))
	for _, name := range names {
		inside := nameInside(s, name)
		b.At(pointerTo(name))
		b.Act("none is moved unless all are there, and their names inside are free", fmt.Sprintf("ioctl(%s, SIOCGIFINDEX, %q), ioctl(%s, SIOCGIFINDEX, %q) = ENODEV", outer, name, inner, inside),
			func(r *plan.Run) error { return movable(r, name, inside) })
	}
	for _, name := range names {
		inside := nameInside(s, name)
		b.At(pointerTo(name))
		b.Act("it is the container's alone now, with its lasting addresses, and it is up", fmt.Sprintf(
			"sendto(%s, {RTM_SETLINK, %q, IFLA_NET_NS_FD=%s, IFLA_IFNAME=%q}), sendto(%s, {RTM_NEWADDR, …}), sendto(%[5]s, {RTM_SETLINK, %[4]q, IFF_UP})",
			outer, name, netns, inside, inner), func(r *plan.Run) error { return move(r, r.Fd[netns], name, inside) })
	}
	b.At("/linux/netDevices")
	GoOn(b)
}

// takeInterfaces has the child wait for them.
func takeInterfaces(b *plan.Builder, s *specs.Spec, h Host) {
	if !moves(s) {
		return
	}
	b.Section(plan.Child, "interfaces", "wait for network interfaces of the host")
	b.At("/linux/netDevices")
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
	if err := rtnetlink(r, outer); err != nil {
		return err
	}
	return sys.OnThread(func() error {
		if err := unix.Setns(netns, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("setns: %w", err)
		}
		return rtnetlink(r, inner)
	})
}

func rtnetlink(r *plan.Run, reg plan.Reg) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	r.Fd[reg] = fd
	return nil
}

// movable tells why an interface can't be moved. Without this the kernel would
// find a name to be taken when the interface has left the host.
func movable(r *plan.Run, name, inside string) error {
	if _, err := indexOf(r.Fd[outer], name); err != nil {
		return fmt.Errorf("the host's interface %s: %w", name, err)
	}
	switch _, err := indexOf(r.Fd[inner], inside); {
	case errors.Is(err, unix.ENODEV):
		return nil
	case err != nil:
		return fmt.Errorf("the container's interface %s: %w", inside, err)
	}
	return fmt.Errorf("the container has an interface %s: %w", inside, unix.EEXIST)
}

// move moves one interface. Its addresses are gone then, and are added again.
func move(r *plan.Run, netns int, name, inside string) error {
	index, err := indexOf(r.Fd[outer], name)
	if err != nil {
		return fmt.Errorf("the host's interface %s: %w", name, err)
	}
	addresses, err := ask(r.Fd[outer], unix.RTM_GETADDR, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfAddrmsg))
	if err != nil {
		return fmt.Errorf("RTM_GETADDR: %w", err)
	}
	next, err := free(r.Fd[inner], index)
	if err != nil {
		return fmt.Errorf("SIOCGIFNAME: %w", err)
	}
	link := attribute(linkMessage(index, 0), unix.IFLA_NET_NS_FD, number(uint32(netns)))
	link = attribute(link, unix.IFLA_NEW_IFINDEX, number(next))
	link = attribute(link, unix.IFLA_IFNAME, append([]byte(inside), 0))
	if _, err := ask(r.Fd[outer], unix.RTM_SETLINK, 0, link); err != nil {
		return fmt.Errorf("RTM_SETLINK: %w", err)
	}
	for _, a := range addresses {
		message, stays := readdress(a, index, next)
		if !stays {
			continue
		}
		if _, err := ask(r.Fd[inner], unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, message); err != nil {
			return fmt.Errorf("RTM_NEWADDR: %w", err)
		}
	}
	if _, err := ask(r.Fd[inner], unix.RTM_SETLINK, 0, linkMessage(next, unix.IFF_UP)); err != nil {
		return fmt.Errorf("RTM_SETLINK, IFF_UP: %w", err)
	}
	return nil
}

// indexOf is the number of an interface.
func indexOf(socket int, name string) (uint32, error) {
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		err = unix.IoctlIfreq(socket, unix.SIOCGIFINDEX, ifr)
	}
	if err != nil {
		return 0, err
	}
	return ifr.Uint32(), nil
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

// linkMessage is a struct ifinfomsg, that raises flags.
func linkMessage(index, flags uint32) []byte {
	m := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(m[4:], index)
	binary.NativeEndian.PutUint32(m[8:], flags)
	binary.NativeEndian.PutUint32(m[12:], flags)
	return m
}

// readdress makes of one of the addresses that were asked for a message that
// gives it to an interface of another number. It stays with the interface if it
// is permanent, and of global scope.
func readdress(address []byte, index, next uint32) (message []byte, stays bool) {
	const flagsAt, scopeAt, indexAt = 2, 3, 4 // in struct ifaddrmsg
	message = slices.Clone(address[:unix.SizeofIfAddrmsg])
	flags := uint32(message[flagsAt])
	for rest := address[unix.SizeofIfAddrmsg:]; len(rest) >= unix.SizeofRtAttr; {
		size, kind := binary.NativeEndian.Uint16(rest), binary.NativeEndian.Uint16(rest[2:])
		value := rest[unix.SizeofRtAttr:size]
		switch kind {
		case unix.IFA_FLAGS:
			flags = binary.NativeEndian.Uint32(value)
			fallthrough
		default:
			message = attribute(message, kind, value)
		case unix.IFA_LABEL: // the name that it had on the host
		}
		rest = rest[min(aligned(int(size)), len(rest)):]
	}
	stays = flags&unix.IFA_F_PERMANENT != 0 && message[scopeAt] == unix.RT_SCOPE_UNIVERSE &&
		binary.NativeEndian.Uint32(message[indexAt:]) == index
	binary.NativeEndian.PutUint32(message[indexAt:], next)
	return message, stays
}

func number(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

// aligned is a length in netlink(7), where all begins at a multiple of four.
func aligned(n int) int { return (n + 3) &^ 3 }

// attribute appends a struct rtattr.
func attribute(m []byte, kind uint16, value []byte) []byte {
	m = binary.NativeEndian.AppendUint16(m, uint16(unix.SizeofRtAttr+len(value)))
	m = append(binary.NativeEndian.AppendUint16(m, kind), value...)
	return append(m, make([]byte, aligned(len(m))-len(m))...)
}

// ask sends one message and takes the answers, up to the kernel's last word.
// A list that changed while it was read is asked for once more.
func ask(socket int, kind, flags uint16, body []byte) (answers [][]byte, err error) {
	m := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	m = binary.NativeEndian.AppendUint16(m, kind)
	m = binary.NativeEndian.AppendUint16(m, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m = append(append(m, make([]byte, 8)...), body...)
	if err := unix.Sendto(socket, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	buffer, changed := make([]byte, 1<<16), false
	for {
		n, _, err := unix.Recvfrom(socket, buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for rest := buffer[:n]; len(rest) >= unix.SizeofNlMsghdr; {
			size := int(binary.NativeEndian.Uint32(rest))
			changed = changed || binary.NativeEndian.Uint16(rest[6:])&unix.NLM_F_DUMP_INTR != 0
			body := rest[unix.SizeofNlMsghdr:size]
			switch binary.NativeEndian.Uint16(rest[4:]) {
			case unix.NLMSG_ERROR, unix.NLMSG_DONE:
				if errno := int32(binary.NativeEndian.Uint32(body)); errno != 0 {
					return nil, unix.Errno(-errno)
				}
				if changed {
					return ask(socket, kind, flags, m[unix.SizeofNlMsghdr:])
				}
				return answers, nil
			}
			answers = append(answers, slices.Clone(body))
			rest = rest[min(aligned(size), len(rest)):]
		}
	}
}
