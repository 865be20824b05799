package cgroup

import (
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/plan"
)

// Device rules: admin-guide/cgroup-v1/devices.rst, and "Device controller" in
// admin-guide/cgroup-v2.rst. They say which devices a process may open (read,
// write) or make (mknod).
//
// The rules of config.json are a list in which, for each kind of access, the
// last rule that fits decides; where none fits, access is denied. Version 2
// runs a BPF program that says just that. Version 1 keeps a default and a set
// of exceptions, to which the list is reduced.

// access is a set of ways to use a device, with the bits of BPF_DEVCG_ACC_*.
type access uint8

const (
	accessMknod access = 1 << iota
	accessRead
	accessWrite
	accessAll = accessMknod | accessRead | accessWrite
)

func (a access) String() string {
	s := ""
	for _, letter := range "rwm" {
		if a&accessOf(letter) != 0 {
			s += string(letter)
		}
	}
	return s
}

// accessOf is the access that a letter stands for, 0 for other letters.
func accessOf(letter rune) access {
	switch letter {
	case 'r':
		return accessRead
	case 'w':
		return accessWrite
	case 'm':
		return accessMknod
	}
	return 0
}

// A device is the set of devices that a rule is about.
type device struct {
	kind         byte  // 'c', 'b', or 'a' for both
	major, minor int64 // -1 is any
}

func (d device) String() string {
	return string(d.kind) + " " + number(d.major) + ":" + number(d.minor)
}

func number(n int64) string {
	if n < 0 {
		return "*"
	}
	return strconv.FormatInt(n, 10)
}

// everything tells whether d is all devices.
func (d device) everything() bool { return d == device{'a', -1, -1} }

// covers tells whether all devices of o are in d.
func (d device) covers(o device) bool {
	return (d.kind == 'a' || d.kind == o.kind) && (d.major < 0 || d.major == o.major) && (d.minor < 0 || d.minor == o.minor)
}

// overlaps tells whether some device is in both.
func (d device) overlaps(o device) bool {
	return (d.kind == 'a' || o.kind == 'a' || d.kind == o.kind) &&
		(d.major < 0 || o.major < 0 || d.major == o.major) && (d.minor < 0 || o.minor < 0 || d.minor == o.minor)
}

// A rule allows or denies some access to some devices.
type rule struct {
	device
	access  access
	allow   bool
	pointer string
}

func (r rule) String() string {
	verb := "deny "
	if r.allow {
		verb = "allow "
	}
	return verb + r.device.String() + " " + r.access.String()
}

const devicesPointer = "/linux/resources/devices"

// parseRules reads the rules of config.json. What is not set there means all.
func parseRules(list []specs.LinuxDeviceCgroup) ([]rule, error) {
	var rules []rule
	for i, d := range list {
		r := rule{device: device{'a', -1, -1}, allow: d.Allow, pointer: devicesPointer + "/" + strconv.Itoa(i)}
		switch d.Type {
		case "", "a":
		case "b", "c":
			r.kind = d.Type[0]
		default:
			return nil, invalid(r.pointer+"/type", "%q is none of a, b, c", d.Type)
		}
		var err error
		if r.major, err = deviceNumber(r.pointer+"/major", d.Major); err != nil {
			return nil, err
		}
		if r.minor, err = deviceNumber(r.pointer+"/minor", d.Minor); err != nil {
			return nil, err
		}
		for _, letter := range d.Access {
			if accessOf(letter) == 0 {
				return nil, invalid(r.pointer+"/access", "%q has other letters than r, w, m", d.Access)
			}
			r.access |= accessOf(letter)
		}
		if d.Access == "" {
			r.access = accessAll
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// deviceNumber reads a major or minor number; -1 is any, as if it were not set.
func deviceNumber(pointer string, n *int64) (int64, error) {
	switch {
	case n == nil:
		return -1, nil
	case *n < -1 || *n > 1<<31-1:
		return 0, invalid(pointer, "%d is no device number", *n)
	}
	return *n, nil
}

// GuardsDevices tells whether rules for devices can be had.
func (g Group) GuardsDevices() bool { return g.place("devices") != nil || g.unifiedPlace() != nil }

// devices adds the rules to the plan. Without any, the container may use what
// its cgroup's parent may.
func (g Group) devices(b *plan.Builder, rules []rule) error {
	if len(rules) == 0 {
		return nil
	}
	if p := g.place("devices"); p != nil {
		base, exceptions, err := reduce(rules)
		if err != nil {
			return err
		}
		first, second := "devices.deny", "devices.allow"
		why, whyNot := "no device may be used", "but for these"
		if base {
			first, second = second, first
			why = "every device may be used"
		}
		p.writeDevices(b, why, first, "a")
		if len(exceptions) > 0 {
			p.writeDevices(b, whyNot, second, exceptions...)
		}
		return nil
	}
	p := g.unifiedPlace()
	if p == nil {
		return &MissingError{devicesPointer, "devices", g.version()}
	}
	code := assemble(rules)
	texts := make([]string, len(rules))
	for i, r := range rules {
		texts[i] = r.String()
	}
	b.Act("the kernel asks this program at each open and mknod of a device: the last rule that fits decides",
		"bpf(BPF_PROG_ATTACH, "+strconv.Quote(p.Dir)+", BPF_CGROUP_DEVICE, {"+strings.Join(texts, "; ")+"}, BPF_F_ALLOW_MULTI)",
		func(*plan.Run) error { return attach(p.Dir, code) })
	return nil
}

// writeDevices adds one action that gives the lines to a file.
func (p Place) writeDevices(b *plan.Builder, why, file string, lines ...string) {
	path := p.Dir + "/" + file
	act(b, why, callText("write", path, lines...), func(*plan.Run) error { return write(path, lines...) })
}

// reduce turns the list into the default of version 1, allow or deny, and the
// exceptions to it. A rule against the default adds an exception. A rule for
// the default takes away from the exceptions it covers; one that would cut a
// hole into a wider exception cannot be said in version 1, and is an error.
func reduce(rules []rule) (base bool, lines []string, err error) {
	var exceptions []rule
	for _, r := range rules {
		switch {
		case r.everything() && r.access == accessAll:
			base, exceptions = r.allow, nil
		case r.allow != base:
			exceptions = append(exceptions, r)
		default:
			for i, e := range exceptions {
				switch {
				case e.access&r.access == 0 || !r.overlaps(e.device):
				case r.covers(e.device):
					exceptions[i].access &^= r.access
				default:
					return false, nil, invalid(r.pointer, "cgroup v1 cannot say %q after %q", r, e)
				}
			}
		}
	}
	for _, e := range exceptions {
		for _, d := range e.lines() {
			if e.access != 0 {
				lines = append(lines, d.String()+" "+e.access.String())
			}
		}
	}
	return base, lines, nil
}

// lines gives the devices as version 1 takes them: to the kernel, "a" is all
// devices whatever stands behind it.
func (d device) lines() []device {
	if d.kind != 'a' {
		return []device{d}
	}
	return []device{{'c', d.major, d.minor}, {'b', d.major, d.minor}}
}
