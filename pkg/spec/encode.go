package spec

import (
	"bytes"
	"encoding"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Marshal is the JSON of a value, in which Unmarshal finds the same again: all
// but what in its strings is not UTF-8.
func Marshal(v any) []byte { return encode(nil, reflect.ValueOf(v)) }

func encode(b []byte, v reflect.Value) []byte {
	switch k := v.Kind(); {
	case k == reflect.String:
		return quote(b, v.String())
	case k == reflect.Bool:
		return strconv.AppendBool(b, v.Bool())
	case v.CanInt():
		return strconv.AppendInt(b, v.Int(), 10)
	case v.CanUint():
		return strconv.AppendUint(b, v.Uint(), 10)
	case k == reflect.Struct:
		return encodeStruct(b, v)
	case v.IsNil():
		return append(b, "null"...)
	case k == reflect.Map:
		return encodeMap(b, v)
	case k == reflect.Slice:
		b = append(b, '[')
		for i := range v.Len() {
			b = append(encode(b, v.Index(i)), ',')
		}
		return end(b, ']')
	default: // a pointer or an interface
		return encode(b, v.Elem())
	}
}

func encodeStruct(b []byte, v reflect.Value) []byte {
	if t, ok := v.Interface().(encoding.TextMarshaler); ok {
		text, _ := t.MarshalText() // a time's, which fails after the year 9999
		return quote(b, string(text))
	}
	b = append(b, '{')
	for _, f := range fields(nil, v.Type(), nil) {
		m := v.FieldByIndex(f.index)
		if k := m.Kind(); f.omit && k != reflect.Struct && (m.IsZero() || (k == reflect.Slice || k == reflect.Map) && m.Len() == 0) {
			continue
		}
		b = append(encode(append(quote(b, f.name), ':'), m), ',')
	}
	return end(b, '}')
}

func encodeMap(b []byte, v reflect.Value) []byte {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(x, y reflect.Value) int { return strings.Compare(x.String(), y.String()) })
	b = append(b, '{')
	for _, key := range keys {
		b = append(encode(append(quote(b, key.String()), ':'), v.MapIndex(key)), ',')
	}
	return end(b, '}')
}

// end closes an array or an object in place of its last comma.
func end(b []byte, bracket byte) []byte { return append(bytes.TrimSuffix(b, []byte{','}), bracket) }

// quote appends a JSON string.
func quote(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s) // what is no UTF-8 becomes U+FFFD
	return b
}
