package spec

import (
	"bytes"
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// A decoder fills Go values with JSON. The usual decoders first compile each
// type into tables, which pays if many documents are read: a runtime reads
// one, and that takes it four times as long as to decode it straight.
type decoder struct {
	*jsontext.Decoder
}

// Unmarshal reads a whole document into the value that out points to. Its
// errors name the line or the field.
func Unmarshal(data []byte, out any) error {
	d := decoder{jsontext.NewDecoder(bytes.NewReader(data), jsontext.AllowInvalidUTF8(true))} // what is no text is the kernel's to judge
	err := d.value(reflect.ValueOf(out).Elem())
	if err == nil {
		_, err = d.ReadToken()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = &jsontext.SyntacticError{ByteOffset: d.InputOffset(), Err: errors.New("more than one value")}
		}
	}
	if errors.Is(err, io.EOF) {
		err = &jsontext.SyntacticError{Err: io.ErrUnexpectedEOF}
	}
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		line := 1 + bytes.Count(data[:min(int(syntax.ByteOffset), len(data))], []byte("\n"))
		return fmt.Errorf("line %d: %s%w", line, at(syntax.JSONPointer), syntax.Err)
	}
	return err
}

// value reads the next value into v. A null is the zero value, as if nothing
// were there.
func (d decoder) value(v reflect.Value) error {
	kind := d.PeekKind()
	switch {
	case kind == 'n':
		v.SetZero()
		return d.SkipValue()
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return d.value(v.Elem())
	case v.Kind() == reflect.Interface:
		return d.SkipValue() // Windows' only
	case isText(v):
		return d.text(v)
	case kind == '{' && v.Kind() == reflect.Struct:
		members := fields(nil, v.Type(), nil)
		return d.each(func(name string) error {
			for _, f := range members {
				if f.name == name {
					return d.value(v.FieldByIndex(f.index))
				}
			}
			return d.SkipValue()
		})
	case kind == '{' && v.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		return d.each(func(name string) error {
			elem := reflect.New(v.Type().Elem()).Elem()
			err := d.value(elem)
			v.SetMapIndex(reflect.ValueOf(name).Convert(v.Type().Key()), elem)
			return err
		})
	case kind == '[' && v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		return d.each(func(string) error {
			v.Grow(1)
			v.SetLen(v.Len() + 1)
			return d.value(v.Index(v.Len() - 1))
		})
	}
	token, err := d.ReadToken()
	switch {
	case err != nil:
		return err
	case !scalar(v, token):
		return d.mismatch(v, token)
	}
	return nil
}

// isText says whether a struct is written as a string: a time.
func isText(v reflect.Value) bool {
	return v.Kind() == reflect.Struct && reflect.PointerTo(v.Type()).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// text reads a string into such a value.
func (d decoder) text(v reflect.Value) error {
	token, err := d.ReadToken()
	if err != nil {
		return err
	}
	if token.Kind() != '"' {
		return d.mismatch(v, token)
	}
	if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(token.String())); err != nil {
		return fmt.Errorf("%s%w", at(d.StackPointer()), err)
	}
	return nil
}

// each calls read for every member of the object or array that comes next. In
// an object the member's name is read already.
func (d decoder) each(read func(name string) error) error {
	begin, err := d.ReadToken()
	named := begin.Kind() == '{'
	for err == nil && d.PeekKind() != '}' && d.PeekKind() != ']' {
		var name jsontext.Token
		if named {
			if name, err = d.ReadToken(); err != nil {
				break
			}
		}
		err = read(name.String())
	}
	if err == nil {
		_, err = d.ReadToken() // its end, or why there is none
	}
	return err
}

// scalar sets v if the token is what it can hold.
func scalar(v reflect.Value, token jsontext.Token) bool {
	var err error
	switch kind := token.Kind(); {
	case kind == '"' && v.Kind() == reflect.String:
		v.SetString(token.String())
	case (kind == 't' || kind == 'f') && v.Kind() == reflect.Bool:
		v.SetBool(kind == 't')
	case kind == '0' && v.CanInt():
		var n int64
		n, err = strconv.ParseInt(token.String(), 10, v.Type().Bits())
		v.SetInt(n)
	case kind == '0' && v.CanUint():
		var n uint64
		n, err = strconv.ParseUint(token.String(), 10, v.Type().Bits())
		v.SetUint(n)
	default:
		return false
	}
	return err == nil
}

// A field is a member of a struct by its JSON name.
type field struct {
	name  string
	index []int
	omit  bool // if it is empty
}

// fields appends those of a struct, and of what is embedded in it.
func fields(all []field, t reflect.Type, within []int) []field {
	for i := range t.NumField() {
		f := t.Field(i)
		index := append(within[:len(within):len(within)], i)
		switch name, options, _ := strings.Cut(f.Tag.Get("json"), ","); {
		case name == "-", !f.IsExported() && !f.Anonymous:
		case f.Anonymous && name == "":
			all = fields(all, f.Type, index)
		default:
			all = append(all, field{cmp.Or(name, f.Name), index, options == "omitempty"})
		}
	}
	return all
}

// mismatch says that a value, whose first token was just read, is of the wrong
// kind.
func (d decoder) mismatch(v reflect.Value, token jsontext.Token) error {
	return fmt.Errorf("%smust be %s, not %s", at(d.StackPointer()), wanted(v), found(v, token))
}

// at is how a message about a value begins.
func at(p jsontext.Pointer) string {
	if p == "" {
		return "" // the document
	}
	return string(p) + ": "
}

// wanted says what a Go value is in JSON.
func wanted(v reflect.Value) string {
	switch k := v.Kind(); {
	case k == reflect.String || isText(v):
		return "a string"
	case k == reflect.Bool:
		return "a boolean"
	case k == reflect.Slice:
		return "an array"
	case v.CanInt():
		return "a whole number"
	case v.CanUint():
		return fmt.Sprintf("a number from 0 to %d", uint64(1)<<v.Type().Bits()-1)
	default:
		return "an object"
	}
}

// found says what stands in the file instead.
func found(v reflect.Value, token jsontext.Token) string {
	switch token.Kind() {
	case '"':
		return "a string"
	case '[':
		return "an array"
	case '{':
		return "an object"
	case '0':
		if v.CanInt() || v.CanUint() {
			return "a number " + token.String()
		}
		return "a number"
	default:
		return token.String() // true or false
	}
}
