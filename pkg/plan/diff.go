package plan

import (
	"bufio"
	"fmt"
	"io"

	"github.com/minictr/minictr/pkg/lang"
)

// Diff writes how b differs from a: the steps that are only in a, with "-",
// and those only in b, with "+", each with its reason, below the title of its
// section. Numbers don't count: a step is its call.
func Diff(w io.Writer, a, b *Plan, l lang.Language) error {
	left, right := lines(a), lines(b)
	// common[i][j] is the length of the longest list of steps that left[i:]
	// and right[j:] share in order.
	common := make([][]int, len(left)+1)
	for i := range common {
		common[i] = make([]int, len(right)+1)
	}
	for i := len(left) - 1; i >= 0; i-- {
		for j := len(right) - 1; j >= 0; j-- {
			if left[i].call == right[j].call {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	out := differ{Writer: bufio.NewWriter(w), lang: l}
	i, j := 0, 0
	for i < len(left) || j < len(right) {
		switch {
		case i < len(left) && j < len(right) && left[i].call == right[j].call:
			i, j = i+1, j+1
		case j == len(right) || i < len(left) && common[i+1][j] >= common[i][j+1]:
			out.line("-", left[i])
			i++
		default:
			out.line("+", right[j])
			j++
		}
	}
	if out.section == nil {
		fmt.Fprintln(out, l.Line("no difference"))
	}
	return out.Flush()
}

type line struct {
	section *Section
	call    string
	why     string
}

func lines(p *Plan) (list []line) {
	for _, s := range p.Sections {
		for _, step := range s.Steps {
			list = append(list, line{s, step.Call.String(), step.Why})
		}
	}
	return list
}

type differ struct {
	*bufio.Writer
	lang    lang.Language
	section *Section // of the line that was written last
}

func (d *differ) line(mark string, l line) {
	if s := d.section; s == nil || s.Brick != l.section.Brick || s.Title != l.section.Title {
		l.section.Head(d, d.lang)
		d.section = l.section
	}
	fmt.Fprintf(d, "%s %s\n", mark, l.call)
	reason(d, d.lang, l.why, "")
}
