package plan

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/minictr/minictr/pkg/lang"
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

// Format writes the plan as text: calls as they are, sentences in a language.
func (p *Plan) Format(w io.Writer, d Detail, l lang.Language) error {
	out := bufio.NewWriter(w)
	if d == Bricks {
		p.bricks(out, l)
		return out.Flush()
	}
	number := 0
	for _, s := range p.Sections {
		s.Head(out, l)
		for _, step := range s.Steps {
			number++
			step.Format(out, number, d, l)
		}
	}
	return out.Flush()
}

// Head writes what the brick is for.
func (s *Section) Head(w io.Writer, l lang.Language) {
	fmt.Fprintf(w, "%s: %s (%s)\n", s.Brick, l.Line(s.Title), s.Where)
}

// Format writes the step as that of its plan with this number.
func (s *Step) Format(w io.Writer, number int, d Detail, l lang.Language) {
	fmt.Fprintf(w, "%4d  %s\n", number, s)
	if d == Reasons {
		reason(w, l, s.Why, "  ["+s.Spec+"]")
	}
}

// reason writes why a step is made and, behind that, what asks for it.
func reason(w io.Writer, l lang.Language, why, spec string) {
	for _, line := range l.Say(why) {
		fmt.Fprintf(w, "      # %s%s\n", line, strings.TrimSuffix(spec, "  []"))
		spec = ""
	}
}

func (p *Plan) bricks(w io.Writer, l lang.Language) {
	calls := 0
	for _, s := range p.Sections {
		if s.Where != Parent {
			calls += len(s.Steps)
		}
	}
	for _, line := range l.Say(fmt.Sprintf("A container is a process behind a wall, and the wall is %d system calls:", calls)) {
		fmt.Fprintln(w, line)
	}
	fmt.Fprintln(w)
	for i, s := range p.Sections {
		unit := "call"
		if s.Where == Parent {
			unit = "act"
		}
		if len(s.Steps) != 1 {
			unit += "s"
		}
		title := l.Say(s.Title)
		fmt.Fprintf(w, "%3d  %-6s %-8s %s %3d %s\n", i+1, s.Where, s.Brick, lang.Pad(title[0], 48), len(s.Steps), unit)
		for _, line := range title[1:] {
			fmt.Fprintf(w, "%20s%s\n", "", line)
		}
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
