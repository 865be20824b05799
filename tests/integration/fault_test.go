package integration_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/forkexec"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/spec"
	"github.com/minictr/minictr/tests/agent"
)

// noSuchCall is a number that no system call has: it fails with ENOSYS,
// behind a filter too.
const noSuchCall = 0x7ffe

var errInjected = errors.New("injected")

// overlay makes the root of a bundle from layers, as that of run IMAGE is.
func overlay(t *testing.T, s *specs.Spec, dir string) {
	t.Helper()
	s.Mounts = slices.Insert(s.Mounts, 0, specs.Mount{
		Destination: "/", Type: "overlay", Source: "overlay",
		Options: []string{"lowerdir=l/1:l/0,upperdir=upper,workdir=work"},
	})
	for _, d := range []string{"l/1/etc", "upper", "work"} {
		if err := os.MkdirAll(dir+"/"+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(dir+"/rootfs", dir+"/l/0"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/rootfs", 0o755); err != nil {
		t.Fatal(err)
	}
}

// TestEveryStepCanFail has each step of the default plan fail in turn. The
// error must name it, and nothing may be left of the container. The steps that
// a run passes by, which strace tells, do no harm.
func TestEveryStepCanFail(t *testing.T) {
	a := newAgent(t, agent.Pass)
	for _, c := range []struct {
		name    string
		layered bool
		edit    func(*specs.Spec)
		bricks  []string // whose steps fail; nil is all
	}{
		{"bundle", false, func(*specs.Spec) {}, nil},
		{"layers", true, func(*specs.Spec) {}, nil},
		{"user namespace", false, userNamespace, []string{"sync", "clone", "maps", "user", "devices"}},
		{"files in memory", false, func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/secret", Type: "tmpfs", Source: "/etc/hostname", Options: []string{"copyfile", "ro"}})
		}, []string{"copies", "root"}},
		{"filter before the privileges go", false, func(s *specs.Spec) { s.Process.NoNewPrivileges = false }, []string{"seccomp", "program"}},
		{"init", false, spec.SetInit, []string{"init"}},
		{"listener", false, func(s *specs.Spec) { asks(s, a, few...) }, []string{"gate", "seccomp", "listener", "handover", "program"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			s := newSpec("fault", "done")
			c.edit(s)
			dir := newBundle(t, nil, "fault")
			if c.layered {
				overlay(t, s, dir)
			}
			writeSpec(t, dir, s)
			p := h.printedPlan(t, dir)
			passed := skipped(p, walked(t, p, h.strace(t, "run", "--bundle", dir, "fault")))
			before := machine(h)
			for _, st := range p.of(plan.Parent, plan.Child, plan.Stub) {
				if c.bricks != nil && !slices.Contains(c.bricks, st.brick) {
					continue
				}
				if passed[st.Number] && !slices.Contains([]string{"mounts", "masks", "exec", "init"}, st.brick) {
					t.Errorf("step %d of the brick %s is passed by: it has no place to make, and none to search", st.Number, st.brick)
				}
				err := h.runBundle("fault", dir, func(p *plan.Plan) { fail(p, st.Number) })
				checkFault(t, err, st, passed[st.Number])
				if before.compare(t, h, fmt.Sprintf("after a failure of step %d", st.Number)); t.Failed() {
					t.FailNow()
				}
			}
		})
	}
}

// TestActionsFailAfterTheirEffect has each action of the parent do its work
// and then fail, as a runtime would that is told of an error too late.
func TestActionsFailAfterTheirEffect(t *testing.T) {
	h := newHost(t)
	s := newSpec("late", "done")
	userNamespace(s)
	if mapsTmpfs(t) {
		s.Mounts = append(s.Mounts, shows(mappable(t), "rbind,idmap", ids(0, 500), ids(0, 500)))
	}
	asks(s, newAgent(t, agent.Pass), few...)
	s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: new(int64(64 << 20))}
	s.Linux.Resources.CPU = &specs.LinuxCPU{Quota: new(int64(50000)), Period: new(uint64(100000)), Shares: new(uint64(512)), Cpus: "0"}
	dir := newBundle(t, s, "late")
	before := machine(h)
	p := h.printedPlan(t, dir)
	for _, st := range p.of(plan.Parent) {
		if st.Call != "" {
			continue // the clone: its own errors are above
		}
		err := h.runBundle("late", dir, func(p *plan.Plan) {
			step := p.Step(st.Number)
			act := step.Act
			step.Act = func(r *plan.Run) error { return errors.Join(act(r), errInjected) }
		})
		checkFault(t, err, st, false)
		if before.compare(t, h, fmt.Sprintf("after step %d: %s", st.Number, st.Action)); t.Failed() {
			t.FailNow()
		}
	}
}

// runBundle is run --bundle in this process, with an edited plan.
func (h host) runBundle(id, dir string, edit func(*plan.Plan)) (err error) {
	s, err := spec.Load(dir)
	if err != nil {
		return err
	}
	r := container.Runtime{Root: h.run}
	c, err := r.New(container.Config{ID: id, Bundle: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Delete()) }()
	if err := c.Start(s, container.Options{Edit: edit}); err != nil {
		return err
	}
	ws, err := c.Wait()
	if err == nil && ws != 0 {
		err = fmt.Errorf("the program ended with %#x", int(ws))
	}
	return err
}

// fail makes one step fail.
func fail(p *plan.Plan, number int) {
	s := p.Step(number)
	switch {
	case s.Call.Number == unix.SYS_CLONE3:
		args := s.Call.Args[0].(plan.Mem)
		args.Data = slices.Clone(args.Data)
		args.Data[32] = 0xff // no signal has this number
		s.Call.Args = append([]plan.Arg{args}, s.Call.Args[1:]...)
	case s.Act != nil:
		s.Act = func(*plan.Run) error { return errInjected }
	default:
		s.Call.Number, s.Allow = noSuchCall, nil
	}
}

func checkFault(t *testing.T, err error, st step, passed bool) {
	t.Helper()
	if passed {
		if err != nil {
			t.Errorf("step %d is not needed here, and its failure ends the run: %v", st.Number, err)
		}
		return
	}
	if st.brick == "init" && slices.Contains([]string{"rt_sigtimedwait", "wait4", "exit_group"}, st.Call) {
		// The program runs, so nobody is told any more, but it ends with process 1.
		if err == nil || err.Error() != "the program ended with 0x7f00" {
			t.Errorf("step %d fails, and the run ends with: %v", st.Number, err)
		}
		return
	}
	want := map[string]error{plan.Parent.String(): errInjected, plan.Child.String(): unix.ENOSYS, plan.Stub.String(): unix.ENOSYS}[st.where]
	if st.Call == "clone3" {
		want = unix.EINVAL
	}
	var failed *forkexec.StepError
	text := fmt.Sprintf("step %d, %s: %s", st.Number, st.brick, st.Action+st.Call)
	switch {
	case !errors.As(err, &failed):
		t.Errorf("step %d fails, and the error is no StepError: %v", st.Number, err)
	case failed.Number != st.Number || failed.Section.Brick != st.brick || failed.Section.Where.String() != st.where:
		t.Errorf("step %d of %s fails, and the error is of step %d of %s: %v", st.Number, st.brick, failed.Number, failed.Section.Brick, err)
	case !errors.Is(err, want):
		t.Errorf("step %d: %v, want %v", st.Number, err, want)
	case !strings.HasPrefix(err.Error(), text) || strings.Contains(err.Error(), "\n"):
		t.Errorf("the message is not one line that begins with %q: %v", text, err)
	}
}
