package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/minictr/minictr/pkg/format"
	"github.com/minictr/minictr/pkg/image"
)

// progressFlags are those of the commands that bring layers.
func progressFlags(f *pflag.FlagSet) (quiet, plain *bool) {
	return f.BoolP("quiet", "q", false, "say nothing of the layers"), f.Bool("plain", false, "say of each layer when it is here, on a terminal too")
}

// progress tells of layers as they arrive, on standard error. Report is an
// image.Options.Progress, and stop gives the terminal back. On a terminal there
// is a line for each layer under way, drawn again and again below those that
// are here; elsewhere, and where NO_COLOR or a dumb terminal says that control
// sequences are unwelcome, each layer has one line when it is here.
func (c *call) progress(quiet, plain bool) (report func(image.Progress), stop func() error) {
	if quiet {
		return nil, func() error { return nil }
	}
	p := &progress{call: c, done: map[image.Digest]bool{}}
	p.drawn = c.stderr == os.Stderr && term.IsTerminal(2) && !plain && drawable()
	return p.report, p.stop
}

// drawable says whether control sequences are welcome on a terminal.
func drawable() bool { return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" }

type progress struct {
	*call
	drawn bool
	lines int // under way on the screen
	last  time.Time
	layer []image.Progress // under way
	done  map[image.Digest]bool
	err   error // of writing
}

const redraw = 100 * time.Millisecond

func (p *progress) report(now image.Progress) {
	if p.done[now.Layer] {
		return
	}
	i := slices.IndexFunc(p.layer, func(l image.Progress) bool { return l.Layer == now.Layer })
	whole := now.Done >= now.Total
	switch {
	case whole:
		p.done[now.Layer] = true
		p.print("layer %s: done, %s\n", now.Layer.Short(), format.Size(now.Total))
		if i >= 0 {
			p.layer = slices.Delete(p.layer, i, i+1)
		}
	case i >= 0:
		p.layer[i] = now
	default:
		p.layer = append(p.layer, now)
	}
	if p.drawn && (whole || i < 0 || time.Since(p.last) >= redraw) {
		p.last = time.Now()
		p.draw()
	}
}

// print prints a line that stays, in the place of those that don't.
func (p *progress) print(format string, args ...any) {
	if p.lines > 0 { // up to the first of them, and erase to the end of the screen
		format = fmt.Sprintf("\x1b[%dA\x1b[J", p.lines) + format
		p.lines = 0
	}
	_, err := fmt.Fprintf(p.stderr, format, args...)
	p.err = cmp.Or(p.err, err)
}

// draw draws the layers under way.
func (p *progress) draw() {
	width, height, err := term.GetSize(2)
	if err != nil || width <= 0 || height <= 0 {
		width, height = 80, 24
	}
	text := p.text(width, height)
	p.print("%s", text)
	p.lines = strings.Count(text, "\n")
}

// text has a line for each layer under way: no more than a screen of this size
// has room for, and none wider than it is.
func (p *progress) text(width, height int) string {
	var text strings.Builder
	for _, l := range p.layer[:min(len(p.layer), height-1)] {
		line := fmt.Sprintf("layer %s: ", l.Layer.Short())
		end := fmt.Sprintf("%s of %s", format.Size(l.Done), format.Size(l.Total))
		if room := min(width-1-len(line)-len("[] ")-len(end), 38); room >= 5 {
			full := int(int64(room) * l.Done / max(l.Total, 1))
			line += "[" + strings.Repeat("=", full) + strings.Repeat(" ", room-full) + "] "
		}
		line += end
		text.WriteString(line[:min(len(line), width-1)] + "\n")
	}
	return text.String()
}

// stop takes away the lines of what is not whole and never will be.
func (p *progress) stop() error {
	p.print("")
	return p.err
}
