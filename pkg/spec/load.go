// Package spec knows config.json, the OCI runtime specification's description
// of a container: reading it, checking it, and making it for an image. It
// takes specs and gives specs; it does nothing to the system.
package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ConfigFile is the name of the description in a bundle.
const ConfigFile = "config.json"

// Load reads and checks the config.json of a bundle.
func Load(bundle string) (*specs.Spec, error) {
	name := filepath.Join(bundle, ConfigFile)
	data, err := ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("JSON specification file config.json not found: %w", err)
	}
	if err != nil {
		return nil, err
	}
	s, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// ReadFile is os.ReadFile without the poller of Go's runtime. To set that up
// takes a process several times as long as to read a small file.
func ReadFile(name string) ([]byte, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	for errors.Is(err, unix.EINTR) {
		fd, err = unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	data, err := io.ReadAll(f)
	return data, errors.Join(err, f.Close())
}

// Parse decodes and checks a config.json. Unknown fields are passed over, as
// the specification wants it.
func Parse(data []byte) (*specs.Spec, error) {
	s := new(specs.Spec)
	err := json.Unmarshal(data, s, jsontext.AllowInvalidUTF8(true)) // what is no text is the kernel's to judge
	var syntax *jsontext.SyntacticError
	var field *json.SemanticError
	switch {
	case errors.As(err, &syntax):
		line := 1 + bytes.Count(data[:min(int(syntax.ByteOffset), len(data))], []byte("\n"))
		return nil, fmt.Errorf("line %d: %s%w", line, at(syntax.JSONPointer), syntax.Err)
	case errors.As(err, &field):
		return nil, fmt.Errorf("%smust be %s, not %s", at(field.JSONPointer), wanted(field.GoType), found(field))
	case err != nil:
		return nil, err
	}
	if bytes.Contains(data, []byte(`\u0000`)) { // the only way to write a NUL in JSON
		if err := noNUL("", reflect.ValueOf(s)); err != nil {
			return nil, err
		}
	}
	return s, Validate(s)
}

// at is how a message about a value begins.
func at(p jsontext.Pointer) string {
	if p == "" {
		return "" // the document
	}
	return string(p) + ": "
}

// wanted says what a Go type is in JSON.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "a boolean"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fmt.Sprintf("a number from 0 to %d", uint64(1)<<t.Bits()-1)
	default:
		return "an object"
	}
}

// found says what stands in the file instead.
func found(e *json.SemanticError) string {
	switch e.JSONKind {
	case '"':
		return "a string"
	case '[':
		return "an array"
	case '{':
		return "an object"
	case '0':
		return strings.TrimSpace("a number " + string(e.JSONValue))
	default:
		return e.JSONKind.String() // true, false or null
	}
}

// Write puts a config.json into a bundle. It does not replace one.
func Write(bundle string, s *specs.Spec) error {
	data, err := json.Marshal(s, jsontext.WithIndent("\t"), json.Deterministic(true))
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(bundle, ConfigFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	return errors.Join(err, f.Close())
}
