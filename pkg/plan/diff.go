package plan

import (
	"fmt"
	"io"
)

// Diff writes how b differs from a: the steps that are only in a, with "-",
// and those only in b, with "+", each with its reason, below the title of its
// section. Numbers don't count: a step is its call.
func Diff(w io.Writer, a, b *Plan) error {
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
	out := differ{w: w}
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
	if !out.any {
		_, out.err = fmt.Fprintln(w, "no difference")
	}
	return out.err
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
	w     io.Writer
	title string // of the section that was written last
	any   bool
	err   error
}

func (d *differ) line(mark string, l line) {
	if d.err != nil {
		return
	}
	if title := l.section.Brick + ": " + l.section.Title; title != d.title {
		d.title = title
		_, d.err = fmt.Fprintf(d.w, "%s (%s)\n", title, l.section.Where)
	}
	if d.err == nil {
		_, d.err = fmt.Fprintf(d.w, "%s %s\n      # %s\n", mark, l.call, l.why)
	}
	d.any = true
}
