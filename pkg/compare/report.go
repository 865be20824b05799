package compare

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Format writes the result for people: what the command said, a table, and
// what follows.
func (r *Result) Format(w io.Writer) error {
	var b strings.Builder
	for _, s := range r.Sides {
		if text := s.Output; text != "" || s.Missing != "" {
			fmt.Fprintf(&b, "%s: %s%s\n", s.Place, text, s.Missing)
		}
	}
	b.WriteByte('\n')
	r.table(&b)
	b.WriteString("\n" + fold(r.Sentence))
	if r.Emulated {
		b.WriteString("\n" + fold("The machine's processor was emulated, instruction by instruction, without KVM: its times are no fair speed."))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// table writes the rows that are not empty.
func (r *Result) table(b *strings.Builder) {
	lines := [][]string{{shorten(r.ImageID, len("sha256:")+12)}}
	for _, s := range r.Sides {
		name := string(s.Place)
		if s.Place == Machine && r.Emulated {
			name += " (emulated)"
		}
		lines[0] = append(lines[0], name)
	}
	for _, row := range rows {
		cells := []string{row.label}
		for _, s := range r.Sides {
			cells = append(cells, row.cell(s))
		}
		if strings.Join(cells[1:], "") != "" {
			lines = append(lines, cells)
		}
	}
	var columns strings.Builder
	out := tabwriter.NewWriter(&columns, 0, 0, 2, ' ', 0)
	for _, cells := range lines {
		fmt.Fprintln(out, strings.Join(cells, "\t"))
	}
	_ = out.Flush() // a Builder takes all
	for line := range strings.Lines(columns.String()) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
}

var rows = []struct {
	label string
	cell  func(*Side) string
}{
	{"kernel", func(s *Side) string { return s.Facts.Kernel }},
	{"boot_id", func(s *Side) string { return shorten(s.Facts.BootID, 8) }},
	{"its PID", func(s *Side) string { return strconv.Itoa(s.Facts.PID) }},
	{"host name", func(s *Side) string { return s.Facts.Hostname }},
	{"sees processes", func(s *Side) string { return strconv.Itoa(s.Facts.Processes) }},
	{"sees memory", func(s *Side) string { return bytes(s.Facts.Memory) }},
	{"sees processors", func(s *Side) string { return strconv.Itoa(s.Facts.Processors) }},
	{"boots before", func(s *Side) string { return s.Boots }},
	{"exit status", func(s *Side) string {
		if s.Status == 0 {
			return ""
		}
		return strconv.Itoa(s.Status)
	}},
	{"first instruction", func(s *Side) string { return duration(s.First) }},
	{"command done", func(s *Side) string { return duration(s.Done) }},
	{"memory on the host", func(s *Side) string { return bytes(s.PSS) }},
	{"files on the host", func(s *Side) string { return bytes(s.Files) }},
	{"several at once", ofMany(func(m *Many) string { return strconv.Itoa(m.Count) })},
	{"the last starts", ofMany(func(m *Many) string { return duration(m.First) })},
	{"memory for all", ofMany(func(m *Many) string { return bytes(m.PSS) })},
	{"beside a noisy one", func(s *Side) string {
		if s.Left == nil {
			return ""
		}
		return fmt.Sprintf("%.0f %%", 100**s.Left)
	}},
}

// ofMany is a cell that is empty where several were not measured.
func ofMany(cell func(*Many) string) func(*Side) string {
	return func(s *Side) string {
		if s.Many == nil {
			return ""
		}
		return cell(s.Many)
	}
}

func shorten(s string, n int) string { return s[:min(n, len(s))] }

func duration(ms float64) string {
	switch {
	case ms == 0:
		return ""
	case ms < 1000:
		return strconv.FormatFloat(ms, 'g', 3, 64) + " ms"
	default:
		return strconv.FormatFloat(ms/1000, 'g', 3, 64) + " s"
	}
}

func bytes(n int64) string {
	switch {
	case n == 0:
		return ""
	case n < 1<<20:
		return fmt.Sprintf("%d kB", n>>10)
	case n < 10<<30:
		return fmt.Sprintf("%d MB", n>>20)
	default:
		return fmt.Sprintf("%d GB", n>>30)
	}
}

// sentence says what follows from what was measured, and no more.
func (r *Result) sentence() string {
	bare, container, machine := r.Sides[0], r.Sides[1], r.Sides[2]
	if container.Facts.BootID != bare.Facts.BootID || machine.Facts.BootID == bare.Facts.BootID {
		return "The places do not differ as they should: compare the boot_ids."
	}
	text := fmt.Sprintf("The container ran on this host's kernel, behind a wall; the virtual machine booted a kernel of its own, which took "+
		"%s times as long to the first instruction, and %s times the memory.",
		times(machine.First/container.First), times(float64(machine.PSS)/float64(container.PSS)))
	if len(r.Sides) > 3 && r.Sides[3].Facts.BootID != bare.Facts.BootID {
		text += " In a container on that kernel the same image ran as well: a container needs a kernel, not this one."
	}
	if bare.Left != nil {
		text += fmt.Sprintf(" A process that shared its processor with %d busy threads still did %.0f %% of its work when they were bare, "+
			"%.0f %% when a container held them to %s processors, and %.0f %% when they were in a machine of one.",
			hogs, 100**bare.Left, 100**container.Left, neighbourCPUs, 100**machine.Left)
	}
	return text
}

func times(f float64) string {
	if f < 10 {
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return strconv.FormatFloat(f, 'f', 0, 64)
}

// fold breaks a text into lines.
func fold(text string) string {
	var b strings.Builder
	column := 0
	for word := range strings.FieldsSeq(text) {
		if column+len(word) > 79 {
			b.WriteByte('\n')
			column = 0
		} else if column > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(word)
		column += len(word) + 1
	}
	return b.String() + "\n"
}
