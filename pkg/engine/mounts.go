package engine

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/spec"
)

// setMounts adds what -v, --mount, --tmpfs, --secret and --config ask for: the
// ones that others lie below come first.
func setMounts(w *wall, o Options) error {
	var list []specs.Mount
	taken := make(map[string]string)
	for _, kind := range [...]struct {
		flag  string
		texts []string
		mount func(Options, string) (specs.Mount, error)
	}{
		{"--volume", o.Volumes, volumeMount},
		{"--mount", o.Mounts, anyMount},
		{"--tmpfs", o.Tmpfs, tmpfsMount},
		{"--secret", o.Secrets, secretMount},
		{"--config", o.Configs, configMount},
	} {
		for _, text := range kind.texts {
			m, err := kind.mount(o, text)
			if err != nil {
				return fmt.Errorf("%s: %w", kind.flag, err)
			}
			dest := path.Clean(m.Destination)
			if other := taken[dest]; other != "" {
				return fmt.Errorf("%s: %q: there is another mount at %s already: %s", kind.flag, text, dest, other)
			}
			taken[dest] = text
			list = append(list, m)
		}
	}
	more, err := mountsFrom(o)
	if err != nil {
		return fmt.Errorf("--volumes-from: %w", err)
	}
	for _, m := range more {
		if dest := path.Clean(m.Destination); taken[dest] == "" { // a flag of its own has the last word
			taken[dest] = m.Source
			list = append(list, m)
		}
	}
	depth := func(m specs.Mount) int { return strings.Count(path.Clean(m.Destination), "/") }
	slices.SortStableFunc(list, func(a, b specs.Mount) int { return cmp.Compare(depth(a), depth(b)) })
	if o.ShmSize != "" {
		n, err := size("--shm-size", o.ShmSize, 1)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(w.Mounts, func(m specs.Mount) bool { return m.Destination == "/dev/shm" })
		w.Mounts[i].Options = append(w.Mounts[i].Options[:len(w.Mounts[i].Options)-1:len(w.Mounts[i].Options)-1], fmt.Sprintf("size=%d", n))
	}
	for _, m := range list {
		spec.Mount(w.Spec, m)
	}
	return nil
}

// mountsFrom are those of other containers, CONTAINER[:ro].
func mountsFrom(o Options) (list []specs.Mount, err error) {
	for _, text := range o.VolumesFrom {
		name, mode, _ := strings.Cut(text, ":")
		if mode != "" && mode != "ro" && mode != "rw" {
			return nil, fmt.Errorf("%q is not CONTAINER[:ro]", text)
		}
		if o.MountsOf == nil {
			return nil, fmt.Errorf("%q is the name of a container, and there are none", name)
		}
		mounts, err := o.MountsOf(name)
		if err != nil {
			return nil, err
		}
		for _, m := range mounts {
			if top, _, _ := strings.Cut(path.Clean(m.Destination)[1:], "/"); top == "proc" || top == "sys" || top == "dev" {
				continue // what it may see of the host is no volume
			}
			if mode == "ro" {
				m.Options = append(m.Options, mode)
			}
			list = append(list, m)
		}
	}
	return list, nil
}

// isPlace says whether something can be mounted at a path.
func isPlace(dest string) bool { return path.IsAbs(dest) && path.Clean(dest) != "/" }

