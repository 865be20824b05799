package engine

import (
	"cmp"
	"fmt"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// A secret is a file that only memory holds. config.json says where on the host
// it is read from when the container starts, and nothing of what is in it.

func secretMount(_ Options, text string) (specs.Mount, error) {
	f, err := fieldsOf(text, "id", "source", "target", "uid", "gid", "mode", "type")
	if err != nil {
		return specs.Mount{}, err
	}
	source, id := f["source"], f["id"]
	if id == "" || strings.ContainsRune(id, '/') || id == "." || id == ".." || source == "" {
		return specs.Mount{}, fmt.Errorf("%q is not id=NAME,src=FILE", text)
	}
	if kind := cmp.Or(f["type"], "file"); kind != "file" {
		return specs.Mount{}, fmt.Errorf("%q: a secret is a file: type=%s can't be had", text, kind)
	}
	return copied(text, f, cmp.Or(f["target"], id), "0400")
}

func configMount(_ Options, text string) (specs.Mount, error) {
	f, err := fieldsOf(text, "source", "target", "uid", "gid", "mode")
	if err != nil {
		return specs.Mount{}, err
	}
	if f["source"] == "" || !path.IsAbs(f["target"]) {
		return specs.Mount{}, fmt.Errorf("%q is not src=FILE,target=PATH, with an absolute path", text)
	}
	return copied(text, f, f["target"], "0444")
}

// copied is the mount of a file that is copied into memory. A name without a
// directory is one of /run/secrets.
func copied(text string, f map[string]string, target, mode string) (m specs.Mount, err error) {
	if !path.IsAbs(target) {
		target = path.Join("/run/secrets", path.Join("/", target))
	}
	if !isPlace(target) {
		return m, fmt.Errorf("%q: target must be the path of a file", text)
	}
	m = specs.Mount{Destination: target, Type: "tmpfs", Options: []string{"copyfile", "ro", "nosuid", "nodev", "noexec"}}
	if m.Source, err = filepath.Abs(f["source"]); err != nil {
		return m, err
	}
	for _, key := range [...]string{"uid", "gid"} {
		value := cmp.Or(f[key], "0")
		if _, err := whole(value, 0, 1<<31-1); err != nil {
			return m, fmt.Errorf("%q: %s: %w", text, key, err)
		}
		m.Options = append(m.Options, key+"="+value)
	}
	mode = cmp.Or(f["mode"], mode)
	if n, err := strconv.ParseUint(mode, 8, 32); err != nil || n > 0o777 {
		return m, fmt.Errorf("%q: mode: %q is no mode from 0 to 0777", text, mode)
	}
	m.Options = append(m.Options, "mode="+mode)
	return m, nil
}
