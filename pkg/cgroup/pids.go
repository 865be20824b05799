package cgroup

import (
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// The pids controller: admin-guide/cgroup-v1/pids.rst, and "PID" in
// admin-guide/cgroup-v2.rst. It counts tasks, that is threads too.

func pids(r *specs.LinuxResources, v2 bool) ([]setting, error) {
	if r.Pids == nil || r.Pids.Limit == nil {
		return nil, nil
	}
	value, why := "max", "as many processes and threads as the host allows"
	if limit := *r.Pids.Limit; limit >= 0 {
		why = "one process or thread more than this, and fork fails"
		// CLONE_INTO_CGROUP charges the first process here as well, and would
		// be refused by 0. With that process inside, 0 and 1 are the same.
		if v2 {
			limit = max(limit, 1)
		}
		value = strconv.FormatInt(limit, 10)
	}
	return []setting{{pointer: "/linux/resources/pids/limit", file: "pids.max", value: value, why: why}}, nil
}
