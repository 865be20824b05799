package cgroup

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// role is the variable that turns this test binary into a process to put into
// a cgroup, so that the tests need no other program.
const role = "MINICTR_CGROUP_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(role) == "" {
		os.Exit(m.Run())
	}
	fmt.Println("ready")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		act, arg, _ := strings.Cut(in.Text(), " ")
		switch act {
		case "hog":
			n, _ := strconv.Atoi(arg)
			hog := make([]byte, n<<20)
			for i := 0; i < len(hog); i += 4096 {
				hog[i] = 1
			}
			fmt.Println("fed", hog[0])
		case "open":
			f, err := os.OpenFile(arg, os.O_RDWR, 0)
			_ = f.Close()
			fmt.Println(arg, err == nil)
		case "read":
			text, _ := os.ReadFile(arg)
			fmt.Println("read", len(text))
		case "burn":
			for end := time.Now().Add(time.Second); time.Now().Before(end); {
			}
			fmt.Println("burnt")
		case "around": // where the process's cgroups are out of sight, be they its own
			runtime.LockOSThread()
			pid, _ := strconv.Atoi(arg)
			err := unix.Unshare(unix.CLONE_NEWCGROUP)
			a, e := Around(pid)
			fmt.Println("sees", slices.Contains(a.Seen, "memory"), errors.Join(err, e))
		}
	}
}

// layouts are the ways in which this host can be looked at: all that is
// mounted, and, of a hybrid one, each version alone.
func layouts(t *testing.T) map[string]Layout {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	host, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]Layout{"host " + host.Version().String(): host}
	if host.Version() == Hybrid {
		v1 := Layout{Hierarchies: slices.DeleteFunc(slices.Clone(host.Hierarchies), func(h Hierarchy) bool { return h.V2 })}
		v2 := Layout{Hierarchies: slices.DeleteFunc(slices.Clone(host.Hierarchies), func(h Hierarchy) bool { return !h.V2 })}
		all["v1 alone"], all["v2 alone"] = v1, v2
	}
	return all
}

// onEach runs a test in each of the layouts.
func onEach(t *testing.T, test func(t *testing.T, l Layout)) {
	for name, l := range layouts(t) {
		t.Run(name, func(t *testing.T) { test(t, l) })
	}
}

// create makes a cgroup by running the parent's part of a plan, and takes it
// away after the test.
func create(t *testing.T, l Layout, r *specs.LinuxResources) (Group, *plan.Run) {
	t.Helper()
	return createAt(t, l, "/", r)
}

// createAt is create below the root ("/") or below this process's cgroup ("").
func createAt(t *testing.T, l Layout, where string, r *specs.LinuxResources) (Group, *plan.Run) {
	t.Helper()
	g := group(t, l, where)
	b := plan.New()
	if err := g.Create(b, r); err != nil {
		t.Fatal(err)
	}
	return g, carryOut(t, b)
}

func group(t *testing.T, l Layout, where string) Group {
	t.Helper()
	name := strings.Map(func(r rune) rune {
		if r == '/' || r == ' ' || r == '_' {
			return '-'
		}
		return r
	}, t.Name())
	g, err := l.Group(fmt.Sprintf("%sminictr-test-%d/%s", where, os.Getpid(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(g.Kill(), g.Delete(), g.Prune()); err != nil {
			t.Error(err)
		}
		for _, p := range g.Places {
			if _, err := os.Stat(filepath.Dir(p.Dir)); err == nil {
				t.Errorf("%s is left", filepath.Dir(p.Dir))
			}
		}
	})
	return g
}

func carryOut(t *testing.T, b *plan.Builder) *plan.Run {
	t.Helper()
	run := &plan.Run{Fd: make(map[plan.Reg]int)}
	t.Cleanup(func() {
		for _, fd := range run.Fd {
			_ = unix.Close(fd)
		}
	})
	for _, s := range b.Plan().Sections {
		for _, step := range s.Steps {
			if s.Where == plan.Parent {
				if err := step.Act(run); err != nil {
					t.Fatalf("%s: %v", step.Call, err)
				}
			}
		}
	}
	return run
}

// A child is this test binary in a cgroup.
type child struct {
	t   *testing.T
	cmd *exec.Cmd
	in  *os.File
	out *bufio.Scanner
}

// start puts a child into the cgroup: into version 2 by clone3, as a
// container is; into version 1 by its pid, since a Go program has threads.
func start(t *testing.T, g Group, run *plan.Run) *child {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{role + "=child", "GOGC=off"}
	if g.CloneInto() {
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: run.Fd[Descriptor]}
	}
	r, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r, w, os.Stderr
	err = cmd.Start()
	_, _ = r.Close(), w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_, _ = in.Close(), out.Close()
	})
	for _, p := range g.Places {
		if !p.V2 {
			if err := write(p.Dir+"/cgroup.procs", strconv.Itoa(cmd.Process.Pid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	c := &child{t, cmd, in, bufio.NewScanner(out)}
	c.expect("ready")
	return c
}

func (c *child) tell(line string) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in, line); err != nil {
		c.t.Fatal(err)
	}
}

func (c *child) expect(want string) {
	c.t.Helper()
	if !c.out.Scan() || c.out.Text() != want {
		c.t.Fatalf("the child says %q (%v), want %q", c.out.Text(), c.out.Err(), want)
	}
}

// ended waits for the child and tells which signal ended it.
func (c *child) ended() unix.Signal {
	_ = c.cmd.Wait()
	return c.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal()
}

// content reads a file that must be there.
func content(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func createFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func toJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
