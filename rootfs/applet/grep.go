package applet

import (
	"fmt"
	"io"
	"regexp"
	"strings"
)

// grep prints lines that match. Its exit status says whether one did.
func grep(std Stdio, args []string) error {
	o, err := parse(args, "ivcnqolwxhEFse:")
	if err != nil {
		return err
	}
	if !o.has('e') {
		if err := o.need(1, "grep [-ivcnqolwxhEF] PATTERN [FILE...]"); err != nil {
			return err
		}
		o.value['e'], o.args = o.args[0], o.args[1:]
	}
	re, err := pattern(o)
	if err != nil {
		return fmt.Errorf("pattern %q: %w", o.value['e'], err)
	}
	found := false
	prefix := len(o.args) > 1 && !o.has('h')
	err = inputs(std, o.args, func(name string, r io.Reader) error {
		label := ""
		if prefix {
			label = name + ":"
		}
		n, err := grepFile(std.Out, o, re, label, r)
		found = found || n > 0
		if o.has('l') && n > 0 {
			fmt.Fprintln(std.Out, name)
		}
		return err
	})
	if err != nil && !o.has('s') {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(std.Err, "grep: %s\n", strings.TrimSuffix(line, "\n"))
		}
	}
	switch {
	case found && (err == nil || o.has('q')):
		return nil
	case err != nil:
		return Status(2)
	}
	return Status(1)
}

// grepFile prints the lines of one file and returns how many were selected.
func grepFile(w io.Writer, o *options, re *regexp.Regexp, label string, r io.Reader) (int, error) {
	silent := o.has('q') || o.has('l') || o.has('c')
	number, selected := 0, 0
	err := lines(r, func(line string) bool {
		number++
		if re.MatchString(line) == o.has('v') {
			return true
		}
		selected++
		if silent {
			return o.has('c')
		}
		at := label
		if o.has('n') {
			at += fmt.Sprintf("%d:", number)
		}
		if !o.has('o') {
			fmt.Fprintf(w, "%s%s\n", at, line)
			return true
		}
		for _, m := range re.FindAllString(line, -1) {
			if m != "" {
				fmt.Fprintf(w, "%s%s\n", at, m)
			}
		}
		return true
	})
	if o.has('c') && !o.has('q') {
		fmt.Fprintf(w, "%s%d\n", label, selected)
	}
	return selected, err
}

// pattern makes one regular expression of all that the options say. A
// newline in the pattern separates alternatives, as POSIX has it.
func pattern(o *options) (*regexp.Regexp, error) {
	alternatives := strings.Split(o.value['e'], "\n")
	for i, p := range alternatives {
		switch {
		case o.has('F'):
			p = regexp.QuoteMeta(p)
		case !o.has('E'):
			p = basic(p)
		}
		alternatives[i] = p
	}
	expr := "(?:" + strings.Join(alternatives, "|") + ")"
	if o.has('w') {
		expr = `\b` + expr + `\b`
	}
	if o.has('x') {
		expr = "^" + expr + "$"
	}
	if o.has('i') {
		expr = "(?i)" + expr
	}
	return regexp.Compile(expr)
}

// basic turns a basic regular expression into an extended one: the backslash
// gives ( ) { } | + ? their meaning there, and takes it here.
func basic(p string) string {
	const swapped = "(){}|+?"
	var b strings.Builder
	bracket := false
	for i := 0; i < len(p); i++ {
		c := p[i]
		switch {
		case bracket:
			bracket = c != ']' || p[i-1] == '[' || strings.HasSuffix(p[:i], "[^")
			b.WriteByte(c)
		case c == '[':
			bracket = true
			b.WriteByte(c)
		case c == '\\' && i+1 < len(p):
			i++
			if !strings.ContainsRune(swapped, rune(p[i])) {
				b.WriteByte('\\')
			}
			b.WriteByte(p[i])
		case strings.IndexByte(swapped, c) >= 0 || c == '*' && i == 0:
			b.WriteString(`\` + string(c))
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
