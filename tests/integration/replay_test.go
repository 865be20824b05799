package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/minictr/minictr/pkg/plan"
)

// A traced call is one line of strace's.
type traced struct {
	text   string // "close(3)"
	result string // "0"; "?" if it did not return
	errno  string // "ENOENT", "" for success
}

// A trace is what each thread of a command did, by its number.
type trace map[int][]traced

// traceLine takes a line of strace apart. What follows the number of a result
// is for people: "= 0x1000 (flags ...)".
var traceLine = regexp.MustCompile(`^(\w+\(.*\))\s+= (-?\w+|\?)(?: (E[A-Z0-9]+))?.*$`)

// readTrace reads the files that strace -ff -o PREFIX writes.
func readTrace(t *testing.T, prefix string) trace {
	t.Helper()
	files, err := filepath.Glob(prefix + ".*")
	if err != nil || len(files) == 0 {
		t.Fatalf("strace wrote nothing: %v", err)
	}
	tr := make(trace)
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
				tr[tid] = append(tr[tid], traced{m[1], m[2], m[3]})
			}
		}
	}
	return tr
}

// born finds the thread that made the container's process, and that process.
func (tr trace) born(t *testing.T) (parent, pid int) {
	t.Helper()
	for tid, calls := range tr {
		for _, c := range calls {
			if strings.HasPrefix(c.text, "clone3(") && strings.Contains(c.text, "CLONE_CLEAR_SIGHAND") {
				parent = tid
				pid, _ = strconv.Atoi(c.result)
			}
		}
	}
	if pid == 0 {
		t.Fatal("the trace has no clone3 of a container")
	}
	return parent, pid
}

// A step is one of a plan, as minictr plan --format json prints it.
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
	// of its section:
	where, brick string
}

// printed is a plan as minictr plan --format json prints it.
type printed struct {
	Sections []struct {
		Brick string `json:"brick"`
		Where string `json:"where"`
		Steps []step `json:"steps"`
	} `json:"sections"`
}

// of lists the steps of some processes.
func (p printed) of(where ...plan.Where) (list []step) {
	for _, s := range p.Sections {
		for _, w := range where {
			if s.Where != w.String() {
				continue
			}
			for _, st := range s.Steps {
				st.where, st.brick = s.Where, s.Brick
				list = append(list, st)
			}
		}
	}
	return list
}

// A replay carries a plan out on paper: the traced results decide what it
// predicts next.
type replay struct {
	steps  []step
	next   int               // index of the step that is due
	regs   map[string]string // registers that are known
	inputs map[string]string // those that no step sets, by their values
	found  string            // the path by which the program was found
	done   map[int]bool      // numbers of the steps that were carried out
}

// walked replays what the container's process did, up to its program, and
// returns the numbers of the steps that it came by.
func walked(t *testing.T, p printed, tr trace) map[int]bool {
	t.Helper()
	parent, pid := tr.born(t)
	r := &replay{
		steps: p.of(plan.Child, plan.Stub),
		regs:  make(map[string]string), inputs: make(map[string]string), done: make(map[int]bool),
	}
	if err := r.acted(p.of(plan.Parent), tr, parent); err != nil {
		t.Fatal(err)
	}
	for calls := tr[pid]; len(calls) > 0; {
		c := calls[0]
		calls = calls[1:]
		due := r.steps[r.next]
		if err := r.call(c); err != nil {
			t.Fatalf("%v\n(after %d of %d steps; differences of spelling belong to the tables in spelling_test.go)", err, len(r.done), len(r.steps))
		}
		if due.Result == string(plan.Forked) { // process 1 stays, and a child goes on
			if err := r.stay(due.Then, c.result, calls); err != nil {
				t.Fatal(err)
			}
			calls = r.forked(tr)
		}
		if due.Call == "clone3" { // the rest is done by the second child, who sees 0
			second, _ := strconv.Atoi(c.result)
			calls, r.regs[due.Result] = tr[second], "0"
		}
		if r.next == len(r.steps) {
			return r.done
		}
	}
	t.Fatalf("the trace ends before step %d: %s", r.steps[r.next].Number, r.steps[r.next].Call)
	return nil
}

// call compares one traced call with the step that is due, and goes on as the
// result says.
func (r *replay) call(c traced) error {
	s := r.steps[r.next]
	got := spell(tracedSpelling[:], c.text)
	want, err := r.predict(s, got)
	if err != nil {
		return fmt.Errorf("step %d: %w", s.Number, err)
	}
	if got != want {
		return fmt.Errorf("step %d\npredicted: %s\n   traced: %s", s.Number, want, got)
	}
	r.done[s.Number] = true
	return r.goOn(s, c)
}

// predict writes a step as strace would, with the values of the registers. A
// register that no step has set yet is an input: its value is what is traced.
func (r *replay) predict(s step, got string) (string, error) {
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
	if s.Call == "recvmsg" {
		words[1] = strings.Replace(words[1], "[fd]", "["+received(got)+"]", 1)
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
		arg = strings.ReplaceAll(arg, "=$"+name+"}", "="+value+"}")
	}
	return arg
}

// received is the descriptor that a call has taken from a socket.
func received(call string) string {
	_, fd, _ := strings.Cut(call, "cmsg_data=[")
	fd, _, _ = strings.Cut(fd, "]")
	return fd
}

// learn takes the value of an input. Two inputs are two descriptors.
func (r *replay) learn(name, value string) error {
	if other, taken := r.inputs[value]; taken {
		return fmt.Errorf("$%s and $%s are both %s", name, other, value)
	}
	if _, err := strconv.Atoi(value); err != nil {
		return fmt.Errorf("$%s is no descriptor: %s", name, value)
	}
	r.regs[name], r.inputs[value] = value, name
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
func (r *replay) goOn(s step, c traced) error {
	if c.errno == "" {
		if s.Result != "" {
			r.regs[s.Result] = c.result
		}
		if s.Call == "recvmsg" {
			r.regs[s.Result] = received(c.text)
		}
		switch s.Call {
		case "execveat": // of the child's list nothing is left; the stub's follows
			r.found = s.Args[2][1:strings.Index(s.Args[2], ", ")]
			for r.steps[r.next].where == plan.Child.String() {
				r.next++
			}
			return nil
		case "execve": // what stands after it is another process's
			r.next = len(r.steps)
			return nil
		}
		if s.Result == string(plan.Forked) {
			return r.jump(0)
		}
		return r.jump(s.Then)
	}
	for _, a := range s.Allow {
		if a.Errno == c.errno {
			return r.jump(a.Then)
		}
	}
	return fmt.Errorf("step %d does not allow %s: %s", s.Number, c.errno, c.text)
}

// jump goes to a step by number; 0 is the next one.
func (r *replay) jump(number int) error {
	for r.next++; r.next < len(r.steps); r.next++ {
		if number == 0 || r.steps[r.next].Number == number {
			return nil
		}
	}
	return fmt.Errorf("there is no step %d to go on with", number)
}

// skipped are the steps of the child and the stub that a run passes by.
func skipped(p printed, done map[int]bool) map[int]bool {
	list := make(map[int]bool)
	for _, s := range p.of(plan.Child, plan.Stub) {
		if !done[s.Number] {
			list[s.Number] = true
		}
	}
	return list
}
