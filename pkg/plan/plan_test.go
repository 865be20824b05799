package plan_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/lang"
	"github.com/minictr/minictr/pkg/plan"
)

// small is a plan with every kind of step, argument and jump.
func small() *plan.Plan {
	b := plan.New()
	b.Section(plan.Parent, "cgroup", "make the cgroup")
	b.At("/linux/cgroupsPath")
	b.Act("limits need a place", `mkdir("/x", 0755)`, func(*plan.Run) error { return errors.New("not in a test") })
	b.Section(plan.Child, "root", "another root")
	b.At("/root/path")
	found := b.Label()
	b.Do("find it", plan.Openat2(plan.Reg("root"), "proc", unix.O_PATH, unix.RESOLVE_IN_ROOT)).
		Out("at").Then(found).Allow(plan.Next, unix.ENOENT, unix.ENOTDIR)
	b.Do("make it", plan.Mkdirat("root", "proc", 0o755))
	b.Place(found)
	b.Do("stand in it", plan.Fchdir("at"))
	return b.Plan()
}

func format(t *testing.T, p *plan.Plan, d plan.Detail) string {
	t.Helper()
	var b bytes.Buffer
	if err := p.Format(&b, d, lang.English); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestFormat(t *testing.T) {
	const calls = `cgroup: make the cgroup (parent)
   1  mkdir("/x", 0755)
root: another root (child)
   2  $at = openat2($root, "proc", {flags=O_RDONLY|O_CLOEXEC|O_PATH, resolve=RESOLVE_IN_ROOT}, 24)  then 4  ENOENT is fine  ENOTDIR is fine
   3  mkdirat($root, "proc", 0755)
   4  fchdir($at)
`
	if got := format(t, small(), plan.Calls); got != calls {
		t.Errorf("got:\n%s\nwant:\n%s", got, calls)
	}
	if got := format(t, small(), plan.Reasons); !strings.Contains(got, "   3  mkdirat($root, \"proc\", 0755)\n      # make it  [/root/path]\n") {
		t.Errorf("no reasons:\n%s", got)
	}
	if got := format(t, small(), plan.Bricks); !strings.Contains(got, "the wall is 3 system calls") || !strings.Contains(got, "  1 act\n") || !strings.Contains(got, "  3 calls\n") {
		t.Errorf("bricks:\n%s", got)
	}
}

func TestJSON(t *testing.T) {
	data, err := json.Marshal(small())
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Sections []struct {
			Brick, Where string
			Steps        []struct {
				Number             int
				Call, Action, Spec string
				Args               []string
				Result             string
				Then               int
				Allow              []struct{ Errno string }
			}
		}
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Sections) != 2 || got.Sections[0].Steps[0].Action != `mkdir("/x", 0755)` {
		t.Fatalf("%s", data)
	}
	find := got.Sections[1].Steps[0]
	if find.Number != 2 || find.Call != "openat2" || find.Args[0] != "$root" || find.Result != "at" || find.Then != 4 ||
		len(find.Allow) != 2 || find.Allow[0].Errno != "ENOENT" || find.Spec != "/root/path" {
		t.Errorf("%+v", find)
	}
}

func TestDiff(t *testing.T) {
	var same, other bytes.Buffer
	if err := plan.Diff(&same, small(), small(), lang.English); err != nil || same.String() != "no difference\n" {
		t.Errorf("%q, %v", same.String(), err)
	}
	changed := small()
	changed.Sections[1].Steps[1].Call = plan.Mkdirat("root", "sys", 0o700)
	if err := plan.Diff(&other, small(), changed, lang.English); err != nil {
		t.Fatal(err)
	}
	const want = `root: another root (child)
- mkdirat($root, "proc", 0755)
      # make it
+ mkdirat($root, "sys", 0700)
      # make it
`
	if other.String() != want {
		t.Errorf("got:\n%s", other.String())
	}
}

