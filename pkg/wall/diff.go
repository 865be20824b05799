package wall

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/minictr/minictr/pkg/lang"
)

// passing are facts that tell one process from another, or change by
// themselves: they are no difference of the walls.
var passing = [...]string{
	"numbers", "name", "path", "inside", "used", "oom_kills", "pressure", "throttled", "periods", "refused", "mounts",
}

// answers are facts whose null says that they are not known; that of others
// says that there is none.
var answers = [...]string{"read", "write", "mknod", "calls"}

// Diff writes where the walls of two processes differ: brick by brick, what one
// has and the other has not, and which gaps only one of them has.
func Diff(out io.Writer, a, b *Wall, l lang.Language) error {
	p := page{Writer: bufio.NewWriter(out), language: l}
	p.say(fmt.Sprintf("- process %d: %s", a.PID, a.Command))
	p.say(fmt.Sprintf("+ process %d: %s", b.PID, b.Command))
	differ := false
	for i, one := range a.Bricks {
		other := b.Bricks[i]
		gone, come, err := one.differences(other)
		if err != nil {
			return err
		}
		if one.State == other.State && len(gone)+len(come) == 0 {
			continue
		}
		differ = true
		fmt.Fprintf(p, "\n%s\n", one.Name)
		if one.State != other.State {
			p.change("- ", one.State, one.Inside)
			p.change("+ ", other.State, other.Inside)
		}
		for _, fact := range gone {
			fmt.Fprintf(p, "  - %s\n", fact)
		}
		for _, fact := range come {
			fmt.Fprintf(p, "  + %s\n", fact)
		}
	}
	for i, one := range a.Gaps {
		if other := b.Gaps[i]; one.State != other.State {
			differ = true
			fmt.Fprintf(p, "\n%s\n", one.Name)
			p.change("- ", one.State, one.Inside)
			p.change("+ ", other.State, other.Inside)
		}
	}
	if !differ {
		p.say("no difference")
	}
	return p.Flush()
}

func (p page) change(mark string, state State, inside string) {
	text := strings.Join(strings.Fields(p.language.Line(inside)), " ")
	fmt.Fprintln(p, strings.TrimRight(mark+p.language.Line(string(state))+"  "+text, " "))
}

// differences are the facts that only one of two bricks has.
func (b Brick) differences(other Brick) (gone, come []string, err error) {
	own, err := b.facts()
	if err != nil {
		return nil, nil, err
	}
	theirs, err := other.facts()
	if err != nil {
		return nil, nil, err
	}
	for _, f := range own {
		if !slices.Contains(theirs, f) {
			gone = append(gone, f)
		}
	}
	for _, f := range theirs {
		if !slices.Contains(own, f) {
			come = append(come, f)
		}
	}
	return gone, come, nil
}

// facts lists what programs are told, one fact a line.
func (b Brick) facts() (list []string, err error) {
	text, err := json.Marshal(b.Facts)
	if err != nil {
		return nil, err
	}
	in := json.NewDecoder(bytes.NewReader(text))
	in.UseNumber()
	var value any
	if err := in.Decode(&value); err != nil {
		return nil, err
	}
	return flat(nil, "", value), nil
}

// flat appends the facts in a value, each behind the names of what it is in. All
// that is known of a path is one fact.
func flat(list []string, name string, value any) []string {
	switch v := value.(type) {
	case map[string]any:
		path, one := v["path"].(string)
		var facts []string
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if !slices.Contains(passing[:], key) {
				facts = flat(facts, key, v[key])
			}
		}
		if one && len(facts) > 0 {
			facts = []string{path + " " + strings.Join(facts, " ")}
		}
		for _, fact := range facts {
			list = append(list, strings.TrimSpace(name+" "+fact))
		}
	case []any:
		for _, element := range v {
			list = flat(list, name, element)
		}
	case nil:
		if slices.Contains(answers[:], name) {
			list = append(list, name+" "+string(Unknown))
		}
	case bool:
		if v {
			list = append(list, name)
		}
	default:
		list = append(list, strings.Join(strings.Fields(fmt.Sprint(name, " ", v)), " "))
	}
	return list
}
