package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
)

// A traced call is one line of strace's.
type traced struct {
	text   string // "close(3)"
	result string // "0", or "" if it did not return
	errno  string // "ENOENT", "" for success
}

// traceLine takes a line of strace apart. What follows the number of a result
// is for people: "= 0x1000 (flags ...)".
var traceLine = regexp.MustCompile(`^(\w+\(.*\))\s+= (-?\w+|\?)(?: (E[A-Z0-9]+))?.*$`)

// readTrace returns what each thread of a traced command did, by its number:
// the files that strace -ff -o PREFIX writes.
func readTrace(t *testing.T, prefix string) map[int][]traced {
	t.Helper()
	files, err := filepath.Glob(prefix + ".*")
	if err != nil || len(files) == 0 {
		t.Fatalf("strace wrote nothing: %v", err)
	}
	trace := make(map[int][]traced)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tid, err := strconv.Atoi(filepath.Ext(file)[1:])
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if m := traceLine.FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil {
				trace[tid] = append(trace[tid], traced{m[1], m[2], m[3]})
			}
		}
	}
	return trace
}

// born finds the clone3 that made the container's process, and its number.
func born(t *testing.T, trace map[int][]traced) (clone traced, pid int) {
	t.Helper()
	for _, calls := range trace {
		for _, c := range calls {
			if strings.HasPrefix(c.text, "clone3(") && strings.Contains(c.text, "CLONE_CLEAR_SIGHAND") {
				clone = c
				pid, _ = strconv.Atoi(c.result)
			}
		}
	}
	if pid == 0 {
		t.Fatal("the trace has no clone3 of a container")
	}
	return clone, pid
}

// A replay carries a plan out on paper: the traced results decide what it
// predicts next.
type replay struct {
	steps []numbered
	next  int               // index of the step that is due
	regs  map[string]string // known values; inputs are learned when first used
	found string            // the path by which the program was found
	done  map[int]bool      // numbers of the steps that were carried out
}

// A numbered step is one of those that the container's process walks.
type numbered struct {
	number int
	where  string
	step
}

// step and what is around it are the plan as minictr plan --format json
// prints it.
type step struct {
	Number int      `json:"number"`
	Call   string   `json:"call"`
	Args   []string `json:"args"`
	Action string   `json:"action"`
	Result string   `json:"result"`
	Then   int      `json:"then"`
	Allow  []struct {
		Errno string `json:"errno"`
		Then  int    `json:"then"`
	} `json:"allow"`
}

type printed struct {
	Sections []struct {
		Brick string `json:"brick"`
		Where string `json:"where"`
		Steps []step `json:"steps"`
	} `json:"sections"`
}

func newReplay(p printed) *replay {
	r := &replay{regs: make(map[string]string), done: make(map[int]bool)}
	for _, s := range p.Sections {
		for _, st := range s.Steps {
			if s.Where != plan.Parent.String() {
				r.steps = append(r.steps, numbered{st.Number, s.Where, st})
			}
		}
	}
	return r
}

// over says whether nothing is due any more.
func (r *replay) over() bool { return r.next == len(r.steps) }

// call compares one traced call with the step that is due, and goes on as the
// result says.
func (r *replay) call(c traced) error {
	if r.over() {
		return fmt.Errorf("the plan is over, and this follows: %s", c.text)
	}
	s := r.steps[r.next]
	got := spell(tracedSpelling[:], c.text)
	want, err := r.predict(s, got)
	if err != nil {
		return fmt.Errorf("step %d: %w", s.number, err)
	}
	if got != want {
		return fmt.Errorf("step %d\npredicted: %s\n   traced: %s", s.number, want, got)
	}
	r.done[s.number] = true
	return r.goOn(s, c)
}

