package format

import (
	"fmt"
	"io"
	"strings"

	"github.com/minictr/minictr/pkg/lang"
)

// A Field is one that the rows of a list have.
type Field struct {
	Name    string // in templates and JSON
	Heading string // in tables
	Long    bool   // it is shortened where a terminal has too few columns
}

// A Row has the values of fields by their names.
type Row = map[string]any

// A List prints rows as a --format says: json, an object a line; table; table
// and a template, whose titles are the fields'; or a template for each row.
type List struct {
	Format  string
	Fields  []Field
	Table   []string // the names of those in a table without a template
	Columns int      // of the terminal; 0 shortens nothing
}

// Print prints a list.
func (l *List) Print(w io.Writer, rows []Row) error {
	template, isTable := strings.CutPrefix(l.Format, "table")
	template = strings.TrimSpace(template)
	switch {
	case l.Format != "" && !isTable:
		return Print(w, l.Format, rows)
	case template == "":
		return l.plain(w, rows)
	}
	t, err := actions(template)
	if err != nil {
		return err
	}
	return l.table(w, rows, t)
}

// Print prints values, a line for each, as a --format says: json, or a template.
func Print[T any](w io.Writer, format string, values []T) error {
	if format == "json" {
		format = "{{json .}}"
	}
	t, err := actions(format)
	if err != nil {
		return err
	}
	for _, v := range values {
		line, err := t.Execute(v)
		if err == nil {
			_, err = fmt.Fprintln(w, line)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// actions parses a template that has some: a word alone is a mistake.
func actions(text string) (*Template, error) {
	if !strings.Contains(text, "{{") {
		return nil, fmt.Errorf("--format: %q is neither json nor a template like {{.ID}}", text)
	}
	return Parse(text)
}

// plain prints a table without a template.
func (l *List) plain(w io.Writer, rows []Row) error {
	lines := make([][]string, len(rows)+1)
	long := make([]bool, len(l.Table))
	for i, name := range l.Table {
		for _, f := range l.Fields {
			if f.Name == name {
				lines[0], long[i] = append(lines[0], f.Heading), f.Long
			}
		}
		for n, row := range rows {
			value, err := field(row, name, nil)
			if err != nil {
				return err
			}
			lines[n+1] = append(lines[n+1], text(value))
		}
	}
	if l.Columns > 0 {
		shorten(lines, long, l.Columns)
	}
	return Align(w, lines)
}

// A columnTitle stands for a field's value in the first line of a table.
type columnTitle string

func (l *List) table(w io.Writer, rows []Row, t *Template) error {
	titles := make(Row)
	for _, f := range l.Fields {
		title := columnTitle(f.Heading)
		titles[f.Name] = Method(func(string) any { return title })
	}
	var text strings.Builder
	head := &Template{root: t.root, titles: true}
	for i, row := range append([]Row{titles}, rows...) {
		executed := t
		if i == 0 {
			executed = head
		}
		line, err := executed.Execute(row)
		if err != nil {
			return err
		}
		text.WriteString(line + "\n")
	}
	var lines [][]string
	for line := range strings.Lines(text.String()) {
		lines = append(lines, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	return Align(w, lines)
}

// Columns are at least so wide, with the blanks that follow, as Docker's are.
const (
	blanks = 3
	narrow = 10
)

// Align prints lines of cells in columns, where wide characters count twice.
func Align(w io.Writer, lines [][]string) error {
	widths := measure(lines)
	var out strings.Builder
	for _, line := range lines {
		for i, cell := range line {
			if i < len(line)-1 {
				cell = lang.Pad(cell, max(widths[i]+blanks, narrow))
			}
			out.WriteString(cell)
		}
		out.WriteByte('\n')
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// measure returns the widths of columns.
func measure(lines [][]string) (widths []int) {
	for _, line := range lines {
		for i, cell := range line {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], lang.Width(cell))
		}
	}
	return widths
}

// least is how many columns of a long text stay.
const least = narrow - blanks

// shorten shortens long cells until a line has no more than so many columns, or
// until they are too short to be read: the widest first.
func shorten(lines [][]string, long []bool, columns int) {
	widths := measure(lines)
	total := widths[len(widths)-1]
	for _, width := range widths[:len(widths)-1] {
		total += max(width+blanks, narrow)
	}
	for ; total > columns; total-- {
		widest := -1
		for i, width := range widths {
			if long[i] && width > least && (widest < 0 || width > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
	}
	for _, line := range lines {
		for i := range line {
			line[i] = Cut(line[i], widths[i])
		}
	}
}

// Cut shortens a text to a number of columns, with … at its end.
func Cut(s string, columns int) string {
	if lang.Width(s) <= columns {
		return s
	}
	used := 1
	for i, r := range s {
		if used += lang.Width(string(r)); used > columns {
			return s[:i] + "…"
		}
	}
	return s
}