// volumeMount reads [HOST|NAME:]CONTAINER[:OPTIONS].
func volumeMount(o Options, text string) (m specs.Mount, err error) {
	parts := strings.Split(text, ":")
	if len(parts) == 1 {
		parts = []string{"", text}
	} else if parts[0] == "" {
		parts = nil
	}
	if len(parts) < 2 || len(parts) > 3 || !isPlace(parts[1]) {
		return m, fmt.Errorf("%q is not HOST:CONTAINER[:OPTIONS], with CONTAINER an absolute path below /", text)
	}
	m = specs.Mount{Destination: parts[1], Type: "bind", Options: []string{"rbind", "rprivate"}}
	isPath := parts[0] != "" && strings.ContainsAny(parts[0][:1], "/.")
	if isPath {
		m.Source, err = filepath.Abs(parts[0])
	} else {
		m.Source, err = o.volume(parts[0])
	}
	if err != nil || len(parts) == 2 {
		return m, err
	}
	for word := range strings.SplitSeq(parts[2], ",") {
		switch word {
		case "bind": // not what is mounted below
			m.Options[0] = word
		case "rbind", "z", "Z", "nocopy", "consistent", "cached", "delegated":
			// It is so, or there is nothing to do: containers of images have no label.
		case "ro", "rw", "nosuid", "nodev", "noexec", "rprivate", "private", "rslave", "slave", "rshared", "shared":
			m.Options = append(m.Options, word)
		default:
			return m, fmt.Errorf("unknown option %q in %q", word, text)
		}
	}
	return m, nil
}

// volume is the directory of a volume; "" asks for a new one.
func (o Options) volume(name string) (string, error) {
	switch {
	case o.Volume != nil:
		return o.Volume(name)
	case name == "":
		return "", errors.New("a volume without a name is asked for, and there are none: HOST:CONTAINER shows a directory of the host")
	}
	return "", fmt.Errorf("%q is the name of a volume, and there are none: a path begins with a slash or a dot", name)
}

// fields are those of KEY=VALUE,..., of which some may be quoted as in a CSV
// file, RFC 4180. A key without a value has none, and other names stand for the
// usual ones.
func fieldsOf(text string, known ...string) (map[string]string, error) {
	words, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return nil, fmt.Errorf("%q is not a list of KEY=VALUE with commas between", text)
	}
	fields := make(map[string]string)
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		switch key = strings.ToLower(strings.TrimSpace(key)); key {
		case "src":
			key = "source"
		case "dst", "destination":
			key = "target"
		case "ro":
			key = "readonly"
		}
		if !slices.Contains(known, key) {
			return nil, fmt.Errorf("%q: unknown key %q; there are %s", text, key, strings.Join(known, ", "))
		}
		if _, twice := fields[key]; twice {
			return nil, fmt.Errorf("%q: %s is there twice", text, key)
		}
		fields[key] = value
	}
	return fields, nil
}

// truth reads a key that may stand without a value.
func truth(fields map[string]string, key string) (bool, error) {
	value, given := fields[key]
	switch value {
	case "", "true", "1":
		return given, nil
	case "false", "0":
		return false, nil
	}
	return false, fmt.Errorf("%s=%s is neither true nor false", key, value)
}

// mountKeys are those of --mount.
func mountKeys() []string {
	return strings.Fields("type source target readonly bind-propagation bind-nonrecursive bind-recursive volume-nocopy tmpfs-size tmpfs-mode consistency")
}

// recursion says whether a mount is to be read-only, and leaves out what is
// mounted below the source if that is asked for.
func recursion(m *specs.Mount, f map[string]string) (readonly bool, err error) {
	flat, err := truth(f, "bind-nonrecursive")
	if flat || f["bind-recursive"] == "disabled" {
		m.Options[0] = "bind"
	}
	readonly, e := truth(f, "readonly")
	return readonly, errors.Join(err, e)
}

