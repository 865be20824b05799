// Package spec knows config.json, the OCI runtime specification's description
// of a container: reading it, checking it, and making it for an image. It
// takes specs and gives specs; it does nothing to the system.
package spec

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/sys"
)

// ConfigFile is the name of the description in a bundle.
const ConfigFile = "config.json"

// Load reads and checks the config.json of a bundle.
func Load(bundle string) (*specs.Spec, error) {
	name := filepath.Join(bundle, ConfigFile)
	data, err := sys.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &LoadError{"JSON specification file config.json not found", err}
	}
	if err != nil {
		return nil, err
	}
	s, err := Parse(data)
	if err != nil {
		return nil, &LoadError{name, err}
	}
	return s, nil
}

// A LoadError says that a bundle has no config.json, or one with a mistake in it.
type LoadError struct {
	What string
	Err  error
}

func (e *LoadError) Error() string { return e.What + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *LoadError) Unwrap() error { return e.Err }

// Parse decodes and checks a config.json. Unknown fields are passed over, as
// the specification wants it.
func Parse(data []byte) (*specs.Spec, error) {
	s := new(specs.Spec)
	if err := Unmarshal(data, s); err != nil {
		return nil, err
	}
	if bytes.Contains(data, []byte(`\u0000`)) { // the only way to write a NUL in JSON
		if err := noNUL("", reflect.ValueOf(s)); err != nil {
			return nil, err
		}
	}
	return s, Validate(s)
}

// Write puts a config.json into a bundle. It does not replace one.
func Write(bundle string, s *specs.Spec) error {
	text := jsontext.Value(Marshal(s))
	if err := text.Indent(); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(bundle, ConfigFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	return errors.Join(err, f.Close())
}
