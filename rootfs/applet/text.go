package applet

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

// inputs calls f for every file named, "-" or none being standard input, and
// joins the errors.
func (c *call) inputs(f func(name string, r io.Reader) error) error {
	if len(c.Args) == 0 {
		return f("-", c.in)
	}
	return c.each(func(name string) error {
		if name == "-" {
			return f(name, c.in)
		}
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		return errors.Join(f(name, file), file.Close())
	})
}

// lines calls f for every line, with its newline if it has one, until f says
// false.
func lines(r io.Reader, f func(line string) bool) error {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if line != "" && !f(line) || errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func cat(c *call) error {
	return c.inputs(func(_ string, r io.Reader) error {
		_, err := io.Copy(c.out, r)
		return err
	})
}

func echo(c *call) error {
	end := "\n"
	if len(c.Args) > 0 && c.Args[0] == "-n" {
		c.Args, end = c.Args[1:], ""
	}
	fmt.Fprint(c.out, strings.Join(c.Args, " "), end)
	return nil
}

func head(c *call) error {
	count, err := size(cmp.Or(c.value['n'], "10"))
	if err != nil || count == 0 {
		return err
	}
	return c.inputs(func(_ string, r io.Reader) error {
		left := count
		return lines(r, func(line string) bool {
			fmt.Fprint(c.out, line)
			left--
			return left > 0
		})
	})
}

func tail(c *call) error {
	count, err := size(cmp.Or(c.value['n'], "10"))
	if err != nil {
		return err
	}
	return c.inputs(func(_ string, r io.Reader) error {
		var all []string
		err := lines(r, func(line string) bool {
			all = append(all, line)
			return true
		})
		fmt.Fprint(c.out, strings.Join(all[max(0, len(all)-int(count)):], ""))
		return err
	})
}

// wc counts lines, words and bytes, in this order.
func wc(c *call) error {
	return c.inputs(func(name string, r io.Reader) error {
		var counts [3]int
		err := lines(r, func(line string) bool {
			for i, n := range [3]int{strings.Count(line, "\n"), len(strings.Fields(line)), len(line)} {
				counts[i] += n
			}
			return true
		})
		columns := []string{}
		for i, n := range counts {
			if len(c.value) == 0 || c.Has("lwc"[i]) {
				columns = append(columns, fmt.Sprint(n))
			}
		}
		if name != "-" {
			columns = append(columns, name)
		}
		fmt.Fprintln(c.out, strings.Join(columns, " "))
		return err
	})
}

func sortLines(c *call) error {
	var all []string
	err := c.inputs(func(_ string, r io.Reader) error {
		return lines(r, func(line string) bool {
			all = append(all, strings.TrimSuffix(line, "\n"))
			return true
		})
	})
	order := strings.Compare
	if c.Has('n') {
		order = func(a, b string) int { return cmp.Compare(leading(a), leading(b)) }
	}
	slices.SortStableFunc(all, order)
	if c.Has('u') {
		all = slices.CompactFunc(all, func(a, b string) bool { return order(a, b) == 0 })
	}
	if c.Has('r') {
		slices.Reverse(all)
	}
	for _, line := range all {
		fmt.Fprintln(c.out, line)
	}
	return err
}

// leading is the number that a line begins with, 0 if it begins with none.
func leading(line string) (n float64) {
	if _, err := fmt.Sscan(line, &n); err != nil {
		return 0
	}
	return n
}

// grep prints lines that match. Its exit status says whether one did.
func grep(c *call) error {
	expression, err := c.pattern()
	if err != nil {
		return &Failure{2, err}
	}
	found, several := false, len(c.Args) > 1
	err = c.inputs(func(name string, r io.Reader) error {
		label := ""
		if several {
			label = name + ":"
		}
		number, count := 0, 0
		err := lines(r, func(line string) bool {
			number++
			line = strings.TrimSuffix(line, "\n")
			if expression.MatchString(line) == c.Has('v') {
				return true
			}
			count++
			switch {
			case c.Has('c') || c.Has('q'):
			case c.Has('n'):
				fmt.Fprintf(c.out, "%s%d:%s\n", label, number, line)
			default:
				fmt.Fprintf(c.out, "%s%s\n", label, line)
			}
			return !c.Has('q')
		})
		if c.Has('c') {
			fmt.Fprintf(c.out, "%s%d\n", label, count)
		}
		found = found || count > 0
		return err
	})
	switch {
	case err != nil:
		return &Failure{2, err}
	case !found:
		return &Failure{Status: 1}
	}
	return nil
}

// pattern takes the first operand as a regular expression of package regexp,
// which is an extended one, but for the alternatives of a basic one: "a\|b".
func (c *call) pattern() (*regexp.Regexp, error) {
	text := strings.ReplaceAll(c.Args[0], `\|`, "|")
	if c.Has('i') {
		text = "(?i)" + text
	}
	c.Args = c.Args[1:]
	return regexp.Compile(text)
}
