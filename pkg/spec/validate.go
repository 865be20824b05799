package spec

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// maxID is the highest user or group id: above it, numbers turn negative in
// programs that count with 32 bits, and -1 means "leave as it is".
const maxID = math.MaxInt32

// Validate checks a spec as a whole: that each field makes sense, with the
// others, and that nothing is asked for that this runtime does not do. A
// brick that was asked for and can't be laid is an error, never a weaker wall.
// An error begins with the JSON pointer of the field.
func Validate(s *specs.Spec) error {
	if _, ok := minorOf(s.Version); !ok {
		return fmt.Errorf("/ociVersion: this runtime knows versions 1.x, not %q", s.Version)
	}
	if s.Linux == nil {
		return errors.New("/linux: missing; this runtime makes Linux containers")
	}
	if _, nameless := s.Annotations[""]; nameless {
		return errors.New("/annotations: one has an empty name")
	}
	for _, check := range [...]func(*specs.Spec) error{
		validateProcess, validateUser, validateRlimits, validateRoot, validateNames, validateNamespaces,
		validateMaps, validateMounts, validateDevices, validatePaths, validateSysctl, validateNetDevices, validateHooks, unsupported,
	} {
		if err := check(s); err != nil {
			return err
		}
	}
	return nil
}

// MinorVersion is the x in the version 1.x.y of the specification that a
// config.json follows, which Validate has seen.
func MinorVersion(s *specs.Spec) uint64 {
	n, _ := minorOf(s.Version)
	return n
}

// minorOf is the x of a version 1.x.y as Semantic Versioning has it.
func minorOf(version string) (x uint64, ok bool) {
	numbers, _, _ := strings.Cut(version, "+")
	numbers, _, _ = strings.Cut(numbers, "-")
	parts := strings.Split(numbers, ".")
	if len(parts) != 3 || parts[0] != "1" {
		return 0, false
	}
	x, err := strconv.ParseUint(parts[1], 10, 32)
	_, e := strconv.ParseUint(parts[2], 10, 32)
	return x, err == nil && e == nil
}

// ValidateProcess checks what a process of a container is asked to be, as
// Validate does for its first.
func ValidateProcess(p *specs.Process) error {
	s := &specs.Spec{Process: p, Linux: &specs.Linux{}}
	return cmp.Or(validateProcess(s), validateUser(s), validateRlimits(s), unsupported(s))
}

func validateProcess(s *specs.Spec) error {
	p := s.Process
	switch {
	case p == nil:
		return errors.New("/process: missing")
	case len(p.Args) == 0 || p.Args[0] == "":
		return errors.New("/process/args: must name a program")
	case !path.IsAbs(p.Cwd):
		return fmt.Errorf("/process/cwd: Cwd must be an absolute path, not %q", p.Cwd)
	case p.OOMScoreAdj != nil && (*p.OOMScoreAdj < -1000 || *p.OOMScoreAdj > 1000):
		return fmt.Errorf("/process/oomScoreAdj: %d is not from -1000 to 1000", *p.OOMScoreAdj)
	case p.SelinuxLabel != "" && p.ApparmorProfile != "":
		return errors.New("/process/selinuxLabel: unable to apply both a label of SELinux and a profile of AppArmor")
	case p.ConsoleSize != nil && (p.ConsoleSize.Height > math.MaxUint16 || p.ConsoleSize.Width > math.MaxUint16):
		return errors.New("/process/consoleSize: a terminal has at most 65535 rows and columns")
	}
	for i, e := range p.Env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" {
			return fmt.Errorf("/process/env/%d: %q is not NAME=VALUE", i, e)
		}
	}
	return nil
}

func validateUser(s *specs.Spec) error {
	u := s.Process.User
	if u.UID > maxID {
		return fmt.Errorf("/process/user/uid: %d is above %d", u.UID, maxID)
	}
	if u.GID > maxID {
		return fmt.Errorf("/process/user/gid: %d is above %d", u.GID, maxID)
	}
	for i, g := range u.AdditionalGids {
		if g > maxID {
			return fmt.Errorf("/process/user/additionalGids/%d: %d is above %d", i, g, maxID)
		}
	}
	if u.Umask != nil && *u.Umask > 0o777 {
		return fmt.Errorf("/process/user/umask: %#o is above 0777", *u.Umask)
	}
	return nil
}

