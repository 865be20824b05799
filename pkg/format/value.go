package format

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// A Method is a field that is computed when a template names it, with an
// argument or none. JSON leaves it out.
type Method func(argument string) any

// A document is compact JSON, of which no more is read than what is asked for;
// so what is printed of it as JSON keeps the order of its fields.
type document []byte

// Document makes a value for templates of what JSON can say.
func Document(v any) (any, error) {
	var out bytes.Buffer
	if err := JSON(&out, v, "", false); err != nil {
		return nil, err
	}
	return document(bytes.TrimSpace(out.Bytes())), nil
}

// MarshalJSON implements json.Marshaler.
func (d document) MarshalJSON() ([]byte, error) { return d, nil }

// JSON writes a value and a new line. It also escapes what JSON may have as it
// is, and some terminals take for a command: U+007F to U+009F.
func JSON(w io.Writer, v any, indent string, html bool) error {
	var text, safe strings.Builder
	out := json.NewEncoder(&text)
	out.SetEscapeHTML(html)
	out.SetIndent("", indent)
	if err := out.Encode(v); err != nil {
		return err
	}
	for _, r := range text.String() {
		if r >= 0x7f && r <= 0x9f {
			fmt.Fprintf(&safe, `\u%04x`, r)
		} else {
			safe.WriteRune(r)
		}
	}
	_, err := io.WriteString(w, safe.String())
	return err
}

// open reads one level of a document; other values are as they are.
func open(v any) any {
	d, ok := v.(document)
	if !ok {
		return v
	}
	switch d[0] {
	case '{':
		var of map[string]json.RawMessage
		if json.Unmarshal(d, &of) == nil {
			object := make(map[string]any, len(of))
			for name, raw := range of {
				object[name] = document(raw)
			}
			return object
		}
	case '[':
		var of []json.RawMessage
		if json.Unmarshal(d, &of) == nil {
			array := make([]any, len(of))
			for i, raw := range of {
				array[i] = document(raw)
			}
			return array
		}
	}
	return whole(d)
}

// whole reads all of a value, without its methods.
func whole(v any) any {
	if d, ok := v.(document); ok {
		in := json.NewDecoder(bytes.NewReader(d))
		in.UseNumber()
		if err := in.Decode(&v); err != nil {
			return string(d)
		}
	}
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		if n, err := v.Float64(); err == nil {
			return n
		}
		return v.String() // no float64 is so large
	case map[string]any:
		object := make(map[string]any, len(v))
		for name, field := range v {
			if _, ok := field.(Method); !ok {
				object[name] = whole(field)
			}
		}
		return object
	case []any:
		array := make([]any, len(v))
		for i, element := range v {
			array[i] = whole(element)
		}
		return array
	}
	return v
}

// text is what an action prints.
func text(v any) string {
	switch v := whole(v).(type) {
	case nil:
		return "<no value>"
	case string:
		return v
	default:
		return fmt.Sprint(v)
	}
}

// truth says whether a value is not empty.
func truth(v any) bool {
	switch v := open(v).(type) {
	case nil:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return true
}

// field returns one of an object, by its name; the case of letters counts only
// where two differ by nothing else: Docker's templates say both ID and Id.
func field(v any, name string, args []any) (any, error) {
	object, ok := open(v).(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%q has no fields, and so no .%s", text(v), name)
	}
	value, ok := object[name]
	if !ok {
		known := slices.Sorted(maps.Keys(object))
		i := slices.IndexFunc(known, func(other string) bool { return strings.EqualFold(name, other) })
		switch {
		case len(known) == 0:
			return nil, fmt.Errorf("there is no field .%s, nor any other", name)
		case i < 0:
			return nil, fmt.Errorf("there is no field .%s; there are .%s", name, strings.Join(known, " ."))
		}
		value = object[known[i]]
	}
	method, ok := value.(Method)
	switch {
	case !ok && len(args) > 0, len(args) > 1:
		return nil, fmt.Errorf(".%s takes no %d argument(s)", name, len(args))
	case !ok:
		return value, nil
	case len(args) == 1:
		return method(text(args[0])), nil
	}
	return method(""), nil
}

// entries are what range goes through: keys in order, and what they stand for.
func entries(v any) (keys, values []any, err error) {
	switch v := open(v).(type) {
	case nil:
	case []any:
		for i, element := range v {
			keys, values = append(keys, int64(i)), append(values, element)
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			keys, values = append(keys, name), append(values, v[name])
		}
	case int64:
		if v > 1<<16 {
			return nil, nil, errors.New("that is too often")
		}
		for i := range v {
			keys, values = append(keys, i), append(values, i)
		}
	default:
		return nil, nil, fmt.Errorf("can't iterate over %q", text(v))
	}
	return keys, values, nil
}
