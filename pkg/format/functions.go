package format

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"text/template/parse"
	"unicode"
	"unicode/utf8"
)

// A function of templates takes so many arguments, and any more if most is 0.
type function struct {
	name        string
	least, most int
	do          func(args []any) (any, error)
}

// functions are those of text/template, and those that Docker adds.
func functions() []function {
	return []function{
		{"and", 1, 0, nil}, // these two do not look at all arguments
		{"or", 1, 0, nil},
		{"not", 1, 1, func(args []any) (any, error) { return !truth(args[0]), nil }},
		{"eq", 2, 0, equal},
		{"ne", 2, 2, func(args []any) (any, error) {
			is, err := equal(args)
			return is == false, err
		}},
		{"lt", 2, 2, ordered(func(c int) bool { return c < 0 })},
		{"le", 2, 2, ordered(func(c int) bool { return c <= 0 })},
		{"gt", 2, 2, ordered(func(c int) bool { return c > 0 })},
		{"ge", 2, 2, ordered(func(c int) bool { return c >= 0 })},
		{"len", 1, 1, length},
		{"index", 1, 0, index},
		{"slice", 2, 3, slice},
		{"print", 0, 0, func(args []any) (any, error) { return fmt.Sprint(args...), nil }},
		{"println", 0, 0, func(args []any) (any, error) { return fmt.Sprintln(args...), nil }},
		{"printf", 1, 0, printf},
		{"json", 1, 1, func(args []any) (any, error) {
			var out strings.Builder
			err := JSON(&out, args[0], "", false)
			return strings.TrimSuffix(out.String(), "\n"), err
		}},
		{"join", 2, 2, join},
		{"split", 2, 2, split},
		{"lower", 1, 1, ofString(strings.ToLower)},
		{"upper", 1, 1, ofString(strings.ToUpper)},
		{"title", 1, 1, ofString(title)},
		{"truncate", 2, 2, truncate},
		{"pad", 3, 3, pad},
	}
}

func functionNames() string {
	var names []string
	for _, f := range functions() {
		names = append(names, f.name)
	}
	return strings.Join(names, " ")
}

// call calls a function.
func (x *execution) call(dot any, name string, nodes []parse.Node, last []any) (any, error) {
	if name == "and" || name == "or" {
		return x.choose(dot, name == "or", nodes, last)
	}
	args, err := x.arguments(dot, nodes, last)
	if err != nil {
		return nil, err
	}
	for _, f := range functions() {
		if f.name != name {
			continue
		}
		if len(args) < f.least || f.most > 0 && len(args) > f.most {
			return nil, fmt.Errorf("%s can't take %d argument(s)", name, len(args))
		}
		if x.titles {
			return heading(args), nil
		}
		for i := range args {
			if _, ok := args[i].(document); !ok || name != "json" { // which keeps the order
				args[i] = whole(args[i])
			}
		}
		value, err := f.do(args)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return value, nil
	}
	return nil, fmt.Errorf("there is no function %s; there are %s", name, functionNames())
}

// choose is and, which returns the first argument that is empty, or or, which
// returns the first that is not; or else the last.
func (x *execution) choose(dot any, want bool, nodes []parse.Node, last []any) (value any, err error) {
	for _, n := range nodes {
		if value, err = x.operand(dot, n, nil); err != nil || truth(value) == want {
			return value, err
		}
	}
	switch {
	case len(last) > 0:
		return last[0], nil
	case len(nodes) == 0:
		return nil, errors.New("and and or can't take 0 argument(s)")
	}
	return value, nil
}

// heading is the title among the arguments of a function; the others are
// constants.
func heading(args []any) any {
	for _, a := range args {
		if t, ok := a.(columnTitle); ok {
			return t
		}
	}
	return ""
}

// equal says whether the first is one of the others.
func equal(args []any) (any, error) {
	for _, other := range args[1:] {
		c, err := compare(args[0], other)
		if c == 0 && err == nil {
			return true, nil
		}
		if err != nil && args[0] != nil && other != nil { // nil equals nothing else
			return false, err
		}
	}
	return false, nil
}

func ordered(is func(int) bool) func([]any) (any, error) {
	return func(args []any) (any, error) {
		c, err := compare(args[0], args[1])
		if _, ok := args[0].(bool); ok && err == nil {
			err = errors.New("true and false have no order")
		}
		return err == nil && is(c), err
	}
}

