package cgroup

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// A host as the kernel describes it: mountinfo, /proc/self/cgroup, and for
// version 2 the controllers of the root.
type host struct{ mounts, own, controllers string }

func (h host) layout() Layout {
	l := parseLayout(h.mounts, h.own)
	for i := range l.Hierarchies {
		if l.Hierarchies[i].V2 {
			l.Hierarchies[i].Controllers = strings.Fields(h.controllers)
		}
	}
	return l
}

const rootMounts = `1 1 254:0 / / rw,relatime - ext4 /dev/vda rw
2 1 0:23 / /sys rw,relatime shared:7 - sysfs sysfs rw
`

var hosts = map[string]host{
	"hybrid": {rootMounts + `31 2 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
38 31 0:35 / /sys/fs/cgroup/blkio rw,relatime - cgroup cgroup rw,blkio
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`, "9:name=systemd:/\n8:pids:/\n7:blkio:/\n6:freezer:/\n5:devices:/\n4:memory:/job/1:2\n3:cpuset:/\n1:cpu:/\n0::/\n", ""},
	"joined": {rootMounts + `30 2 0:28 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro
31 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:30 / /sys/fs/cgroup/net_cls,net_prio rw - cgroup cgroup rw,net_cls,net_prio
33 30 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
34 30 0:32 / /sys/fs/cgroup/hugetlb rw - cgroup cgroup rw,hugetlb
35 30 0:33 / /sys/fs/cgroup/rdma rw - cgroup cgroup rw,rdma
36 30 0:34 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
37 30 0:35 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio
38 30 0:36 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
39 30 0:37 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices
`, "12:cpuset:/\n11:net_cls,net_prio:/\n10:memory:/user.slice\n9:cpu,cpuacct:/user.slice\n8:hugetlb:/\n7:rdma:/\n6:pids:/\n5:blkio:/\n4:devices:/\n", ""},
	"v2": {rootMounts + `30 2 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
`, "0::/user.slice/user-0.slice/session-1.scope\n", "cpuset cpu io memory hugetlb pids rdma misc\n"},
	"nested": {rootMounts + `50 2 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
51 50 0:32 /docker/c1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
52 50 0:33 /docker/c1 /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids
`, "2:pids:/docker/c1\n1:memory:/docker/c1/own\n", ""},
	"covered": {rootMounts + `30 2 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
32 30 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
33 32 0:50 / /sys/fs/cgroup/unified rw - tmpfs tmpfs rw
`, "1:pids:/\n0::/\n", ""},
	"namespaced": {rootMounts + `30 2 0:26 /../.. /mnt/a\040b rw - cgroup2 cgroup2 rw
`, "0::/../other\n", "pids\n"},
	"bare": {rootMounts, "0::/\n", ""},
}

func TestParseLayout(t *testing.T) {
	tests := []struct {
		host    string
		version Version
		want    string // mount, own cgroup and controllers of each hierarchy
	}{
		{"hybrid", Hybrid, "cpu / [cpu], cpuset / [cpuset], memory /job/1:2 [memory], devices / [devices], freezer / [freezer], blkio / [blkio], pids / [pids], systemd / [name=systemd], unified / []"},
		{"joined", V1, "cpu,cpuacct /user.slice [cpu cpuacct], net_cls,net_prio / [net_cls net_prio], memory /user.slice [memory], hugetlb / [hugetlb], rdma / [rdma], pids / [pids], blkio / [blkio], cpuset / [cpuset], devices / [devices]"},
		{"v2", V2, "cgroup /user.slice/user-0.slice/session-1.scope [cpuset cpu io memory hugetlb pids rdma misc]"},
		{"nested", V1, "memory /own [memory], pids / [pids]"},
		{"covered", V1, "pids / [pids]"},
		{"namespaced", V2, "a b / [pids]"},
		{"bare", None, ""},
	}
	for _, tt := range tests {
		t.Run(tt.host, func(t *testing.T) {
			l := hosts[tt.host].layout()
			var got []string
			for _, h := range l.Hierarchies {
				if !strings.HasSuffix(h.Mount, "/"+h.Name) {
					t.Errorf("mount %q of %q", h.Mount, h.Name)
				}
				got = append(got, fmt.Sprint(h.Name, " ", h.Self, " ", h.Controllers))
			}
			if s := strings.Join(got, ", "); s != tt.want {
				t.Errorf("got  %s\nwant %s", s, tt.want)
			}
			if l.Version() != tt.version {
				t.Errorf("version %v, want %v", l.Version(), tt.version)
			}
		})
	}
}

func TestGroupPlaces(t *testing.T) {
	tests := []struct{ host, path, hierarchy, want string }{
		{"hybrid", "/minictr/x", "memory", "/sys/fs/cgroup/memory/minictr/x"},
		{"hybrid", "minictr/x", "memory", "/sys/fs/cgroup/memory/job/1:2/minictr/x"},
		{"hybrid", "x", "unified", "/sys/fs/cgroup/unified/x"},
		{"v2", "/x", "cgroup", "/sys/fs/cgroup/x"},
		{"v2", "x", "cgroup", "/sys/fs/cgroup/user.slice/user-0.slice/x"},
		{"nested", "/x", "memory", "/sys/fs/cgroup/memory/x"},
		{"nested", "x", "memory", "/sys/fs/cgroup/memory/own/x"},
	}
	for _, tt := range tests {
		g, err := hosts[tt.host].layout().Group(tt.path)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range g.Places {
			if p.Name == tt.hierarchy && p.Dir != tt.want {
				t.Errorf("%s on %s: %s, want %s", tt.path, tt.host, p.Dir, tt.want)
			}
		}
	}
	for _, path := range []string{"", "/", "//", "/a//b", "a/", "..", "/../a", "/a/../b", "a/.", "/a\nb", "/a\x00b"} {
		if g, err := hosts["hybrid"].layout().Group(path); !errors.Is(err, ErrPath) || g.Places != nil {
			t.Errorf("%q: %v, %v; want ErrPath", path, g, err)
		}
	}
}

func FuzzParseLayout(f *testing.F) {
	for _, h := range hosts {
		f.Add(h.mounts, h.own)
	}
	f.Fuzz(func(t *testing.T, mounts, own string) {
		for _, h := range parseLayout(mounts, own).Hierarchies {
			if !strings.HasPrefix(h.Self, "/") || strings.Contains(h.Self, "/../") {
				t.Errorf("own cgroup %q", h.Self)
			}
		}
	})
}
