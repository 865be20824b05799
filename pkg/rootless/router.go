package rootless

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/netlink"
	"github.com/minictr/minictr/pkg/sys"
)

// RouterCommand is the hidden command that is the router of a user's network.
const RouterCommand = "__router"

// Descriptors that the router begins with: where it is to say that it is ready,
// and the network, if there is one already.
const (
	readyFD  = 3
	routerFD = 4
)

// NameServer is the address at which the router answers questions for names, by
// asking the servers of the host.
var NameServer = netip.AddrFrom4([4]byte{10, 0, 2, 3})

// carriers are programs that carry packets between a network namespace and
// sockets of a user, the better one first. Their network namespace is the
// descriptor 3; with either it has the address 10.0.2.100.
var carriers = [...][]string{
	{
		"/usr/bin/pasta", "--config-net", "--foreground", "--quiet", "-a", "10.0.2.100", "-n", "255.255.255.0", "-g", "10.0.2.2", "--no-map-gw",
		"--dns-forward", "10.0.2.3", "-t", "none", "-u", "none", "-T", "none", "-U", "none", "--netns", "/proc/self/fd/3",
	},
	{"/usr/bin/slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback", "--netns-type=path", "/proc/self/fd/3", "tap0"},
}

// NoCarrier is what is missing where no carrier is installed.
const NoCarrier = "neither pasta nor slirp4netns is there: containers of a network reach each other and nothing outside"

// Carrier is the program that connects the user's network to the host, "" if
// there is none.
func Carrier() string {
	for _, c := range carriers {
		if _, err := os.Stat(c[0]); err == nil {
			return c[0]
		}
	}
	return ""
}

// startRouter starts the router of a network, or of a new one if that is -1, and
// returns when the network can be used.
func startRouter(fd int, tell func(string)) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	if fd < 0 {
		fd = int(null.Fd())
	}
	network, err := copyOf(fd)
	if err != nil {
		return err
	}
	defer network.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	defer r.Close()
	if err := KeepOnly(); err != nil {
		return errors.Join(err, w.Close())
	}
	process, err := os.StartProcess("/proc/self/exe", []string{"minictr", RouterCommand}, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"GOMAXPROCS=1", "GOGC=off", Variable + "=" + os.Getenv(Variable)},
		Files: []*os.File{null, null, null, w, network}, // in the order of readyFD and routerFD
		Sys:   &unix.SysProcAttr{Setsid: true},
	})
	if err = errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("the router: %w", err)
	}
	if err := r.SetReadDeadline(time.Now().Add(time.Duration(len(carriers)+1) * settling)); err != nil {
		return err
	}
	said, err := io.ReadAll(r)
	ready, ok := strings.CutPrefix(string(said), readyWord)
	if err == nil && !ok {
		err = fmt.Errorf("the router has ended: %s", said)
	}
	if err == nil && ready != "" {
		tell(ready)
	}
	return errors.Join(err, process.Release())
}

// readyWord begins what a router says that is ready.
const readyWord = "ready"

// Route is the whole life of a router.
func Route() error {
	ready := os.NewFile(readyFD, "ready")
	missing, err := route()
	if err != nil {
		_, _ = io.WriteString(ready, err.Error()) // who waits for it sees the end
		return err
	}
	_, err = io.WriteString(ready, readyWord+missing)
	if err = errors.Join(err, ready.Close()); err != nil {
		return err
	}
	locks, err := lockFile()
	if err != nil {
		return err
	}
	// Nobody has joined it any more then, and who would waits for our end.
	return set(locks, unix.F_SETLKW, unix.F_WRLCK, joined)
}

// route makes the network and connects it, and says what is missing.
func route() (missing string, err error) {
	unix.CloseOnExec(readyFD)
	locks, err := lockFile()
	if err == nil {
		err = set(locks, unix.F_SETLK, unix.F_WRLCK, routing)
	}
	if err == nil {
		err = makeNetwork()
	}
	if err != nil {
		return "", err
	}
	connected := make(chan string)
	go connect(connected)
	return <-connected, nil
}