// anyMount reads what --mount asks for.
func anyMount(o Options, text string) (m specs.Mount, err error) {
	f, err := fieldsOf(text, mountKeys()...)
	if err != nil {
		return m, err
	}
	m = specs.Mount{Destination: f["target"], Type: "bind", Options: []string{"rbind", cmp.Or(f["bind-propagation"], "rprivate")}}
	kind := cmp.Or(f["type"], "volume")
	for key := range f {
		if of, _, has := strings.Cut(key, "-"); has && of != kind {
			return m, fmt.Errorf("%q: %s is not for type=%s", text, key, kind)
		}
	}
	switch {
	case !isPlace(m.Destination):
		return m, fmt.Errorf("%q: target must be an absolute path below /", text)
	case !slices.Contains([]string{"rprivate", "private", "rslave", "slave", "rshared", "shared"}, m.Options[1]):
		return m, fmt.Errorf("%q: bind-propagation is one of private, slave and shared, each also with an r before it", text)
	}
	readonly, err := recursion(&m, f)
	if err != nil {
		return m, fmt.Errorf("%q: %w", text, err)
	}
	switch kind {
	case "bind":
		if m.Source = f["source"]; !path.IsAbs(m.Source) {
			return m, fmt.Errorf("%q: source must be an absolute path of the host", text)
		}
	case "volume":
		if strings.ContainsRune(f["source"], '/') {
			return m, fmt.Errorf("%q: source must be the name of a volume: type=bind shows a path", text)
		}
		if m.Source, err = o.volume(f["source"]); err != nil {
			return m, err
		}
	case "tmpfs":
		if _, given := f["source"]; given {
			return m, fmt.Errorf("%q: a tmpfs has no source", text)
		}
		m = tmpfs(m.Destination)
		if text := f["tmpfs-size"]; text != "" {
			n, err := size("tmpfs-size", text, 1)
			if err != nil {
				return m, err
			}
			m.Options = append(m.Options, fmt.Sprintf("size=%d", n))
		}
		if mode := f["tmpfs-mode"]; mode != "" {
			m.Options = append(m.Options, "mode="+mode)
		}
	default:
		return m, fmt.Errorf("%q: type=%s is none of bind, volume and tmpfs", text, kind)
	}
	if readonly {
		m.Options = append(m.Options, "ro")
	}
	return m, nil
}

// tmpfs is a file system in memory, as Docker mounts it.
func tmpfs(dest string) specs.Mount {
	return specs.Mount{Destination: dest, Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "noexec"}}
}

// tmpfsMount reads PATH[:OPTIONS].
func tmpfsMount(_ Options, text string) (m specs.Mount, err error) {
	dest, options, _ := strings.Cut(text, ":")
	if !isPlace(dest) {
		return m, fmt.Errorf("%q is not PATH[:OPTIONS], with an absolute path below /", text)
	}
	m = tmpfs(dest)
	for word := range strings.FieldsFuncSeq(options, func(r rune) bool { return r == ',' }) {
		key, _, given := strings.Cut(word, "=")
		isData := given && slices.Contains([]string{"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"}, key)
		if !isData && !slices.Contains(strings.Fields("ro rw exec noexec suid nosuid dev nodev atime noatime relatime strictatime diratime nodiratime"), word) {
			return m, fmt.Errorf("unknown option %q in %q", word, text)
		}
		m.Options = append(m.Options, word)
	}
	return m, nil
}

// setImageVolumes makes a new volume of each place that the image calls one, and
// that no flag has taken. Where there are no volumes the container's own layer
// serves, or memory if the root is read-only.
func setImageVolumes(s *specs.Spec, volumes map[string]struct{}, o Options) error {
	for _, v := range slices.Sorted(maps.Keys(volumes)) {
		dest := path.Clean("/" + v)
		if dest == "/" || o.Volume == nil && !o.ReadOnly || slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return path.Clean(m.Destination) == dest }) {
			continue
		}
		m := specs.Mount{Destination: dest, Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev"}}
		if o.Volume != nil {
			source, err := o.Volume("")
			if err != nil {
				return err
			}
			m.Type, m.Source, m.Options = "bind", source, []string{"rbind", "rprivate"}
		}
		below := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return strings.HasPrefix(path.Clean(m.Destination), dest+"/") })
		if below < 0 {
			below = len(s.Mounts)
		}
		s.Mounts = slices.Insert(s.Mounts, below, m) // so that it hides none
	}
	return nil
}
