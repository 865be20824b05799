package cgroup

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// The rdma controller: admin-guide/cgroup-v1/rdma.rst, the same in version 2.

func rdma(r *specs.LinuxResources, _ bool) ([]setting, error) {
	var list []setting
	for _, device := range slices.Sorted(maps.Keys(r.Rdma)) {
		limit := r.Rdma[device]
		pointer := "/linux/resources/rdma/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(device)
		if device == "" || strings.ContainsAny(device, " \t\n") {
			return nil, invalid(pointer, "%q is no name of a device", device)
		}
		value := device
		if limit.HcaHandles != nil {
			value += " hca_handle=" + strconv.FormatUint(uint64(*limit.HcaHandles), 10)
		}
		if limit.HcaObjects != nil {
			value += " hca_object=" + strconv.FormatUint(uint64(*limit.HcaObjects), 10)
		}
		if value == device {
			return nil, invalid(pointer, "neither hcaHandles nor hcaObjects is set")
		}
		list = append(list, setting{pointer: pointer, file: "rdma.max", value: value, why: "so much of the RDMA device, and no more"})
	}
	return list, nil
}
