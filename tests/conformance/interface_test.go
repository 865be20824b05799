package conformance_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ip changes the network of these tests, which is their own.
func ip(lines ...string) (err error) {
	for _, line := range lines {
		out, e := exec.Command("busybox", append([]string{"ip"}, strings.Fields(line)...)...).CombinedOutput()
		if e != nil {
			err = errors.Join(err, fmt.Errorf("ip %s: %w: %s", line, e, out))
		}
	}
	return err
}

// lends gives a container an interface, and looks what it is inside.
func lends(inside, script, want string) func(*box) error {
	return func(b *box) error {
		err := ip("link add lent0 type veth", "link set lent0 mtu 1400", "addr add 10.1.2.3/24 dev lent0", "addr add 10.9.9.9/24 dev lent0 scope host", "addr add fd00::7/64 dev lent0")
		defer func() { _ = ip("link del lent0") }() // the container's end has taken it away, if it ever had it
		if err != nil {
			return err
		}
		s := base(b)
		s.Process.Args = []string{"sh", "-c", script}
		s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"lent0": {Name: inside}}
		b.write(s)
		if want == "" {
			return notCreated(b)
		}
		if out, err := b.toTheEnd(); err != nil || strings.TrimSpace(out) != want {
			return fmt.Errorf("it prints %q, not %q, %w", out, want, err)
		}
		return nil
	}
}

// terminal is what a program on a terminal prints.
func terminal(b *box) (string, error) {
	path := b.dir + "/console"
	l, err := net.Listen("unix", path)
	if err != nil {
		return "", err
	}
	defer l.Close()
	if err := b.run("create", "--bundle", b.dir, "--console-socket", path, b.id()); err != nil {
		return "", err
	}
	_ = l.(*net.UnixListener).SetDeadline(time.Now().Add(patience))
	c, err := l.Accept()
	if err != nil {
		return "", err
	}
	defer c.Close()
	name, rights := make([]byte, 256), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := c.(*net.UnixConn).ReadMsgUnix(name, rights)
	if err != nil {
		return "", err
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) != 1 {
		return "", fmt.Errorf("%d control messages, %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return "", err
	}
	master := os.NewFile(uintptr(fds[0]), "master")
	defer master.Close()
	if err := b.start(); err != nil {
		return "", err
	}
	text := make([]byte, 256)
	n, err = master.Read(text)
	return strings.TrimSpace(string(text[:n])), err
}

// interfaces are the network's and the terminal's.
var interfaces = []must{
	{section: "config-linux.md, Network Devices", text: "is inside under its name, and up", check: lends("", "ip -o link show dev lent0 | grep -o '[<,]UP'", ",UP")},
	{section: "config-linux.md, Network Devices", text: "has the name that is asked for", check: lends("eth7", "ip -o link show dev eth7 | grep -o 'mtu 1400'", "mtu 1400")},
	{section: "config-linux.md, Network Devices", text: "has a name of the kernel's for a template", check: lends("eth%d", "ip -o link show dev eth0 | grep -o 'mtu 1400'", "mtu 1400")},
	{
		section: "config-linux.md, Network Devices", text: "keeps its permanent addresses of global scope, and no others",
		check: lends("", "ip -o addr show dev lent0 | grep -v fe80 | tr -s ' ' | cut -d' ' -f3,4", "inet 10.1.2.3/24\ninet6 fd00::7/64"),
	},
	{section: "config-linux.md, Network Devices", text: "a name that is there already is an error", check: lends("lo", "true", "")},
	{section: "config-linux.md, Network Devices", text: "one that the host does not have is an error", edit: func(s *specs.Spec) {
		s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"nosuch": {}}
	}, check: notCreated},
	{section: "config.md, Process", text: "consoleSize", edit: func(s *specs.Spec) {
		s.Process.Args = []string{"busybox", "stty", "size"}
		s.Process.Terminal, s.Process.ConsoleSize = true, &specs.Box{Height: 33, Width: 77}
	}, check: func(b *box) error {
		if out, err := terminal(b); err != nil || out != "33 77" {
			return fmt.Errorf("it prints %q, %w", out, err)
		}
		return nil
	}},
	{section: "config-linux.md, Default Devices", text: "/dev/console is the terminal, if there is one", edit: func(s *specs.Spec) {
		s.Process.Args = []string{"sh", "-c", "stat -c %t:%T /dev/console $(busybox tty) | uniq | wc -l"}
		s.Process.Terminal = true
	}, check: func(b *box) error {
		if out, err := terminal(b); err != nil || out != "1" {
			return fmt.Errorf("it prints %q, %w", out, err)
		}
		return nil
	}},
	{section: "config.md, Process", text: "consoleSize is ignored without a terminal", edit: func(s *specs.Spec) { s.Process.ConsoleSize = &specs.Box{Height: 33, Width: 77} }, script: "echo ok", want: "ok"},
}
