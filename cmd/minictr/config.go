package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/minictr/minictr/pkg/image"
)

// registriesFile is what a file registries.json may hold. The flags and the
// environment say more.
type registriesFile struct {
	// Mirrors are the URLs of a host's mirrors.
	Mirrors map[string][]string `json:"mirrors"`
	// Insecure are hosts that need not prove who they are.
	Insecure []string `json:"insecure"`
	// Certificates are, by a registry's host, files of certificates that are
	// trusted there and where it sends us, beside this file if they are not
	// absolute.
	Certificates map[string]string `json:"certificates"`
	// Limits are those of images that come from outside.
	Limits image.Limits `json:"limits"`
}

// readRegistries reads the host's file and the user's, whose word counts.
func readRegistries() (all registriesFile, err error) {
	all.Mirrors, all.Certificates = map[string][]string{}, map[string]string{}
	names := []string{"/etc/minictr/registries.json"}
	if dir, err := os.UserConfigDir(); err == nil { // $XDG_CONFIG_HOME, or ~/.config
		names = append(names, filepath.Join(dir, "minictr/registries.json"))
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var f registriesFile
		if err == nil {
			err = parseStrict(text, &f)
		}
		if err != nil {
			return all, fmt.Errorf("%s: %w", name, err)
		}
		for host, file := range f.Certificates {
			if !filepath.IsAbs(file) {
				f.Certificates[host] = filepath.Join(filepath.Dir(name), file)
			}
		}
		maps.Copy(all.Mirrors, f.Mirrors)
		maps.Copy(all.Certificates, f.Certificates)
		all.Insecure = append(all.Insecure, f.Insecure...)
		all.Limits = f.Limits.Or(all.Limits)
	}
	return all, nil
}

// parseStrict reads JSON that people write: a key that is not known is a
// mistake.
func parseStrict(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, e := d.Token(); !errors.Is(e, io.EOF) {
			err = errors.New("there is more than one value")
		}
	}
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}