func validateRlimits(s *specs.Spec) error {
	seen := make(map[string]bool)
	for i, l := range s.Process.Rlimits {
		switch {
		case seen[l.Type]:
			return fmt.Errorf("/process/rlimits/%d/type: a second %s", i, l.Type)
		case l.Soft > l.Hard:
			return fmt.Errorf("/process/rlimits/%d/soft: wrong rlimit value: %s: %d is above the hard limit %d", i, l.Type, l.Soft, l.Hard)
		}
		seen[l.Type] = true
	}
	return nil
}

func validateRoot(s *specs.Spec) error {
	if s.Root == nil || s.Root.Path == "" {
		return errors.New("/root/path: missing")
	}
	switch s.Linux.RootfsPropagation {
	case "", "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable":
		return nil
	}
	return fmt.Errorf("/linux/rootfsPropagation: unknown propagation %q", s.Linux.RootfsPropagation)
}

func validateNames(s *specs.Spec) error {
	const longest = 64 // __NEW_UTS_LEN
	for _, n := range [...]struct{ pointer, name string }{{"/hostname", s.Hostname}, {"/domainname", s.Domainname}} {
		switch {
		case len(n.name) > longest:
			return fmt.Errorf("%s: %q is longer than %d bytes", n.pointer, n.name, longest)
		case n.name != "" && !hasNamespace(s, specs.UTSNamespace):
			return fmt.Errorf("%s: without a uts namespace it would be the host's", n.pointer)
		}
	}
	return nil
}

func hasNamespace(s *specs.Spec, t specs.LinuxNamespaceType) bool {
	return slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == t })
}

var namespaceTypes = [...]specs.LinuxNamespaceType{
	specs.PIDNamespace, specs.NetworkNamespace, specs.MountNamespace, specs.IPCNamespace, specs.UTSNamespace,
	specs.UserNamespace, specs.CgroupNamespace, specs.TimeNamespace,
}

func validateNamespaces(s *specs.Spec) error {
	seen := make(map[specs.LinuxNamespaceType]bool)
	for i, n := range s.Linux.Namespaces {
		switch {
		case !slices.Contains(namespaceTypes[:], n.Type):
			return fmt.Errorf("/linux/namespaces/%d/type: unknown namespace %q", i, n.Type)
		case seen[n.Type]:
			return fmt.Errorf("/linux/namespaces/%d/type: a second namespace %q", i, n.Type)
		case n.Path != "" && !path.IsAbs(n.Path):
			return fmt.Errorf("/linux/namespaces/%d/path: %q is not absolute", i, n.Path)
		case n.Path != "" && n.Type == specs.MountNamespace:
			return fmt.Errorf("/linux/namespaces/%d/path: a container needs a mount namespace of its own; to enter another's is exec", i)
		}
		seen[n.Type] = true
	}
	own := func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace && n.Path == "" }
	if s.Annotations[Unlimited] != "" && !slices.ContainsFunc(s.Linux.Namespaces, own) {
		return errors.New("/linux/namespaces: with neither a pid namespace of its own nor a cgroup, nothing can find its processes to end them")
	}
	if !seen[specs.MountNamespace] {
		return errors.New("/linux/namespaces: no mount namespace: the container's mounts would be the host's")
	}
	if len(s.Linux.TimeOffsets) > 0 && !seen[specs.TimeNamespace] {
		return errors.New("/linux/timeOffsets: without a time namespace there is no clock to shift")
	}
	for clock := range s.Linux.TimeOffsets {
		if clock != "monotonic" && clock != "boottime" {
			return fmt.Errorf("/linux/timeOffsets/%s: only the clocks monotonic and boottime can be shifted", clock)
		}
	}
	return nil
}

func validateMaps(s *specs.Spec) error {
	for _, m := range [...]struct {
		field string
		maps  []specs.LinuxIDMapping
	}{{"uidMappings", s.Linux.UIDMappings}, {"gidMappings", s.Linux.GIDMappings}} {
		own := hasNamespace(s, specs.UserNamespace)
		if !own && len(m.maps) > 0 {
			return fmt.Errorf("/linux/%s: without a user namespace nothing is mapped", m.field)
		}
		i := slices.IndexFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
		if own && s.Linux.Namespaces[i].Path == "" && len(m.maps) == 0 {
			return fmt.Errorf("/linux/%s: a user namespace without it has nobody in it", m.field)
		}
		if err := validateRanges("/linux/"+m.field, m.maps); err != nil {
			return err
		}
	}
	return nil
}

func validateRanges(pointer string, maps []specs.LinuxIDMapping) error {
	for i, l := range maps {
		if l.Size == 0 || uint64(l.ContainerID)+uint64(l.Size) > math.MaxUint32 || uint64(l.HostID)+uint64(l.Size) > math.MaxUint32 {
			return fmt.Errorf("%s/%d: %d ids from %d on, as %d on the host, is no range of ids", pointer, i, l.Size, l.ContainerID, l.HostID)
		}
	}
	return nil
}

