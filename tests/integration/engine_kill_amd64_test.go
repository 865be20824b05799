package integration_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minictr/minictr/tests/alone"
)

// A stricken command is one of the engine's that is killed, with what comes
// before it.
type stricken struct {
	name   string
	before [][]string
	args   []string
}

var box = []string{"run", "-d", "--name", "box", "--network", "net", "-p", "8090:80", "-v", "vol:/vol", "tiny", "sleep", "1000"}

var strickenCommands = [...]stricken{
	{"run -d", nil, box},
	{"run -d --rm", nil, []string{"run", "-d", "--rm", "--network", "net", "-p", "8090:80", "-v", "/vol", "tiny", "sleep", "1000"}},
	{"run -d --restart", nil, []string{"run", "-d", "--restart", "always", "--network", "net", "tiny", "true"}},
	{"run", nil, []string{"run", "--name", "box", "--network", "net", "-p", "8090:80", "-v", "/vol", "tiny", "sleep", "1000"}},
	{"create", nil, []string{"create", "--name", "box", "--network", "net", "-v", "/vol", "tiny", "sleep", "1000"}},
	{"start", [][]string{{"create", "--name", "box", "--network", "net", "tiny", "sleep", "1000"}}, []string{"start", "box"}},
	{"exec", [][]string{box}, []string{"exec", "box", "sleep", "1000"}},
	{"stop", [][]string{box}, []string{"stop", "-t", "0", "box"}},
	{"restart", [][]string{box}, []string{"restart", "-t", "0", "box"}},
	{"rm", [][]string{box}, []string{"rm", "-f", "-v", "box"}},
	{"rename", [][]string{box}, []string{"rename", "box", "other"}},
	{"network create", nil, []string{"network", "create", "other"}},
	{"network rm", [][]string{{"network", "create", "other"}}, []string{"network", "rm", "other"}},
	{"volume create", nil, []string{"volume", "create", "other"}},
	{"volume rm", [][]string{{"volume", "create", "other"}}, []string{"volume", "rm", "other"}},
}

// A strike ends a command of this host, which is not started yet, or only its
// monitor, and waits for its end.
type strike func(t *testing.T, h host, args []string) (when string)

// TestEngineKilled kills commands and monitors at calls by which they change
// the machine, and at moments that nobody has chosen, also together with all
// other processes of minictr. The next command repairs and tells; and when all
// containers, networks and volumes are removed, nothing is left.
func TestEngineKilled(t *testing.T) {
	for _, s := range strickenCommands {
		t.Run(s.name, func(t *testing.T) {
			h := newNetworked(t)
			h.must(t, "run", "tiny", "true") // its image is there
			h.must(t, "network", "create", "net")
			before, network := machine(h), alone.Network(t)
			for _, strike := range strikes() {
				for _, args := range s.before {
					h.must(t, args...)
				}
				when := strike(t, h, s.args)
				h.cleared(t, s.name+" killed "+when)
				for _, c := range alone.Children() { // it may miss the end of who was killed
					if c.Name == "strace" {
						_ = syscall.Kill(c.PID, syscall.SIGKILL)
					}
				}
				before.compare(t, h, s.name+" killed "+when)
				eventually(t, s.name+" killed "+when+": nothing of the network is left", func() bool { return alone.Network(t) == network })
				if t.Failed() {
					t.FailNow()
				}
			}
			h.must(t, "network", "rm", "net")
		})
	}
}

// strikes are some of all, as many as take a few seconds.
func strikes() (all []strike) {
	for _, call := range [...]struct {
		name string
		most int
	}{
		{"mkdirat", 8},
		{"openat", 80},
		{"write", 24},
		{"renameat", 6},
		{"flock", 16},
		{"symlinkat", 4},
		{"fcntl", 8},
		{"pipe2", 4},
		{"clone3", 2},
		{"execve", 2},
		{"close", 60},
		{"unlinkat", 16},
		{"sendto", 24},
		{"bind", 2},
		{"pidfd_send_signal", 2},
	} {
		for n := 1; n <= call.most; n += 1 + n/12 {
			all = append(all, atCall(call.name, n))
		}
	}
	for range 12 {
		all = append(all, afterTime(false), afterTime(true))
	}
	if os.Getenv(everyFault) == "" {
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:4]
	}
	return all
}

// atCall kills, by strace, who first makes a call for the nth time: the command,
// the monitor, or what is to become the container.
func atCall(call string, n int) strike {
	return func(t *testing.T, h host, args []string) string {
		t.Helper()
		strace, err := exec.LookPath("strace")
		if err != nil {
			t.Fatal("strace is not installed (Debian: strace)")
		}
		cmd := h.command(args...)
		cmd.Path, cmd.Args = strace, append([]string{
			strace, "-D", "-f", "-qqq", "-o", "/dev/null", "-e", "trace=" + call, "-e", "signal=none",
			"-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", call, n), "--", program,
		}, cmd.Args[1:]...)
		return fmt.Sprintf("at %s %d\n%s", call, n, lasting(t, cmd, 300*time.Millisecond))
	}
}

// afterTime kills the command, or all processes of minictr, after a while.
func afterTime(all bool) strike {
	return func(t *testing.T, h host, args []string) string {
		t.Helper()
		after := time.Duration(rand.IntN(60_000)) * time.Microsecond
		out := lasting(t, h.command(args...), after)
		if all {
			alone.KillChildren(t)
		}
		return fmt.Sprintf("after %v, all processes: %v\n%s", after, all, out)
	}
}

// lasting kills a command that has not ended by itself after a while.
func lasting(t *testing.T, cmd *exec.Cmd, after time.Duration) string {
	t.Helper()
	file, err := os.CreateTemp(temp(t), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait() // its end is what is looked at
	timer.Stop()
	text, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte("goroutine ")) {
		t.Errorf("%q: %s", cmd.Args, text)
	}
	return fmt.Sprintf("%v\n%s", cmd.ProcessState.Sys().(syscall.WaitStatus), text)
}

// patiently runs a minictr, and takes leave of what other processes have left to
// us: no PID namespace ends before that.
func (h host) patiently(t *testing.T, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := h.command(args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case <-ended:
			return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
		case <-time.After(2 * time.Millisecond):
			_ = alone.ChildrenBut(cmd.Process.Pid)
		}
	}
}

// cleared has the next command repair, and removes all that is there.
func (h host) cleared(t *testing.T, when string) {
	t.Helper()
	r := h.patiently(t, "ps", "-a")
	if r.status != 0 || strings.Contains(r.stderr, "can't be removed") {
		t.Errorf("%s: the next command: %v", when, r)
	}
	for name := range strings.FieldsSeq(h.patiently(t, "ps", "-a", "-q").stdout) {
		if r := h.patiently(t, "rm", "-f", "-v", name); r.status != 0 && !strings.Contains(r.stderr, "not exist") {
			t.Errorf("%s: rm: %v", when, r)
		}
	}
	_ = h.patiently(t, "network", "rm", "other") // if it is there
	if r := h.patiently(t, "volume", "prune", "-a", "-f"); r.status != 0 {
		t.Errorf("%s: volume prune: %v", when, r)
	}
	if r := h.patiently(t, "ps", "-a"); r.status != 0 || r.stderr != "" {
		t.Errorf("%s: the last command: %v", when, r)
	}
}
