package rootless

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/plan"
)

// print is a plan without its reasons, of which each step has one.
func print(t *testing.T, p *plan.Plan) string {
	t.Helper()
	var out strings.Builder
	for _, s := range p.Sections {
		for _, step := range s.Steps {
			out.WriteString(s.Where.String() + " " + step.String() + "\n")
			if step.Why == "" || s.Title == "" {
				t.Errorf("no reason: %s", step)
			}
		}
	}
	return out.String()
}

// TestPlans holds both plans, with subordinate ids and without, to what they are to
// be.
func TestPlans(t *testing.T) {
	alone := IDs{[]specs.LinuxIDMapping{{HostID: 1000, Size: 1}}, []specs.LinuxIDMapping{{HostID: 100, Size: 1}}}
	more := IDs{append(alone.Users[:1:1], specs.LinuxIDMapping{ContainerID: 1, HostID: 100000, Size: 65536}), append(alone.Groups[:1:1], specs.LinuxIDMapping{ContainerID: 1, HostID: 200000, Size: 65536})}
	const (
		begin = `parent socketpair(AF_UNIX, SOCK_SEQPACKET|SOCK_CLOEXEC, 0, [$sync, $sync/write])
parent clone3({flags=CLONE_PIDFD|CLONE_NEWUSER|CLONE_CLEAR_SIGHAND, pidfd=&$pidfd, exit_signal=SIGCHLD, stack=NULL, stack_size=0}, 88)
`
		end = `parent write($sync/write, "\1", 1)
child close($sync/write)
child read($sync, buf, 1)
child setresgid(0, 0, 0)
child setresuid(0, 0, 0)
child write($report, "\0\0\0\0\0\0\0\0", 8)
child exit_group(0)
parent read($report/runtime)
parent $userns = open("/proc/$pid/ns/user", O_RDONLY|O_CLOEXEC)
`
		become = `stub setns($userns, CLONE_NEWUSER)  EPERM is fine
stub setresgid(0, 0, 0)  EPERM is fine
stub setresuid(0, 0, 0)  EPERM is fine
stub close($userns)
stub execve("/bin/minictr", ["minictr", "ps"], ["A=1"])
`
	)
	for _, test := range []struct {
		what string
		p    *plan.Plan
		want string
	}{
		{"with subordinate ids", Make(more, nil), begin + `parent run("/usr/bin/newuidmap", $pid, 0, 1000, 1, 1, 100000, 65536)
parent run("/usr/bin/newgidmap", $pid, 0, 100, 1, 1, 200000, 65536)
` + end},
		{"alone", Make(alone, nil), begin + `parent write("/proc/$pid/setgroups", "deny")
parent write("/proc/$pid/uid_map", "0 1000 1\n")
parent write("/proc/$pid/gid_map", "0 100 1\n")
` + end},
		{"the first", Become(0, "/bin/minictr", []string{"minictr", "ps"}, []string{"A=1"}), become},
		{"one more", Become(17, "/bin/minictr", []string{"minictr", "ps"}, []string{"A=1"}), `parent $userns = open("/proc/17/ns/user", O_RDONLY|O_CLOEXEC)
` + become},
	} {
		if got := print(t, test.p); got != test.want {
			t.Errorf("%s:\n%s\nwant:\n%s", test.what, got, test.want)
		}
	}
}
