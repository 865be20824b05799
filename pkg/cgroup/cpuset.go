package cgroup

import (
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// The cpuset controller: cpuset(7), admin-guide/cgroup-v1/cpusets.rst, and
// "Cpuset" in admin-guide/cgroup-v2.rst.

func cpuset(r *specs.LinuxResources, _ bool) ([]setting, error) {
	if r.CPU == nil {
		return nil, nil
	}
	var list []setting
	if r.CPU.Cpus != "" {
		list = append(list, setting{pointer: cpuPointer + "cpus", file: "cpuset.cpus", value: r.CPU.Cpus, why: "only these processors run the container"})
	}
	if r.CPU.Mems != "" {
		list = append(list, setting{pointer: cpuPointer + "mems", file: "cpuset.mems", value: r.CPU.Mems, why: "memory comes from these NUMA nodes only"})
	}
	return list, nil
}

// inherit gives a new version 1 cpuset, which is born empty and which no
// process can enter until it has both, the parent's value of one file. The
// parent may have been made a moment ago by another container's runtime, and
// be filled in the next; if that was killed in between, we fill it.
func inherit(dir, file string) error {
	parent := dir[:strings.LastIndexByte(dir, '/')]
	for range 100 {
		value, err := read(parent + "/" + file)
		if err != nil {
			return err
		}
		if value = strings.TrimSuffix(value, "\n"); value != "" {
			return write(dir+"/"+file, value)
		}
		time.Sleep(time.Millisecond)
	}
	if err := inherit(parent, file); err != nil { // it ends at the root, which always has a value
		return err
	}
	return inherit(dir, file)
}
