package applet

import (
	"fmt"
	"strconv"
	"strings"
)

// Options are the single-letter options of one call, and its operands.
type Options struct {
	Args  []string
	value map[byte]string
}

// Has says whether an option is given.
func (o *Options) Has(letter byte) bool {
	_, ok := o.value[letter]
	return ok
}

// Parse reads options as getopt(3) does. Letters that a colon follows take a
// value. Options may stand behind operands, until "--"; with a "+" before the
// letters they may not. The letters "-" say that all are operands. Where -n
// takes a value, -5 is -n 5.
func Parse(letters string, args []string) (*Options, error) {
	o := &Options{value: map[byte]string{}}
	for ; len(args) > 0; args = args[1:] {
		arg := args[0]
		operand := len(arg) < 2 || arg[0] != '-'
		switch {
		case letters == "-" || operand && strings.HasPrefix(letters, "+"):
			o.Args = append(o.Args, args...)
			return o, nil
		case arg == "--":
			o.Args = append(o.Args, args[1:]...)
			return o, nil
		case operand:
			o.Args = append(o.Args, arg)
			continue
		case arg[1] >= '0' && arg[1] <= '9' && strings.Contains(letters, "n:"):
			arg = "-n" + arg[1:]
		}
		for i := 1; i < len(arg); i++ {
			letter := arg[i]
			_, after, ok := strings.Cut(letters, string(letter))
			if !ok || letter == '+' || letter == ':' {
				return nil, fmt.Errorf("unknown option -%c", letter)
			}
			o.value[letter] = arg[i+1:]
			if !strings.HasPrefix(after, ":") {
				continue
			}
			if o.value[letter] == "" {
				if args = args[1:]; len(args) == 0 {
					return nil, fmt.Errorf("option -%c needs a value", letter)
				}
				o.value[letter] = args[0]
			}
			break
		}
	}
	return o, nil
}

// size reads a number that is not negative: "4096", "64k", "10M", "1G".
func size(s string) (int64, error) {
	digits, shift := s, 0
	for i, unit := range []string{"k", "M", "G"} {
		if d, ok := strings.CutSuffix(s, unit); ok {
			digits, shift = d, 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n<<shift>>shift != n {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	return n << shift, nil
}

// bytes shows a number of bytes in kB, or as -h asks for.
func (o *Options) bytes(n uint64) string {
	if o.Has('h') {
		return human(n)
	}
	return strconv.FormatUint(n>>10, 10)
}

// human is a number of bytes with a unit: "3.8G".
func human(n uint64) string {
	v, unit := float64(n), 0
	for v >= 1024 && unit < 4 {
		v, unit = v/1024, unit+1
	}
	return fmt.Sprintf("%.1f%c", v, "BkMGT"[unit])
}
