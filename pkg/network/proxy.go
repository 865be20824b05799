package network

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

// A Proxy carries on in user space what comes to sockets of this host, where no
// rule of the kernel can: see filtered.
type Proxy struct {
	sockets []io.Closer
	in      func(do func() error) error // Manager.in
	dialing chan struct{}               // has an element for each that does: each takes a thread
}

// Bounds on connections that a container has not taken yet.
const (
	dialers  = 32
	dialTime = 10 * time.Second
)

// dial connects to a container.
func (p *Proxy) dial(proto string, to netip.AddrPort) (c net.Conn, err error) {
	p.dialing <- struct{}{}
	defer func() { <-p.dialing }()
	err = p.in(func() (err error) {
		c, err = net.DialTimeout(proto, to.String(), dialTime)
		return err
	})
	return c, err
}

// proxy carries a socket's connections on, until it is closed. The descriptor
// stays the caller's.
func (p *Proxy) proxy(fd int, proto string, to netip.AddrPort) error {
	own, err := sys.Number("fcntl(F_DUPFD_CLOEXEC)", func() (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0) })
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(own), "[::1]")
	defer file.Close() // the network poller has a copy
	if proto == "udp" {
		from, err := net.FilePacketConn(file)
		if err == nil {
			p.sockets = append(p.sockets, from)
			go p.datagrams(from.(*net.UDPConn), to)
		}
		return err
	}
	listener, err := net.FileListener(file)
	if err == nil {
		p.sockets = append(p.sockets, listener)
		go p.connections(listener, to)
	}
	return err
}

func (p *Proxy) connections(listener net.Listener, to netip.AddrPort) {
	for {
		from, err := listener.Accept()
		if err != nil {
			return // it is closed
		}
		go func() {
			defer from.Close()
			container, err := p.dial("tcp", to)
			if err != nil {
				return // whoever asks sees the end
			}
			defer container.Close()
			var both sync.WaitGroup
			carry := func(to, from *net.TCPConn) {
				_, _ = io.Copy(to, from) // what one end does the other sees
				_ = to.CloseWrite()
			}
			both.Go(func() { carry(container.(*net.TCPConn), from.(*net.TCPConn)) })
			carry(from.(*net.TCPConn), container.(*net.TCPConn))
			both.Wait()
		}()
	}
}

// idle is how long an answer to a datagram is waited for: as long as connection
// tracking does.
const idle = 120 * time.Second

func (p *Proxy) datagrams(host *net.UDPConn, to netip.AddrPort) {
	var lock sync.Mutex
	clients := make(map[netip.AddrPort]net.Conn)
	buffer := make([]byte, 1<<16)
	for {
		n, client, err := host.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return // it is closed
		}
		lock.Lock()
		container := clients[client]
		if container == nil {
			if container, err = p.dial("udp", to); err == nil {
				clients[client] = container
				go func() {
					answer(host, container, client)
					lock.Lock()
					delete(clients, client)
					lock.Unlock()
					container.Close()
				}()
			}
		}
		if err == nil {
			_, _ = container.Write(buffer[:n]) // a datagram may be lost
		}
		lock.Unlock()
	}
}

// answer carries a client's answers back, until none has come for a while.
func answer(host *net.UDPConn, container net.Conn, client netip.AddrPort) {
	for buffer := make([]byte, 1<<16); ; {
		_ = container.SetReadDeadline(time.Now().Add(idle))
		n, err := container.Read(buffer)
		if err == nil {
			_, err = host.WriteToUDPAddrPort(buffer[:n], client)
		}
		if err != nil {
			return
		}
	}
}

// Close ends it. What is open goes on.
func (p *Proxy) Close() {
	for _, s := range p.sockets {
		_ = s.Close() // nothing is held back in it
	}
	p.sockets = nil
}
