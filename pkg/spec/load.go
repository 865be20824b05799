// Package spec knows config.json, the OCI runtime specification's description
// of a container: reading it, checking it, and making it for an image. It
// takes specs and gives specs; it does nothing to the system.
package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// ConfigFile is the name of the description in a bundle.
const ConfigFile = "config.json"

// Load reads and checks the config.json of a bundle.
func Load(bundle string) (*specs.Spec, error) {
	name := filepath.Join(bundle, ConfigFile)
	data, err := os.ReadFile(name)
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

// Parse decodes and checks a config.json. Unknown fields are passed over, as
// the specification wants it.
func Parse(data []byte) (*specs.Spec, error) {
	s := new(specs.Spec)
	err := json.Unmarshal(data, s)
	var syntax *json.SyntaxError
	var field *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return nil, fmt.Errorf("line %d: %w", 1+bytes.Count(data[:min(int(syntax.Offset), len(data))], []byte("\n")), err)
	case errors.As(err, &field):
		return nil, fmt.Errorf("/%s: a JSON %s can't be a %s", strings.ReplaceAll(field.Field, ".", "/"), field.Value, field.Type)
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

// Write puts a config.json into a bundle. It does not replace one.
func Write(bundle string, s *specs.Spec) error {
	data, err := json.MarshalIndent(s, "", "\t")
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
