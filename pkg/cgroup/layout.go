// Package cgroup limits, counts, stops and ends the processes of a container
// through the kernel's control groups, of version 1, version 2, or both side
// by side (hybrid): cgroups(7), and the kernel's
// admin-guide/cgroup-v1/*.rst and admin-guide/cgroup-v2.rst.
//
// A Layout is what the host has mounted; a Group is one container's place in
// each hierarchy. From the resources of a config.json a Group adds steps to a
// plan: the directories and limits for the parent, and for the child the
// calls by which it enters. Each controller is served in the version it is
// mounted in, so a hybrid host needs no code of its own. One file of this
// package is one subject of the kernel.
package cgroup

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// A Layout is the set of cgroup hierarchies that a host has mounted.
type Layout struct {
	Hierarchies []Hierarchy
	user        bool // it is that of a user's systemd
}

// A Hierarchy is one mounted tree of cgroups.
type Hierarchy struct {
	Name        string   // last element of Mount: "memory", "cpu,cpuacct", "unified"
	Mount       string   // where it is mounted: "/sys/fs/cgroup/memory"
	Self        string   // this process's own cgroup, as a path below Mount: "/"
	Controllers []string // "memory"; "name=systemd" for a tree without any
	V2          bool
	hidden      bool // the process's own cgroup can't be seen from here, and Self is "/"
}

// A Version says which kinds of hierarchy a host has.
type Version uint8

// The layouts that a host can have.
const (
	None   Version = iota // no cgroup hierarchy is mounted
	V1                    // version 1 only
	Hybrid                // version 1, and version 2 beside it
	V2                    // version 2 only
)

func (v Version) String() string {
	return [...]string{"none", "v1", "hybrid", "v2"}[v]
}

// Version tells which kinds of hierarchy the layout has.
func (l Layout) Version() Version {
	v := None
	for _, h := range l.Hierarchies {
		switch {
		case h.V2 && (v == None || v == V2):
			v = V2
		case !h.V2 && (v == None || v == V1):
			v = V1
		default:
			v = Hybrid
		}
	}
	return v
}

// Detect reads which hierarchies are mounted, and where this process is in
// them: proc_pid_mountinfo(5) and /proc/self/cgroup.
func Detect() (Layout, error) { return detect("/proc/self/cgroup") }

func detect(cgroup string) (Layout, error) {
	mounts, err := read("/proc/self/mountinfo")
	if err != nil {
		return Layout{}, fmt.Errorf("cgroup: detect: %w", err)
	}
	own, err := read(cgroup)
	if err != nil {
		return Layout{}, fmt.Errorf("cgroup: detect: %w", err)
	}
	l := parseLayout(mounts, own)
	for i, h := range l.Hierarchies {
		if !h.V2 {
			continue
		}
		controllers, err := read(h.Mount + "/cgroup.controllers")
		if err != nil {
			return Layout{}, fmt.Errorf("cgroup: detect: %w", err)
		}
		l.Hierarchies[i].Controllers = strings.Fields(controllers)
	}
	return l, nil
}

// parseLayout finds the hierarchies in the text of mountinfo and of
// /proc/self/cgroup. Mounts stand there in the order in which they were made,
// so that a later one can hide an earlier one: writing there would make
// ordinary files in whatever covers it.
func parseLayout(mounts, own string) Layout {
	var l Layout
	for line := range strings.Lines(mounts) {
		left, right, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		if !ok {
			continue
		}
		root, mount := field(left, 3), unescape(field(left, 4))
		l.Hierarchies = slices.DeleteFunc(l.Hierarchies, func(h Hierarchy) bool {
			return below(h.Mount, mount) != ""
		})
		h := Hierarchy{Mount: mount, Name: mount[strings.LastIndexByte(mount, '/')+1:]}
		switch field(right, 0) {
		case "cgroup":
			h.find(own, field(right, 2), root)
		case "cgroup2":
			h.V2 = true
			h.find(own, "", root)
		default:
			continue
		}
		if h.Self != "" && !l.has(h) {
			l.Hierarchies = append(l.Hierarchies, h)
		}
	}
	return l
}

// has tells whether the same hierarchy is known from another mount.
func (l Layout) has(h Hierarchy) bool {
	return slices.ContainsFunc(l.Hierarchies, func(o Hierarchy) bool {
		return o.V2 == h.V2 && slices.Equal(o.Controllers, h.Controllers)
	})
}

// find looks the hierarchy up in /proc/self/cgroup ("4:memory:/path", for v2
// "0::/path") by its mount options, which name the controllers. root is the
// cgroup that is mounted: not "/" inside most containers.
func (h *Hierarchy) find(own, options, root string) {
	for line := range strings.Lines(own) {
		id, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, path, _ := strings.Cut(rest, ":")
		if h.V2 != (id == "0" && controllers == "") {
			continue
		}
		if !h.V2 {
			h.Controllers = strings.Split(controllers, ",")
			if !containsAll(strings.Split(options, ","), h.Controllers) {
				continue
			}
		}
		h.Self = below(path, root)
		if h.hidden = !strings.HasPrefix(h.Self, "/") || strings.Contains(h.Self+"/", "/../"); h.hidden {
			h.Self = "/" // above the root of a cgroup namespace
		}
		return
	}
}

func containsAll(set, want []string) bool {
	return !slices.ContainsFunc(want, func(w string) bool { return !slices.Contains(set, w) })
}

// field is the nth field of a line, counted from 0.
func field(s string, n int) string {
	for ; n > 0; n-- {
		_, s, _ = strings.Cut(s, " ")
	}
	s, _, _ = strings.Cut(s, " ")
	return s
}

// below is the part of path that lies below dir, "/" if they are the same,
// "" if it lies elsewhere.
func below(path, dir string) string {
	switch {
	case path == dir:
		return "/"
	case dir == "/":
		return path
	case strings.HasPrefix(path, dir) && path[len(dir)] == '/':
		return path[len(dir):]
	}
	return ""
}

// unescape undoes the octal escapes of mountinfo for blank, tab, newline and
// backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// ErrPath is wrapped by the errors of Group about a path that names no place
// below a hierarchy.
var ErrPath = errors.New("cgroup: invalid path")

// Group is the place that cgroupsPath of config.json names, in every
// hierarchy: an absolute path lies below the root of each mount, a relative
// one below this process's own cgroup. In v2 that is the cgroup beside our
// own, because a cgroup that holds a process cannot give controllers to its
// children ("no internal processes"). Nothing is made yet. A path with an
// element "", "." or "..", or with a control character, is an error that wraps
// ErrPath.
func (l Layout) Group(path string) (Group, error) {
	name, absolute := strings.CutPrefix(path, "/")
	for element := range strings.SplitSeq(name, "/") {
		if element == "" || element == "." || element == ".." || strings.ContainsFunc(element, unicode.IsControl) {
			return Group{}, fmt.Errorf("%w %q: element %q", ErrPath, path, element)
		}
	}
	g := Group{Path: path, Pointer: "/linux/cgroupsPath"}
	for _, h := range l.Hierarchies {
		base := h.Mount
		if !absolute {
			base += h.home()
		}
		g.Places = append(g.Places, Place{Hierarchy: h, Base: base, Dir: base + "/" + name})
	}
	return g, nil
}

// home is the cgroup below which relative paths lie, "" for the root.
func (h Hierarchy) home() string {
	home := strings.TrimSuffix(h.Self, "/")
	if h.V2 && home != "" {
		return home[:strings.LastIndexByte(home, '/')]
	}
	return home
}
