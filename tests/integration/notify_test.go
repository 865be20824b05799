package integration_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// notify is a program that sends a message, sd_notify(3), and goes on.
func notify(t *testing.T, message string, then ...*plan.Step) []byte {
	t.Helper()
	const path = "/run/notify/notify.sock"
	address := append([]byte{unix.AF_UNIX, 0}, path+"\x00"...)
	call := func(name string, number uintptr, args ...plan.Arg) *plan.Step {
		return &plan.Step{Call: plan.Call{Name: name, Number: number, Args: args}}
	}
	return tinyProgram(t, append([]*plan.Step{
		call("socket", unix.SYS_SOCKET, plan.Num{Value: unix.AF_UNIX}, plan.Num{Value: unix.SOCK_DGRAM}, plan.Num{}),
		call("connect", unix.SYS_CONNECT, plan.Num{Value: 3}, plan.Mem{Data: address}, plan.Num{Value: uint64(len(address))}),
		{Call: plan.WriteTo(3, message)},
	}, then...)...)
}

// A manager is a service manager that starts containers.
type manager struct {
	*oci
	socket *net.UnixConn
	env    string
}

// newManager makes a bundle whose program sends a message.
func newManager(t *testing.T, s *specs.Spec, message string, then ...*plan.Step) (*manager, string) {
	t.Helper()
	s.Process.Args = []string{"begin"}
	c, dir := newOCI(t, s.Hostname, s)
	path := filepath.Join(temp(t), "socket")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	for name, program := range map[string][]byte{"begin": notify(t, message, then...), "ready": notify(t, "READY=1")} {
		if err := os.WriteFile(filepath.Join(dir, "rootfs/bin", name), program, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return &manager{c, socket, "NOTIFY_SOCKET=" + path}, dir
}

// starts begins a command with the socket in its environment.
func (m *manager) starts(args ...string) (*exec.Cmd, chan error) {
	m.t.Helper()
	cmd := m.command(args...)
	cmd.Env = append(cmd.Env, m.env)
	cmd.Stdout, cmd.Stderr = m.said, m.said
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return cmd, ended
}

// ends waits for its end, which must be a good one.
func (m *manager) ends(ended chan error) {
	m.t.Helper()
	select {
	case err := <-ended:
		if err != nil {
			text, _ := os.ReadFile(m.said.Name())
			m.t.Fatalf("%v\n%s", err, text)
		}
	case <-time.After(patience):
		m.t.Fatal("the command does not end")
	}
}

// waits says that it must not have ended.
func (m *manager) waits(ended chan error) {
	m.t.Helper()
	select {
	case <-ended:
		m.t.Error("the command did not wait")
	case <-time.After(100 * time.Millisecond):
	}
}

// hears waits for a message; "" is that there is none.
func (m *manager) hears(want string) {
	m.t.Helper()
	wait := patience
	if want == "" {
		wait = 100 * time.Millisecond
	}
	text := make([]byte, 4096)
	_ = m.socket.SetReadDeadline(time.Now().Add(wait))
	n, err := m.socket.Read(text)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) || string(text[:n]) != want {
		m.t.Errorf("the service manager hears %q, not %q (%v)", text[:n], want, err)
	}
}

// creates is create.
func (m *manager) creates(dir string) {
	m.t.Helper()
	_, ended := m.starts("create", "--bundle", dir, "--pid-file", m.pidFile, m.id)
	m.ends(ended)
	text, err := os.ReadFile(m.pidFile)
	if err == nil {
		m.pid, err = strconv.Atoi(string(text))
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// hostile is a message of which only the status may be passed on.
const hostile = "MAINPID=1\nSTATUS=busy\nFDSTORE=1\nBARRIER=1\nREADY=0\nNOTIFYACCESS=all\nREADY=1 \nWATCHDOG_USEC=1\n"

// TestNotify has start wait until the container is ready, whoever its user is.
func TestNotify(t *testing.T) {
	s := newSpec("notify")
	s.Process.User = specs.User{UID: 1000, GID: 100}
	userNamespace(s)
	m, dir := newManager(t, s, hostile, stay)
	run := filepath.Join(dir, "rootfs/run")
	if err := errors.Join(os.Mkdir(run, 0o755), os.Lchown(run, 100000, 100000)); err != nil {
		t.Fatal(err)
	}
	m.creates(dir)
	if st, err := os.Stat(filepath.Join(m.host.run, m.id, "notify")); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("on the host others can reach the socket: %v %v", st, err)
	}
	_, ended := m.starts("start", m.id)
	m.hears("STATUS=busy\n")
	m.waits(ended)
	m.wants(specs.StateRunning)
	m.fails(1, "cannot start an already running container", "start", m.id) // and the socket is not made anew
	if r := m.call("exec", m.id, "env"); !strings.Contains(r.stdout, "\nNOTIFY_SOCKET=/run/notify/notify.sock\n") {
		t.Errorf("the environment: %v", r)
	}
	m.must("exec", m.id, "ready")
	m.hears("READY=1\nMAINPID=" + strconv.Itoa(m.pid) + "\n")
	m.hears("BARRIER=1") // ours
	m.ends(ended)
	m.hears("")
	// Root without a user namespace of its own can write there.
	if err := os.WriteFile(filepath.Join(m.host.run, m.id, "notify/run/left"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	m.must("delete", "--force", m.id)
}

// TestNotifyEnds is that nobody waits for a container that has ended, or is to
// be removed.
func TestNotifyEnds(t *testing.T) {
	m, dir := newManager(t, newSpec("notify"), "STATUS=no more\n")
	m.creates(dir)
	_, ended := m.starts("start", m.id)
	m.hears("STATUS=no more\n")
	m.ends(ended)
	m.hears("")
	m.must("delete", m.id)
	m.reap()

	m, dir = newManager(t, newSpec("notify"), hostile, stay)
	m.creates(dir)
	_, ended = m.starts("start", m.id)
	m.hears("STATUS=busy\n")
	m.must("delete", "--force", m.id)
	m.ends(ended)
	m.reap()

	m.creates(dir)
	m.env = "NOTIFY_SOCKET=" + dir + "/nosuch"
	_, ended = m.starts("start", m.id)
	if err := <-ended; err == nil {
		t.Error("a socket that is not there")
	}
	m.wants(specs.StateCreated)
	m.must("start", m.id) // without one it waits for nothing
}

// TestNotifyRun has run pass on what its container says.
func TestNotifyRun(t *testing.T) {
	m, dir := newManager(t, newSpec("notify"), hostile+"READY=1\n")
	_, ended := m.starts("run", "--bundle", dir, m.id)
	m.ends(ended)
	m.hears("STATUS=busy\nREADY=1\n")
	m.hears("")

	m, dir = newManager(t, newSpec("notify"), hostile, stay)
	cmd, ended := m.starts("run", "--bundle", dir, m.id)
	m.hears("STATUS=busy\n")
	if r := m.call("plan", "-v", "--container", m.id); !strings.Contains(r.stdout, "notify.sock") {
		t.Error("its plan says nothing of that")
	}
	m.must("exec", m.id, "ready")
	m.must("exec", m.id, "ready")
	m.hears("READY=1\n")
	m.hears("READY=1\n")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
	m.must("delete", "--force", m.id)

	_, ended = m.starts("run", "--detach", "--bundle", dir, "--pid-file", m.pidFile, m.id)
	m.hears("STATUS=busy\n")
	eventually(t, "its PID is told", func() bool {
		text, _ := os.ReadFile(m.pidFile)
		m.pid, _ = strconv.Atoi(string(text))
		return m.pid > 0
	})
	m.waits(ended)
	m.must("exec", m.id, "ready")
	m.hears("READY=1\nMAINPID=" + strconv.Itoa(m.pid) + "\n")
	m.hears("BARRIER=1")
	m.ends(ended)
	m.must("delete", "--force", m.id)
	m.reap()
}

// TestNotifyNobodyReads is that a service manager that never reads holds nobody
// up for ever.
func TestNotifyNobodyReads(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes ten seconds")
	}
	many := slices.Repeat([]*plan.Step{{Call: plan.WriteTo(3, "STATUS=much\n")}}, 2000)
	m, dir := newManager(t, newSpec("notify"), "READY=1\n", many...)
	_, ended := m.starts("run", "--bundle", dir, m.id)
	select {
	case <-ended: // the program's messages are refused then, and it ends
	case <-time.After(patience):
		t.Error("the command does not end")
	}
}