func validateMounts(s *specs.Spec) error {
	for i, m := range s.Mounts {
		bind := m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
		switch {
		case m.Destination == "":
			return fmt.Errorf("/mounts/%d/destination: missing", i)
		case path.Clean(m.Destination) == "/" && (i > 0 || m.Type != "overlay"):
			return fmt.Errorf("/mounts/%d/destination: only the first mount can be the root, and only an overlay", i)
		case slices.Contains(m.Options, "remount"): // it has a type and a source
			if m.UIDMappings != nil || m.GIDMappings != nil || slices.ContainsFunc(m.Options, isMaking) {
				return fmt.Errorf("/mounts/%d/options: remount changes the attributes of a mount, and nothing else", i)
			}
			continue
		case bind && m.Source == "":
			return fmt.Errorf("/mounts/%d/source: missing for a bind mount", i)
		case !bind && m.Type == "":
			return fmt.Errorf("/mounts/%d/type: missing", i)
		case slices.Contains(m.Options, "tmpcopyup") && (m.Type != "tmpfs" || s.Mounts[0].Type == "overlay" && path.Clean(s.Mounts[0].Destination) == "/"):
			return fmt.Errorf("/mounts/%d/options: tmpcopyup is for a tmpfs over what a root file system has in one directory", i)
		}
		if slices.Contains(m.Options, "copyfile") && (m.Type != "tmpfs" || !path.IsAbs(m.Source)) {
			return fmt.Errorf("/mounts/%d/options: copyfile is for a tmpfs whose source is the absolute path of a file", i)
		}
		if err := validateMountMaps(s, m, bind); err != nil {
			return fmt.Errorf("/mounts/%d%w", i, err)
		}
	}
	return nil
}

// isMaking says whether an option is for a mount that is being made.
func isMaking(option string) bool {
	return option == "idmap" || option == "ridmap" || option == "tmpcopyup"
}

// validateMountMaps checks how a mount is to show the owners of its files.
func validateMountMaps(s *specs.Spec, m specs.Mount, bind bool) error {
	asked := slices.Contains(m.Options, "idmap") || slices.Contains(m.Options, "ridmap")
	users, groups := len(m.UIDMappings) > 0, len(m.GIDMappings) > 0
	switch {
	case users && !groups:
		return errors.New("/gidMappings: missing, where uidMappings are given")
	case groups && !users:
		return errors.New("/uidMappings: missing, where gidMappings are given")
	case !users && !asked:
		return nil
	case !bind || strings.HasPrefix(m.Type, "cgroup"):
		return errors.New(": only a bind mount can map ids")
	case !users && !hasNamespace(s, specs.UserNamespace):
		return errors.New("/options: idmap without uidMappings takes the container's, which has no user namespace")
	}
	return cmp.Or(validateRanges("/uidMappings", m.UIDMappings), validateRanges("/gidMappings", m.GIDMappings))
}

func validateDevices(s *specs.Spec) error {
	for i, d := range s.Linux.Devices {
		switch {
		case !path.IsAbs(d.Path) || path.Clean(d.Path) == "/":
			return fmt.Errorf("/linux/devices/%d/path: %q is not the absolute path of a device", i, d.Path)
		case !slices.Contains([]string{"c", "u", "b", "p"}, d.Type):
			return fmt.Errorf("/linux/devices/%d/type: %q is none of c, u, b and p", i, d.Type)
		case d.Type != "p" && (d.Major < 0 || d.Minor < 0 || d.Major > 1<<12-1 || d.Minor > 1<<20-1):
			return fmt.Errorf("/linux/devices/%d: no device has the numbers %d:%d", i, d.Major, d.Minor)
		case d.UID != nil && *d.UID > maxID || d.GID != nil && *d.GID > maxID:
			return fmt.Errorf("/linux/devices/%d: its owner is above %d", i, maxID)
		}
	}
	return nil
}

func validatePaths(s *specs.Spec) error {
	for _, list := range [...]struct {
		field string
		paths []string
	}{{"maskedPaths", s.Linux.MaskedPaths}, {"readonlyPaths", s.Linux.ReadonlyPaths}} {
		for i, p := range list.paths {
			if !path.IsAbs(p) {
				return fmt.Errorf("/linux/%s/%d: %q is not absolute", list.field, i, p)
			}
		}
	}
	return nil
}

