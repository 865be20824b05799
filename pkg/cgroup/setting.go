package cgroup

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A setting is one value for one file of a cgroup.
type setting struct {
	pointer string // who asks: JSON pointer into config.json
	file    string // name, as long as the controller's directory is not known
	value   string
	why     string

	or     *setting // goes instead if the kernel has no such file
	absent bool     // the file may be missing: then the value holds anyway
}

func (s *setting) String() string {
	text := callText("write", s.file, s.value)
	if s.or != nil {
		text += " or " + s.or.String()
	}
	return text
}

func (s *setting) apply() error {
	err := write(s.file, s.value)
	switch {
	case !errors.Is(err, unix.ENOENT):
		return err
	case s.or != nil:
		return s.or.apply()
	case s.absent:
		return nil
	}
	return err
}

// in completes the names of the files.
func (s *setting) in(dir string) {
	s.file = dir + "/" + s.file
	if s.or != nil {
		s.or.in(dir)
	}
}

// A MissingError says that a limit needs a controller that the host has not
// mounted.
type MissingError struct {
	Pointer    string // of the limit: "/linux/resources/hugepageLimits"
	Controller string // "hugetlb"
	Version    Version
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("%s: this host has no %s controller mounted (%s)", e.Pointer, e.Controller, e.Version)
}

// invalid is the error for a value that no kernel would take.
func invalid(pointer, format string, args ...any) error {
	return fmt.Errorf("%s: %s", pointer, fmt.Sprintf(format, args...))
}

// onlyV1 is the error for a limit that version 2 gave up.
func onlyV1(pointer string) error {
	return fmt.Errorf("%s: exists in cgroup v1 only", pointer)
}

// A subject turns one part of the resources into settings for the version of
// cgroups that its controller is mounted in.
type subject struct {
	controller string
	settings   func(r *specs.LinuxResources, v2 bool) ([]setting, error)
}

// settings lists what has to be written for the limits in r, all but the
// device rules, in the order in which a new cgroup takes it.
func (g Group) settings(r *specs.LinuxResources) ([]setting, error) {
	subjects := [...]subject{
		{"memory", memory},
		{"cpu", cpu},
		{"cpuset", cpuset},
		{"pids", pids},
		{"blkio", blockIO},
		{"hugetlb", hugetlb},
		{"rdma", rdma},
		{"net_cls", networkClass},
		{"net_prio", networkPriorities},
	}
	var all []setting
	for _, s := range subjects {
		place := g.place(s.controller)
		list, err := s.settings(r, place != nil && place.V2)
		if err != nil {
			return nil, err
		}
		if len(list) == 0 {
			continue
		}
		if place == nil {
			return nil, &MissingError{list[0].pointer, s.controller, g.version()}
		}
		for i := range list {
			list[i].in(place.Dir)
		}
		all = append(all, list...)
	}
	list, err := g.unified(r.Unified)
	return append(all, list...), err
}

// place finds the hierarchy of a controller, which is named as in version 1.
func (g Group) place(controller string) *Place {
	for i, p := range g.Places {
		if slices.Contains(p.Controllers, p.controllerName(controller)) {
			return &g.Places[i]
		}
	}
	return nil
}

// controllerName is the name of a version 1 controller in this hierarchy.
func (h Hierarchy) controllerName(v1 string) string {
	switch {
	case h.V2 && v1 == "blkio":
		return "io"
	case h.V2 && v1 == "cpuacct":
		return "cpu"
	}
	return v1
}

func (g Group) version() Version {
	var l Layout
	for _, p := range g.Places {
		l.Hierarchies = append(l.Hierarchies, p.Hierarchy)
	}
	return l.Version()
}

// controllerOf is the controller whose file this is: "memory" of "memory.max".
func controllerOf(file string) string {
	name := file[strings.LastIndexByte(file, '/')+1:]
	controller, _, _ := strings.Cut(name, ".")
	return controller
}