// makeNetwork makes the network namespace, if it is not there.
func makeNetwork() error {
	if kind, err := unix.IoctlRetInt(routerFD, unix.NS_GET_NSTYPE); err == nil && kind == unix.CLONE_NEWNET {
		return nil
	}
	return sys.OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare(CLONE_NEWNET): %w", err)
		}
		socket, err := netlink.Open()
		if err != nil {
			return err
		}
		lo, err := netlink.IndexOf(socket, "lo")
		if err == nil {
			err = netlink.Do(socket, "RTM_SETLINK lo, IFF_UP", unix.RTM_SETLINK, 0, netlink.Link(lo, unix.IFF_UP))
		}
		if err = errors.Join(err, unix.Close(socket)); err != nil {
			return err
		}
		fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = errors.Join(unix.Dup3(fd, routerFD, unix.O_CLOEXEC), unix.Close(fd))
		}
		return err
	})
}

// settling is how long a carrier may take to be of use, on a busy machine.
const settling = 10 * time.Second

// connect has a carrier connect the network, and another when that ends. It says
// once what is missing. A carrier ends with its parent, which is this thread.
func connect(connected chan<- string) {
	runtime.LockOSThread()
	failed := NoCarrier
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		for _, c := range carriers {
			if _, err := os.Stat(c[0]); err != nil {
				continue
			}
			began := time.Now()
			process, ended, err := start(c)
			if err == nil && !settle(ended) {
				_ = process.Kill() // it may have ended
			} else if err == nil && connected != nil {
				connected <- ""
				connected = nil
			}
			if err == nil {
				err = <-ended
			}
			failed = fmt.Sprintf("%s: %v: containers of a network reach each other and nothing outside", filepath.Base(c[0]), err)
			if time.Since(began) > 2*settling {
				wait = time.Second
				break // it has worked: the same once more
			}
		}
		if connected != nil {
			connected <- failed
			connected = nil
		}
		time.Sleep(wait)
	}
}

// start starts a carrier, and tells when it has ended, and what it said last.
func start(argv []string) (process *os.Process, ended chan error, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	defer null.Close()
	network, err := copyOf(routerFD)
	if err != nil {
		return nil, nil, err
	}
	defer network.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("pipe: %w", err)
	}
	process, err = os.StartProcess(argv[0], argv, &os.ProcAttr{
		Env:   []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
		Files: []*os.File{null, null, w, network},
		Sys:   &unix.SysProcAttr{Pdeathsig: unix.SIGKILL},
	})
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, nil, errors.Join(err, r.Close())
	}
	ended = make(chan error, 1)
	go func() {
		said := ""
		for lines := bufio.NewScanner(r); lines.Scan(); {
			said = lines.Text()
		}
		state, err := process.Wait()
		if err == nil {
			err = fmt.Errorf("%v: %s", state, said)
		}
		ended <- errors.Join(err, r.Close())
	}()
	return process, ended, nil
}

// copyOf is another descriptor of the same.
func copyOf(fd int) (*os.File, error) {
	other, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("fcntl F_DUPFD_CLOEXEC: %w", err)
	}
	return os.NewFile(uintptr(other), "network"), nil
}

// settle waits until the network has a way out, and says whether that has come.
func settle(ended chan error) (settled bool) {
	_ = (&Network{routerFD}).Do(func() error { // what can't be found out is not so
		for end := time.Now().Add(settling); time.Now().Before(end); {
			if settled = hasWayOut(); settled {
				break
			}
			select {
			case err := <-ended:
				ended <- err
				return nil
			case <-time.After(2 * time.Millisecond):
			}
		}
		return nil
	})
	return settled
}

// Connected says whether there is a way out of the network.
func (n *Network) Connected() (connected bool) {
	_ = n.Do(func() error { // as in settle
		connected = hasWayOut()
		return nil
	})
	return connected
}

// hasWayOut says whether this thread's network namespace has a default route.
func hasWayOut() (found bool) {
	socket, err := netlink.Open()
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(socket) }() // nothing is held back in it
	all, _ := netlink.Ask(socket, unix.RTM_GETROUTE, unix.NLM_F_DUMP, make([]byte, unix.SizeofRtMsg))
	for _, m := range all { // struct rtmsg: of a default route no bit is compared
		family, bits, table, kind := m[0], m[1], m[4], m[7]
		found = found || (family == unix.AF_INET || family == unix.AF_INET6) && bits == 0 && table == unix.RT_TABLE_MAIN && kind == unix.RTN_UNICAST
	}
	return found
}
