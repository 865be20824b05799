package cgroup

import (
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// The hugetlb controller: admin-guide/cgroup-v1/hugetlb.rst, and "HugeTLB" in
// admin-guide/cgroup-v2.rst.

// hugetlb limits what is used and what is reserved: without the second, a
// process would be refused by SIGBUS at a page fault instead of by mmap(2).
func hugetlb(r *specs.LinuxResources, v2 bool) ([]setting, error) {
	var list []setting
	for i, h := range r.HugepageLimits {
		pointer := "/linux/resources/hugepageLimits/" + strconv.Itoa(i)
		if !pageSize(h.Pagesize) {
			return nil, invalid(pointer+"/pageSize", "%q is no size such as 64KB, 2MB or 1GB", h.Pagesize)
		}
		end := ".limit_in_bytes"
		if v2 {
			end = ".max"
		}
		n := strconv.FormatUint(h.Limit, 10)
		list = append(list,
			setting{pointer: pointer, file: "hugetlb." + h.Pagesize + end, value: n, why: "huge pages of this size: no more bytes are used"},
			setting{pointer: pointer, file: "hugetlb." + h.Pagesize + ".rsvd" + end, value: n, why: "and no more are reserved by mmap, so that it fails there and not later"})
	}
	return list, nil
}

// pageSize tells whether s is a number and KB, MB or GB.
func pageSize(s string) bool {
	digits := strings.TrimRight(s, "KMGB")
	_, err := strconv.ParseUint(digits, 10, 32)
	switch s[len(digits):] {
	case "KB", "MB", "GB":
		return err == nil
	}
	return false
}