// compare compares two values of one kind; integers and others are both
// numbers.
func compare(a, b any) (int, error) {
	switch a := a.(type) {
	case nil:
		if b == nil {
			return 0, nil
		}
	case bool:
		if b, ok := b.(bool); ok {
			if a == b {
				return 0, nil
			}
			return 1, nil
		}
	case string:
		if b, ok := b.(string); ok {
			return cmp.Compare(a, b), nil
		}
	case int64:
		switch b := b.(type) {
		case int64:
			return cmp.Compare(a, b), nil
		case float64:
			return cmp.Compare(float64(a), b), nil
		}
	case float64:
		switch b := b.(type) {
		case int64:
			return cmp.Compare(a, float64(b)), nil
		case float64:
			return cmp.Compare(a, b), nil
		}
	}
	return 0, fmt.Errorf("%q and %q can't be compared", text(a), text(b))
}

func length(args []any) (any, error) {
	switch v := args[0].(type) {
	case string:
		return int64(len(v)), nil
	case []any:
		return int64(len(v)), nil
	case map[string]any:
		return int64(len(v)), nil
	}
	return nil, fmt.Errorf("%q has none", text(args[0]))
}

// index goes down by keys and numbers. An object that lacks a key has "" there,
// as Docker's labels have.
func index(args []any) (any, error) {
	v := args[0]
	for _, key := range args[1:] {
		switch of := v.(type) {
		case map[string]any:
			name, ok := key.(string)
			if !ok {
				return nil, fmt.Errorf("an object has no number %q, but names", text(key))
			}
			if v, ok = of[name]; !ok {
				v = ""
			}
		case []any:
			i, ok := key.(int64)
			if !ok || i < 0 || i >= int64(len(of)) {
				return nil, fmt.Errorf("%q is out of range: there are %d", text(key), len(of))
			}
			v = of[i]
		default:
			return nil, fmt.Errorf("%q has no element %q", text(v), text(key))
		}
	}
	return v, nil
}

func slice(args []any) (any, error) {
	size, err := length(args[:1])
	if err != nil {
		return nil, err
	}
	bounds := [...]any{int64(0), size}
	copy(bounds[:], args[1:])
	from, ok := bounds[0].(int64)
	to, also := bounds[1].(int64)
	if !ok || !also || from < 0 || from > to || to > size.(int64) {
		return nil, fmt.Errorf("%v to %v is out of range: there are %d", bounds[0], bounds[1], size)
	}
	switch v := args[0].(type) {
	case string:
		return v[from:to], nil
	case []any:
		return v[from:to], nil
	}
	return nil, errors.New("an object has no order")
}

func printf(args []any) (any, error) {
	verbs, err := str(args[0])
	return fmt.Sprintf(verbs, args[1:]...), err
}

func str(v any) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("%q is no string", text(v))
	}
	return s, nil
}

func ofString(do func(string) string) func([]any) (any, error) {
	return func(args []any) (any, error) {
		s, err := str(args[0])
		return do(s), err
	}
}

// title makes the first letter of each word a capital.
func title(s string) string {
	before := ' '
	return strings.Map(func(r rune) rune {
		first := !unicode.IsLetter(before) && !unicode.IsDigit(before) && before != '_' && before != '\''
		if before = r; first {
			return unicode.ToTitle(r)
		}
		return r
	}, s)
}

func join(args []any) (any, error) {
	between, err := str(args[1])
	list, ok := args[0].([]any)
	if !ok && args[0] != nil {
		return nil, fmt.Errorf("%q is no list", text(args[0]))
	}
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = text(v)
	}
	return strings.Join(texts, between), err
}

func split(args []any) (any, error) {
	s, err := str(args[0])
	at, other := str(args[1])
	list := []any{}
	for part := range strings.SplitSeq(s, at) {
		list = append(list, part)
	}
	return list, errors.Join(err, other)
}

func truncate(args []any) (any, error) {
	s, err := str(args[0])
	n, ok := args[1].(int64)
	if !ok || n < 0 {
		return nil, fmt.Errorf("%q is no length", text(args[1]))
	}
	return string([]rune(s)[:min(int(n), utf8.RuneCountInString(s))]), err
}

func pad(args []any) (any, error) {
	s, err := str(args[0])
	before, ok := args[1].(int64)
	after, also := args[2].(int64)
	if !ok || !also || min(before, after) < 0 || max(before, after) > 1000 {
		return nil, fmt.Errorf("%q and %q are no numbers of blanks", text(args[1]), text(args[2]))
	}
	if s == "" {
		return s, err
	}
	return strings.Repeat(" ", int(before)) + s + strings.Repeat(" ", int(after)), err
}