// predict writes a step as strace would, with the values of the registers. A
// register that no step has set yet is an input: its value is what is traced.
func (r *replay) predict(s numbered, got string) (string, error) {
	words := make([]string, len(s.Args))
	for i, a := range s.Args {
		name, isReg := strings.CutPrefix(a, "$")
		if _, known := r.regs[name]; isReg && !known {
			if err := r.learn(name, argument(got, i)); err != nil {
				return "", err
			}
		}
		words[i] = r.fill(a)
	}
	if s.Call == "execve" && s.where == plan.Stub.String() {
		words[0] = r.found
	}
	return spell(planSpelling[:], s.Call+"("+strings.Join(words, ", ")+")"), nil
}

// fill puts the values of registers in their places: an argument is one, or
// holds some between braces.
func (r *replay) fill(arg string) string {
	if name, ok := strings.CutPrefix(arg, "$"); ok {
		return r.regs[name]
	}
	if !strings.HasPrefix(arg, "{") {
		return arg
	}
	for name, value := range r.regs {
		arg = strings.ReplaceAll(arg, "[$"+name+"]", "["+value+"]")
	}
	return arg
}

// learn takes the value of an input. Two inputs are two descriptors.
func (r *replay) learn(name, value string) error {
	for other, v := range r.regs {
		if v == value && strings.HasPrefix(other, "input ") {
			return fmt.Errorf("$%s and $%s are both %s", name, strings.TrimPrefix(other, "input "), value)
		}
	}
	if _, err := strconv.Atoi(value); err != nil {
		return fmt.Errorf("$%s is no descriptor: %s", name, value)
	}
	r.regs[name], r.regs["input "+name] = value, value
	return nil
}

// argument is the nth argument of a call whose earlier ones are plain.
func argument(call string, n int) string {
	_, args, _ := strings.Cut(call, "(")
	for ; n > 0; n-- {
		_, args, _ = strings.Cut(args, ", ")
	}
	end := strings.IndexAny(args, ",)")
	return args[:max(end, 0)]
}

// goOn finds the step that is due after this one.
func (r *replay) goOn(s numbered, c traced) error {
	if c.errno == "" {
		if s.Result != "" {
			r.regs[s.Result] = c.result
		}
		switch s.Call {
		case "execveat": // nothing of the child's list is left, but the stub
			r.found = s.Args[2][1:strings.Index(s.Args[2], ", ")]
			for s.where == plan.Child.String() {
				r.next++
				s = r.steps[r.next]
			}
			return nil
		case "execve":
			r.next = len(r.steps)
			return nil
		}
		return r.jump(s.Then)
	}
	for _, a := range s.Allow {
		if a.Errno == c.errno {
			return r.jump(a.Then)
		}
	}
	return fmt.Errorf("step %d: %s is not allowed: %s", s.number, c.errno, c.text)
}

// jump goes to a step by number, or to the next one.
func (r *replay) jump(number int) error {
	r.next++
	for number != 0 && r.next < len(r.steps) && r.steps[r.next].number < number {
		r.next++
	}
	if number != 0 && (r.over() || r.steps[r.next].number != number) {
		return fmt.Errorf("no step %d to jump to", number)
	}
	return nil
}

// walked replays what the container's process did, up to its program, and
// returns the numbers of the steps that it came by.
func walked(t *testing.T, p printed, trace map[int][]traced) map[int]bool {
	t.Helper()
	_, pid := born(t, trace)
	r := newReplay(p)
	for _, c := range trace[pid] {
		if err := r.call(c); err != nil {
			t.Fatalf("%v\n(after %d of %d steps; differences of spelling belong to the tables in spelling_test.go)", err, len(r.done), len(r.steps))
		}
		if r.over() {
			return r.done
		}
	}
	t.Fatalf("the trace ends before step %d: %s", r.steps[r.next].number, r.steps[r.next].Call)
	return nil
}

// skipped lists the steps of the child and the stub that a run passes by.
func skipped(p printed, done map[int]bool) map[int]bool {
	list := make(map[int]bool)
	for _, s := range newReplay(p).steps {
		if !done[s.number] {
			list[s.number] = true
		}
	}
	return list
}

// errnoOf is the errno with that name.
func errnoOf(name string) unix.Errno {
	for e := unix.Errno(1); e < 200; e++ {
		if unix.ErrnoName(e) == name {
			return e
		}
	}
	return 0
}
