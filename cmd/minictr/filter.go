package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/image"
)

// filters are what ps is asked for: values by keys. A container is listed if it
// has one of the values of each key, and all labels.
type filters map[string][]string

func parseFilters(flags []string) (filters, error) {
	wanted := filters{}
	for _, flag := range flags {
		key, value, found := strings.Cut(flag, "=")
		var err error
		switch key {
		case "status":
			if !slices.Contains([]string{"created", "restarting", "running", "removing", "paused", "exited", "dead"}, value) {
				err = fmt.Errorf("%q is no status: created, restarting, running, paused or exited", value)
			}
		case "exited":
			_, err = strconv.Atoi(value)
		case "name":
			_, err = regexp.Compile(value)
		case "id", "label", "ancestor", "network", "volume":
		default:
			err = fmt.Errorf("%q is none of status, name, id, label, ancestor, exited, network and volume", key)
		}
		if !found || value == "" {
			err = fmt.Errorf("%q is not KEY=VALUE", flag)
		}
		if err != nil {
			return nil, fmt.Errorf("--filter: %w", err)
		}
		wanted[key] = append(wanted[key], value)
	}
	return wanted, nil
}

// ofStopped says whether those that do not run are asked for as well.
func (f filters) ofStopped() bool { return len(f["status"]) > 0 || len(f["exited"]) > 0 }

// match says whether a container is asked for.
func (f filters) match(v engine.View) (bool, error) {
	any := func(key string, is func(value string) bool) bool {
		return len(f[key]) == 0 || slices.ContainsFunc(f[key], is)
	}
	if !any("status", func(s string) bool { return s == string(v.Now.Phase) }) ||
		!any("id", func(id string) bool { return strings.HasPrefix(v.ID, id) }) ||
		!any("name", func(pattern string) bool {
			found, _ := regexp.MatchString(pattern, v.Title())
			slashed, _ := regexp.MatchString(pattern, "/"+v.Title()) // Docker's names begin so
			return found || slashed
		}) ||
		!any("exited", func(code string) bool {
			return v.Now.Phase == engine.Exited && code == strconv.Itoa(v.Now.ExitCode)
		}) ||
		!any("ancestor", func(name string) bool { return isOf(v, name) }) {
		return false, nil
	}
	if len(f["label"])+len(f["network"])+len(f["volume"]) == 0 {
		return true, nil
	}
	d, err := v.Details()
	if err != nil {
		return false, err
	}
	for _, label := range f["label"] {
		name, want, hasText := strings.Cut(label, "=")
		if got, found := d.Labels[name]; !found || hasText && got != want {
			return false, nil
		}
	}
	return any("network", func(name string) bool { return name == d.Network }) &&
		any("volume", func(name string) bool {
			return slices.ContainsFunc(d.Mounts, func(m engine.Mount) bool { return name == m.Name || name == m.Source || name == m.Destination })
		}), nil
}

// isOf says whether a container is of an image: by its name, or the beginning of
// its ID.
func isOf(v engine.View, name string) bool {
	id := strings.TrimPrefix(v.ImageID, "sha256:")
	if given := strings.TrimPrefix(name, "sha256:"); len(given) >= 6 && strings.HasPrefix(id, given) {
		return true
	}
	asked, err := image.ParseReference(engine.FullName(name))
	own, other := image.ParseReference(engine.FullName(v.Options.Image))
	return err == nil && other == nil && asked.String() == own.String()
}
