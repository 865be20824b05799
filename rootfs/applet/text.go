package applet

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// inputs calls f for every file named, "-" or none being standard input, and
// joins the errors.
func inputs(std Stdio, files []string, f func(name string, r io.Reader) error) error {
	if len(files) == 0 {
		return f("-", std.In)
	}
	var errs []error
	for _, name := range files {
		if name == "-" {
			errs = append(errs, f(name, std.In))
			continue
		}
		file, err := os.Open(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, f(name, file), file.Close())
	}
	return errors.Join(errs...)
}

// lines calls f for every line, without its newline, until f says false.
func lines(r io.Reader, f func(line string) bool) error {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if line != "" && !f(strings.TrimSuffix(line, "\n")) {
			return nil
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func cat(std Stdio, args []string) error {
	o, err := parse(args, "nu")
	if err != nil {
		return err
	}
	number := 0
	return inputs(std, o.args, func(_ string, r io.Reader) error {
		if !o.has('n') {
			_, err := io.Copy(std.Out, r)
			return err
		}
		return lines(r, func(line string) bool {
			number++
			fmt.Fprintf(std.Out, "%6d\t%s\n", number, line)
			return true
		})
	})
}

// oldStyle turns "head -5" into "head -n 5".
func oldStyle(args []string) []string {
	if len(args) > 1 && len(args[1]) > 1 && args[1][0] == '-' && args[1][1] >= '0' && args[1][1] <= '9' {
		return slices.Concat(args[:1], []string{"-n", args[1][1:]}, args[2:])
	}
	return args
}

// title prints the line that head and tail put before each of several files.
func title(w io.Writer, o *options, name string, first *bool) {
	if len(o.args) > 1 {
		if !*first {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "==> %s <==\n", name)
	}
	*first = false
}

func head(std Stdio, args []string) error {
	o, err := parse(oldStyle(args), "n:c:")
	if err != nil {
		return err
	}
	count, err := o.number('n', 10)
	if err != nil {
		return err
	}
	limit, err := o.number('c', -1)
	if err != nil {
		return err
	}
	first := true
	return inputs(std, o.args, func(name string, r io.Reader) error {
		title(std.Out, o, name, &first)
		if limit >= 0 {
			_, err := io.Copy(std.Out, io.LimitReader(r, limit))
			return err
		}
		in := bufio.NewReader(r)
		for range count {
			line, err := in.ReadString('\n')
			io.WriteString(std.Out, line)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func tail(std Stdio, args []string) error {
	o, err := parse(oldStyle(args), "n:")
	if err != nil {
		return err
	}
	count, err := o.number('n', 10)
	if err != nil {
		return err
	}
	first := true
	return inputs(std, o.args, func(name string, r io.Reader) error {
		title(std.Out, o, name, &first)
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		all := slices.Collect(bytes.Lines(data))
		from := max(len(all)-int(count), 0)
		if strings.HasPrefix(o.value['n'], "+") {
			from = min(max(int(count)-1, 0), len(all))
		}
		_, err = std.Out.Write(bytes.Join(all[from:], nil))
		return err
	})
}

// A tally is what wc counts.
type tally struct{ lines, words, bytes int }

func (t *tally) count(r io.Reader) error {
	buf, inWord := make([]byte, 64<<10), false
	for {
		n, err := r.Read(buf)
		t.bytes += n
		t.lines += bytes.Count(buf[:n], []byte{'\n'})
		for _, c := range buf[:n] {
			space := c == ' ' || c >= '\t' && c <= '\r'
			if !space && !inWord {
				t.words++
			}
			inWord = !space
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func wc(std Stdio, args []string) error {
	o, err := parse(args, "lwc")
	if err != nil {
		return err
	}
	all := !o.has('l') && !o.has('w') && !o.has('c')
	var total tally
	show := func(t tally, name string) {
		var cols []string
		for _, col := range []struct {
			letter byte
			n      int
		}{{'l', t.lines}, {'w', t.words}, {'c', t.bytes}} {
			if all || o.has(col.letter) {
				cols = append(cols, strconv.Itoa(col.n))
			}
		}
		if name != "-" {
			cols = append(cols, name)
		}
		fmt.Fprintln(std.Out, strings.Join(cols, " "))
	}
	err = inputs(std, o.args, func(name string, r io.Reader) error {
		var t tally
		err := t.count(r)
		show(t, name)
		total = tally{total.lines + t.lines, total.words + t.words, total.bytes + t.bytes}
		return err
	})
	if len(o.args) > 1 {
		show(total, "total")
	}
	return err
}

// field is the n-th field of a line, counted from 1, with the blanks before it
// as sort(1p) has it; to the end of the line, or of the field only.
func field(line string, n int64, only bool) string {
	const blanks = " \t"
	for ; n > 1; n-- {
		line = strings.TrimLeft(line, blanks)
		line = strings.TrimLeftFunc(line, func(c rune) bool { return !strings.ContainsRune(blanks, c) })
	}
	if !only {
		return line
	}
	start := len(line) - len(strings.TrimLeft(line, blanks))
	if end := strings.IndexAny(line[start:], blanks); end >= 0 {
		return line[:start+end]
	}
	return line
}

// leading is the number that a line begins with.
func leading(s string) float64 {
	s = strings.TrimLeftFunc(s, unicode.IsSpace)
	end := strings.IndexFunc(s, func(c rune) bool { return c != '-' && c != '.' && !unicode.IsDigit(c) })
	if end < 0 {
		end = len(s)
	}
	f, _ := strconv.ParseFloat(s[:end], 64) // what is no number counts as 0
	return f
}

func sortLines(std Stdio, args []string) error {
	o, err := parse(args, "nruk:")
	if err != nil {
		return err
	}
	key, _, only := strings.Cut(o.value['k'], ",")
	column, err := strconv.ParseInt(cmp.Or(key, "0"), 10, 64)
	if err != nil {
		return fmt.Errorf("-k %s: not the number of a field", o.value['k'])
	}
	var all []string
	err = inputs(std, o.args, func(_ string, r io.Reader) error {
		return lines(r, func(line string) bool {
			all = append(all, line)
			return true
		})
	})
	order := func(a, b string) int {
		if column > 0 {
			a, b = field(a, column, only), field(b, column, only)
		}
		c := 0
		if o.has('n') {
			c = cmp.Compare(leading(a), leading(b))
		} else {
			c = strings.Compare(a, b)
		}
		if o.has('r') {
			return -c
		}
		return c
	}
	slices.SortStableFunc(all, func(a, b string) int {
		if c := order(a, b); c != 0 || o.has('u') {
			return c
		}
		if o.has('r') {
			return strings.Compare(b, a)
		}
		return strings.Compare(a, b)
	})
	if o.has('u') {
		all = slices.CompactFunc(all, func(a, b string) bool { return order(a, b) == 0 })
	}
	out := bufio.NewWriter(std.Out)
	for _, line := range all {
		fmt.Fprintln(out, line)
	}
	return errors.Join(err, out.Flush())
}

func seq(std Stdio, args []string) error {
	first, step, last := 1, 1, 0
	var err error
	switch len(args) {
	case 2:
		last, err = strconv.Atoi(args[1])
	case 3, 4:
		var errs [3]error
		first, errs[0] = strconv.Atoi(args[1])
		last, errs[1] = strconv.Atoi(args[len(args)-1])
		if len(args) == 4 {
			step, errs[2] = strconv.Atoi(args[2])
		}
		err = errors.Join(errs[:]...)
	default:
		return errors.New("usage: seq [FIRST [STEP]] LAST")
	}
	if err != nil || step == 0 {
		return fmt.Errorf("not whole numbers: %s", strings.Join(args[1:], " "))
	}
	out := bufio.NewWriter(std.Out)
	for n := first; step > 0 && n <= last || step < 0 && n >= last; n += step {
		fmt.Fprintln(out, n)
	}
	return out.Flush()
}

func echo(std Stdio, args []string) error {
	end := "\n"
	if len(args) > 1 && args[1] == "-n" {
		args, end = args[1:], ""
	}
	_, err := io.WriteString(std.Out, strings.Join(args[1:], " ")+end)
	return err
}