// validateSysctl lets parameters through that belong to a namespace of the
// container; the others are one for all, and writing them changes the host.
func validateSysctl(s *specs.Spec) error {
	if len(s.Linux.Sysctl) > 0 && !slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool {
		return m.Type == "proc" && path.Clean(m.Destination) == "/proc"
	}) {
		return errors.New("/linux/sysctl: parameters are written through /proc, and no proc is mounted there")
	}
	for key := range s.Linux.Sysctl {
		name := strings.ReplaceAll(key, "/", ".")
		var owner specs.LinuxNamespaceType
		switch {
		case strings.Contains(key, ".."):
			return fmt.Errorf("/linux/sysctl: %q is no parameter", key)
		case strings.HasPrefix(name, "net."):
			owner = specs.NetworkNamespace
		case strings.HasPrefix(name, "fs.mqueue."), name == "kernel.sem", strings.HasPrefix(name, "kernel.shm"), strings.HasPrefix(name, "kernel.msg"):
			owner = specs.IPCNamespace
		case name == "kernel.domainname":
			owner = specs.UTSNamespace
		default:
			return fmt.Errorf("/linux/sysctl: %q belongs to no namespace: it would change the host", key)
		}
		if !hasNamespace(s, owner) {
			return fmt.Errorf("/linux/sysctl: %q belongs to the %s namespace, which is the host's here", key, owner)
		}
	}
	return nil
}

// validateNetDevices wants names that the kernel takes, inside and outside, and
// no two interfaces with one. Inside, %d stands for a number of the kernel's.
func validateNetDevices(s *specs.Spec) error {
	if len(s.Linux.NetDevices) > 0 && !hasNamespace(s, specs.NetworkNamespace) {
		return errors.New("/linux/netDevices: without a network namespace there is nowhere to move them to")
	}
	taken := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(s.Linux.NetDevices)) {
		pointer := "/linux/netDevices/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
		inside := cmp.Or(s.Linux.NetDevices[name].Name, name)
		bare := strings.Replace(inside, "%d", "0", 1)
		switch {
		case !interfaceName(name):
			return fmt.Errorf("%s: %q is no name of a network interface", pointer, name)
		case name == "lo":
			return fmt.Errorf("%s: every network has a loopback interface of its own", pointer)
		case !interfaceName(bare) || len(inside) > maxInterface:
			return fmt.Errorf("%s/name: %q is no name of a network interface", pointer, inside)
		case taken[inside] != "" && bare == inside:
			return fmt.Errorf("%s/name: %q is what %s is to be called", pointer, inside, taken[inside])
		}
		taken[inside] = name
	}
	return nil
}

const maxInterface = 15 // IFNAMSIZ, without the NUL

func interfaceName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= maxInterface && !strings.ContainsAny(name, "%/: \t\n\v\f\r")
}

func validateHooks(s *specs.Spec) error {
	for _, list := range HooksOf(s) {
		for i, h := range *list.Hooks {
			switch {
			case !path.IsAbs(h.Path):
				return fmt.Errorf("/hooks/%s/%d/path: %q is not absolute", list.Kind, i, h.Path)
			case h.Timeout != nil && *h.Timeout <= 0:
				return fmt.Errorf("/hooks/%s/%d/timeout: %d is not above zero", list.Kind, i, *h.Timeout)
			}
		}
	}
	return nil
}

// unsupported refuses what a later version of this runtime will do.
func unsupported(s *specs.Spec) error {
	l := s.Linux
	for _, f := range [...]struct {
		pointer string
		asked   bool
	}{
		{"/linux/intelRdt", l.IntelRdt != nil},
	} {
		if f.asked {
			return fmt.Errorf("%s: not supported yet", f.pointer)
		}
	}
	return nil
}

// noNUL refuses strings that the kernel would take for shorter ones.
func noNUL(pointer string, v reflect.Value) error {
	switch v.Kind() {
	case reflect.String:
		if strings.ContainsRune(v.String(), 0) {
			return fmt.Errorf("%s: a NUL byte ends every string of the kernel", pointer)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			return noNUL(pointer, v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			if err := noNUL(fmt.Sprintf("%s/%d", pointer, i), v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			if err := noNUL(pointer, key); err != nil {
				return err
			}
			if err := noNUL(pointer+"/"+key.String(), v.MapIndex(key)); err != nil {
				return err
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			if err := noNUL(pointer+"/"+name, v.Field(i)); err != nil {
				return err
			}
		}
	default: // numbers and booleans
	}
	return nil
}
