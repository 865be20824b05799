package plan

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Detail says how much of a plan Format prints.
type Detail int

const (
	// Bricks is one line a section: the wall at a glance.
	Bricks Detail = iota
	// Calls is one line a step, as strace(1) would print it.
	Calls
	// Reasons adds to each step why it is there and what asked for it.
	Reasons
)

// Format writes the plan as text.
func (p *Plan) Format(w io.Writer, d Detail) error {
	out := bufio.NewWriter(w)
	if d == Bricks {
		p.bricks(out)
		return out.Flush()
	}
	number := 0
	for _, s := range p.Sections {
		fmt.Fprintf(out, "%s: %s (%s)\n", s.Brick, s.Title, s.Where)
		for _, step := range s.Steps {
			number++
			fmt.Fprintf(out, "%4d  %s\n", number, step)
			if d == Reasons {
				fmt.Fprintf(out, "      # %s\n", step.reason())
			}
		}
	}
	return out.Flush()
}

func (p *Plan) bricks(w io.Writer) {
	calls := 0
	for _, s := range p.Sections {
		if s.Where != Parent {
			calls += len(s.Steps)
		}
	}
	fmt.Fprintf(w, "A container is a process behind a wall, and the wall is %d system calls:\n\n", calls)
	for i, s := range p.Sections {
		unit := "call"
		if s.Where == Parent {
			unit = "act"
		}
		if len(s.Steps) != 1 {
			unit += "s"
		}
		fmt.Fprintf(w, "%3d  %-6s %-8s %-48s %3d %s\n", i+1, s.Where, s.Brick, s.Title, len(s.Steps), unit)
	}
}

// String is the step on one line: where its result goes, the call, and which
// errnos are passed over.
func (s *Step) String() string {
	var b strings.Builder
	if s.Out != "" {
		b.WriteString(s.Out.String() + " = ")
	}
	b.WriteString(s.Call.String())
	if s.Then != 0 {
		fmt.Fprintf(&b, "  then %d", s.Then)
	}
	for _, a := range s.Allow {
		b.WriteString("  " + ErrnoName(a.Errno) + " is fine")
		if a.Then != 0 {
			fmt.Fprintf(&b, ", go to %d", a.Then)
		}
	}
	return b.String()
}

func (s *Step) reason() string {
	if s.Spec == "" {
		return s.Why
	}
	return s.Why + "  [" + s.Spec + "]"
}

// MarshalJSON writes the plan for programs: an object with the list
// "sections"; calls and arguments are spelled as in Format.
func (p *Plan) MarshalJSON() ([]byte, error) {
	type allow struct {
		Errno string `json:"errno"`
		Then  int    `json:"then,omitempty"`
	}
	type step struct {
		Number int      `json:"number"`
		Call   string   `json:"call,omitempty"`
		Args   []string `json:"args,omitempty"`
		Action string   `json:"action,omitempty"`
		Result string   `json:"result,omitempty"`
		Then   int      `json:"then,omitempty"`
		Allow  []allow  `json:"allow,omitempty"`
		Why    string   `json:"why"`
		Spec   string   `json:"spec,omitempty"`
	}
	type section struct {
		Brick string `json:"brick"`
		Title string `json:"title"`
		Where string `json:"where"`
		Steps []step `json:"steps"`
	}
	sections := make([]section, 0, len(p.Sections))
	number := 0
	for _, s := range p.Sections {
		sec := section{Brick: s.Brick, Title: s.Title, Where: s.Where.String(), Steps: []step{}}
		for _, st := range s.Steps {
			number++
			row := step{Number: number, Call: st.Call.Name, Action: st.Call.Text, Result: string(st.Out), Then: st.Then, Why: st.Why, Spec: st.Spec}
			for _, a := range st.Call.Args {
				row.Args = append(row.Args, a.String())
			}
			for _, a := range st.Allow {
				row.Allow = append(row.Allow, allow{ErrnoName(a.Errno), a.Then})
			}
			sec.Steps = append(sec.Steps, row)
		}
		sections = append(sections, sec)
	}
	return json.Marshal(struct {
		Sections []section `json:"sections"`
	}{sections})
}
