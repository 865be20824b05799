package cgroup

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Update changes the limits of a living cgroup; what is not set in r stays as
// it is. The device rules always stay: in version 1 there would be a moment
// without them. The kernel takes some values only in the right order (memory
// must never exceed memory and swap together, nor a burst its quota), which
// depends on what is set now: what is refused is tried again after the rest,
// as long as that gets on. An error names the limit; others may be set.
func (g Group) Update(r *specs.LinuxResources) error {
	r, err := g.complete(*r)
	if err != nil {
		return err
	}
	pending, err := g.settings(r)
	if err != nil {
		return err
	}
	for {
		var refused []setting
		var errs []error
		for _, s := range pending {
			if err := s.apply(); err != nil {
				refused = append(refused, s)
				errs = append(errs, fmt.Errorf("%s: %w", s.pointer, err))
			}
		}
		if len(refused) == len(pending) {
			return errors.Join(errs...)
		}
		pending = refused
	}
}

// complete adds what one file of version 2 holds together with the value
// that is asked for, and checks what the kernel there does not check.
func (g Group) complete(r specs.LinuxResources) (*specs.LinuxResources, error) {
	if p := g.place("cpu"); r.CPU != nil && p != nil && p.V2 && value(r.CPU.Period) != 0 && value(r.CPU.Quota) == 0 {
		text, err := read(p.Dir + "/cpu.max")
		if err != nil {
			return nil, err
		}
		c := *r.CPU
		c.Quota, r.CPU = parseMax(field(text, 0)), &c
	}
	p := g.place("memory")
	if r.Memory == nil || p == nil || !p.V2 {
		return &r, nil
	}
	m := *r.Memory
	if value(m.Swap) > 0 && value(m.Limit) == 0 {
		text, err := read(p.Dir + "/memory.max")
		if err != nil {
			return nil, err
		}
		m.Limit, r.Memory = parseMax(text), &m
	}
	if limit := value(m.Limit); limit > 0 && m.CheckBeforeUpdate != nil && *m.CheckBeforeUpdate {
		text, err := read(p.Dir + "/memory.current")
		if err != nil {
			return nil, err
		}
		if used := value(parseMax(text)); limit < used {
			return nil, invalid(memoryPointer+"limit", "%d bytes is less than the %d in use", limit, used)
		}
	}
	return &r, nil
}

// parseMax reads a number of version 2; "max" is -1.
func parseMax(text string) *int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		n = -1
	}
	return &n
}
