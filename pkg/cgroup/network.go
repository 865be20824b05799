package cgroup

import (
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// The net_cls and net_prio controllers, of version 1 only:
// admin-guide/cgroup-v1/net_cls.rst and net_prio.rst. In version 2 BPF
// programs do their work.

func networkClass(r *specs.LinuxResources, _ bool) ([]setting, error) {
	if r.Network == nil || r.Network.ClassID == nil {
		return nil, nil
	}
	return []setting{{
		pointer: "/linux/resources/network/classID", file: "net_cls.classid",
		value: strconv.FormatUint(uint64(*r.Network.ClassID), 10),
		why:   "packets of the container carry this class, for tc and iptables",
	}}, nil
}

func networkPriorities(r *specs.LinuxResources, _ bool) ([]setting, error) {
	if r.Network == nil {
		return nil, nil
	}
	var list []setting
	for i, p := range r.Network.Priorities {
		pointer := "/linux/resources/network/priorities/" + strconv.Itoa(i)
		if p.Name == "" || strings.ContainsAny(p.Name, " \t\n") {
			return nil, invalid(pointer, "%q is no name of a network interface", p.Name)
		}
		list = append(list, setting{
			pointer: pointer, file: "net_prio.ifpriomap",
			value: p.Name + " " + strconv.FormatUint(uint64(p.Priority), 10),
			why:   "packets of the container leave this interface with that priority",
		})
	}
	return list, nil
}
