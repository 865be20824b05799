package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/lang"
)

// explainCommand prints the page of a code. The page of a brick and an errno is
// put together from what is known of both.
func explainCommand(f *pflag.FlagSet) action {
	language := languageFlag(f)
	return func(c *call) error {
		p := page{c.stdout, language.Language}
		if len(c.args) == 0 {
			p.list()
			return nil
		}
		if err := c.exactly(1, "[CODE]"); err != nil {
			return err
		}
		code := strings.ToUpper(strings.Trim(c.args[0], "[]"))
		if !p.ofKind(code) && !p.ofStep(code) {
			return fmt.Errorf("no error has the code %q; near are %s: minictr explain lists all", c.args[0], strings.Join(near(code), ", "))
		}
		return nil
	}
}

// A page is being printed.
type page struct {
	io.Writer
	lang.Language
}

// part prints a heading, and lines below it, if there are any.
func (p page) part(heading string, lines ...string) {
	if len(lines) > 0 {
		fmt.Fprintf(p, "\n%s\n", p.Line(heading))
	}
	for _, line := range lines {
		name, text, named := strings.Cut(line, "\t") // a name is no sentence
		if !named {
			name, text = "", line
		} else {
			name += "  "
		}
		for i, said := range p.Say(text) {
			if i > 0 {
				name = strings.Repeat(" ", len(name))
			}
			fmt.Fprintf(p, "   %s%s\n", name, said)
		}
	}
}

// ofKind prints the page of an error that is no step's.
func (p page) ofKind(code string) bool {
	var about, hints []string
	for _, k := range kinds(nil) {
		if k.code != code {
			continue
		}
		if k.about != "" {
			about = append(about, k.about)
		}
		if k.hint != "" {
			hints = append(hints, k.hint)
		}
	}
	if about == nil {
		return false
	}
	fmt.Fprintln(p, code)
	p.part("What has happened:", about...)
	p.part("Likely causes, and what to do:", hints...)
	p.part("The message says more:", "the file, the name or the host that it is about stands before the code")
	return true
}

// ofStep prints the page of a step that fails.
func (p page) ofStep(code string) bool {
	word, _ := strings.CutPrefix(code, "WALL-")
	name, errno, _ := strings.Cut(word, "-")
	meaning, known := meaningOf(errno)
	i := slices.IndexFunc(bricks[:], func(b brick) bool { return wallCode(b.name, errno) == code })
	if i < 0 || !known {
		return false
	}
	b := bricks[i]
	fmt.Fprintln(p, code)
	p.part("What this brick of the wall is for:", b.titles...)
	p.part("What it is made of:", b.made())
	p.part("What it means that one of them fails so:", errno+"\t"+meaning)
	p.part("Likely causes, and what to do:", b.causes(errno)...)
	next := []string{
		"minictr plan -vv IMAGE\tfind the step by its number: why it is made, and what asks for it",
		"minictr plan --step IMAGE\tdo the steps before it one by one, and see what each changes",
		"minictr doctor\twhat this host lacks",
	}
	if refused := wallCode(name, "EPERM"); refused != code {
		next = append(next, "minictr explain "+refused+"\tthe same brick, when the kernel does not allow it")
	}
	p.part("What to try next:", next...)
	return true
}

// made are the names of its calls.
func (b brick) made() string {
	names := strings.Fields(b.calls)
	for i, name := range names {
		names[i], _, _ = strings.Cut(name, "(")
	}
	return strings.Join(slices.Compact(names), " ")
}

// causes are those of an errno in the brick.
func (b brick) causes(errno string) (list []string) {
	for _, c := range causes {
		if unix.ErrnoName(c.errno) == errno && b.makes(c.call, c.field) {
			where := c.call
			if c.field != "" {
				where += ", " + c.field
			}
			list = append(list, where+"\t"+c.hint)
		}
	}
	return list
}

// makes says whether a call, or the beginning of an action, is among the
// brick's, where a field asks for it.
func (b brick) makes(call, field string) bool {
	asked := field == "" || slices.Contains(strings.Fields(b.fields), field)
	return asked && slices.ContainsFunc(strings.Fields(b.calls), func(own string) bool {
		return own == call || strings.ContainsAny(own, "($") && strings.HasPrefix(own, call)
	})
}

// meaningOf says what an errno means, and whether there is one of that name.
func meaningOf(name string) (string, bool) {
	if i := slices.IndexFunc(meanings[:], func(m meaning) bool { return m.name == name }); i >= 0 {
		return meanings[i].text, true
	}
	for e := unix.Errno(1); e < 256; e++ {
		if unix.ErrnoName(e) == name {
			return "in the words of errno(3): " + e.Error(), true
		}
	}
	number, ok := strings.CutPrefix(name, "errno")
	_, err := strconv.ParseUint(number, 10, 16)
	return "this program has no name for it: see errno(3)", ok && err == nil
}

// list prints all codes of kinds, and those of steps whose causes are known.
func (p page) list() {
	var lines []string
	for _, k := range kinds(nil) {
		if k.about != "" {
			lines = append(lines, fmt.Sprintf("%-20s\t%s", k.code, k.about))
		}
	}
	fmt.Fprintln(p, p.Line("Each error has a code, and minictr explain CODE is its page."))
	p.part("Errors of images, containers and machines:", lines...)
	lines = nil
	for _, b := range bricks {
		for i, title := range b.titles {
			code := ""
			if i == 0 {
				code = wallCode(b.name, "...")
			}
			lines = append(lines, fmt.Sprintf("%-20s\t%s", code, title))
		}
	}
	p.part("Errors of the wall, one for each brick and each errno of errno(3):", lines...)
	p.part("Of these the likely causes are known:", wrapped(known())...)
}

// known are the codes of steps whose causes are known.
func known() (codes []string) {
	for _, b := range bricks {
		for _, c := range causes {
			if code := wallCode(b.name, unix.ErrnoName(c.errno)); b.makes(c.call, c.field) && !slices.Contains(codes, code) {
				codes = append(codes, code)
			}
		}
	}
	return codes
}

func wrapped(words []string) []string { return lang.Fold(strings.Join(words, " "), 76) }

// near are the codes that are most like one that does not exist.
func near(code string) []string {
	all := known()
	for _, k := range kinds(nil) {
		all = append(all, k.code)
	}
	for _, b := range bricks {
		for _, m := range meanings {
			all = append(all, wallCode(b.name, m.name))
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	code = code[:min(len(code), 40)]
	slices.SortStableFunc(all, func(a, b string) int { return distance(a, code) - distance(b, code) })
	return all[:3]
}
