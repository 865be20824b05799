package wall

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/minictr/minictr/pkg/lang"
)

// Columns of the page: a projector's.
const (
	columns     = 80
	nameColumns = 8
	wordColumns = 8 // of a state in English: in Korean both words stand there
	bothColumns = 13
)

// Format writes the wall as one page: a line a brick, in the order in which they
// are laid. Verbose adds to each the call, the plan's steps and what it means.
func (w *Wall) Format(out io.Writer, verbose bool, l lang.Language) error {
	p := page{Writer: bufio.NewWriter(out), language: l}
	p.say(fmt.Sprintf("Process %d of the host is process %d inside: %s", w.PID, w.Inside[len(w.Inside)-1], w.Command))
	fmt.Fprintln(p)
	p.row("", "", "inside", "outside")
	p.rule('-')
	for _, b := range w.Bricks {
		p.row(b.Name, b.State, b.Inside, b.Host)
		if verbose {
			if len(b.Steps) == 0 {
				p.note(b.Call, "")
			} else {
				p.note(fmt.Sprintf("%s: steps %s of its plan", b.Call, ranges(b.Steps)), "")
			}
			p.note(b.Means, "# ")
		}
	}
	if len(w.Gaps) > 0 {
		fmt.Fprintln(p)
		p.say("What no wall covers")
		p.rule('-')
	}
	for _, g := range w.Gaps {
		p.row(g.Name, g.State, g.Inside, g.Host)
		if verbose {
			p.note(g.Means, "# ")
		}
	}
	p.rule('=')
	p.say(fmt.Sprintf("one kernel below all: Linux %s", w.Kernel))
	fmt.Fprintln(p, "boot_id "+w.Boot)
	return p.Flush()
}

// A page is what is being written.
type page struct {
	*bufio.Writer
	language lang.Language
}

func (p page) say(english string) {
	for _, line := range p.language.Say(english) {
		for _, piece := range lang.Fold(line, columns) {
			fmt.Fprintln(p, piece)
		}
	}
}

func (p page) rule(of rune) { fmt.Fprintln(p, strings.Repeat(string(of), columns)) }

// note writes lines below a row, each behind a mark.
func (p page) note(text, mark string) {
	for _, sentence := range p.language.Say(text) {
		for _, line := range lang.Fold(sentence, columns-nameColumns-1-len(mark)) {
			fmt.Fprintf(p, "%*s%s%s\n", nameColumns+1, "", mark, line)
		}
	}
}

// row writes a brick, or a gap, once in each language that is asked for.
func (p page) row(name string, state State, cells ...string) {
	if p.language == lang.Both {
		p.rowIn(lang.English, name, state, cells)
		name = ""
		p.rowIn(lang.Korean, name, state, cells)
		return
	}
	p.rowIn(p.language, name, state, cells)
}

func (p page) rowIn(l lang.Language, name string, state State, cells []string) {
	word := wordColumns
	if p.language != lang.English {
		word = bothColumns
	}
	width := (columns - nameColumns - word - 3) / len(cells)
	var folded [][]string
	lines := 1
	for _, c := range cells {
		f := lang.Fold(clip(l.Line(c), width), width)
		folded, lines = append(folded, f), max(lines, len(f))
	}
	head := lang.Pad(name, nameColumns) + " " + lang.Pad(l.Line(string(state)), word)
	for i := range lines {
		line := head
		for _, f := range folded {
			text := ""
			if i < len(f) {
				text = f[i]
			}
			line += " " + lang.Pad(text, width)
		}
		fmt.Fprintln(p, strings.TrimRight(line, " "))
		head = lang.Pad("", nameColumns+1+word)
	}
}

// clip shortens the words that are longer than a column: IDs, paths.
func clip(text string, width int) string {
	words := strings.Fields(text)
	for i, w := range words {
		if lang.Width(w) > width {
			words[i] = head(w, width-len("...")) + "..."
		}
	}
	return strings.Join(words, " ")
}

// head is as much of a text as fits into some columns.
func head(text string, columns int) string {
	for i, r := range text {
		if columns -= lang.Width(string(r)); columns < 0 {
			return text[:i]
		}
	}
	return text
}

// ranges writes a sorted list of numbers: "26, 56-189".
func ranges(list []int) string {
	var b strings.Builder
	for i := 0; i < len(list); i++ {
		first := list[i]
		for i+1 < len(list) && list[i+1] == list[i]+1 {
			i++
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		fmt.Fprint(&b, first)
		if list[i] > first {
			fmt.Fprintf(&b, "-%d", list[i])
		}
	}
	return b.String()
}