func TestStep(t *testing.T) {
	p := small()
	if p.Len() != 4 || p.Step(0) != nil || p.Step(5) != nil || p.Step(4).Call.Name != "fchdir" || p.Step(1).Act == nil {
		t.Errorf("%d steps", p.Len())
	}
}

// Calls are printed as strace(1) prints them.
func TestCalls(t *testing.T) {
	for _, c := range []struct {
		want string
		call plan.Call
	}{
		{`umask(000)`, plan.Umask(0)},
		{`umask(022)`, plan.Umask(0o22)},
		{`write($fd, "a\"\\\1\n", 5)`, plan.Write("fd", "a\"\\\x01\n")},
		{`write($fd, "\0011", 2)`, plan.Write("fd", "\x011")},
		{`mount(NULL, "/", NULL, MS_REC|MS_SLAVE, NULL)`, plan.Propagation("/", unix.MS_REC|unix.MS_SLAVE)},
		{`mknodat($d, "null", S_IFCHR|0666, makedev(0x1, 0x3))`, plan.Mknodat("d", "null", unix.S_IFCHR|0o666, 1, 3)},
		{`mknodat($d, "x", S_IFREG|0644)`, plan.Mknodat("d", "x", unix.S_IFREG|0o644, 0, 0)},
		{`setgroups(0, NULL)`, plan.Setgroups(nil)},
		{`setgroups(2, [5, 27])`, plan.Setgroups([]uint32{5, 27})},
		{`setresuid(1000, -1, -1)`, plan.Setresuid(1000, -1, -1)},
		{`prlimit64(0, RLIMIT_NOFILE, {rlim_cur=1024, rlim_max=RLIM64_INFINITY}, NULL)`, plan.Prlimit(unix.RLIMIT_NOFILE, 1024, unix.RLIM_INFINITY)},
		{`prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN)`, plan.DropBounding(unix.CAP_SYS_ADMIN)},
		{`prctl(PR_CAPBSET_DROP, 0x2a /* CAP_??? */)`, plan.DropBounding(42)},
		{`execve("/bin/sh", ["sh", "-c", "true"], ["A=b"])`, plan.Execve("/bin/sh", []string{"sh", "-c", "true"}, []string{"A=b"})},
		{`fsconfig($fs, FSCONFIG_SET_STRING, "mode", "755", 0)`, plan.FsconfigString("fs", "mode", "755")},
		{`open_tree(AT_FDCWD, "/x", OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_RECURSIVE)`, plan.OpenTree(plan.AtFdcwd, "/x", unix.AT_RECURSIVE)},
		{`seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_LOG, {len=2, filter=...})`, plan.LoadFilter(make([]byte, 16), unix.SECCOMP_FILTER_FLAG_LOG)},
	} {
		if got := c.call.String(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

// FuzzQuote wants of a quoted string that a C compiler would read it back.
func FuzzQuote(f *testing.F) {
	f.Add("plain")
	f.Add("\x00\x019\"\\\t\x7f\xff")
	f.Fuzz(func(t *testing.T, s string) {
		if got := unquote(plan.Str(s).String()); got != s {
			t.Errorf("%q became %q", s, got)
		}
	})
}

func unquote(q string) string {
	var b []byte
	q = q[1 : len(q)-1]
	for i := 0; i < len(q); i++ {
		if q[i] != '\\' {
			b = append(b, q[i])
			continue
		}
		i++
		if at := strings.IndexByte(`tnvfr`, q[i]); at >= 0 {
			b = append(b, "\t\n\v\f\r"[at])
			continue
		}
		if q[i] < '0' || q[i] > '7' {
			b = append(b, q[i])
			continue
		}
		n := 0
		end := min(i+3, len(q))
		for ; i < end && q[i] >= '0' && q[i] <= '7'; i++ {
			n = n*8 + int(q[i]-'0')
		}
		i--
		b = append(b, byte(n))
	}
	return string(b)
}
