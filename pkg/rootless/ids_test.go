package rootless

import (
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestSubordinate(t *testing.T) {
	const file = `
# a comment
other:100000:65536
me:200000:65536
1000:400000:10
me::5
me:1:0
me:4294967290:10
me:5:x
me:5:6:7
10000:1:1
me:500000:4294967290
me:600000:1`
	want := []specs.LinuxIDMapping{
		{ContainerID: 1, HostID: 200000, Size: 65536}, {ContainerID: 65537, HostID: 400000, Size: 10}, {ContainerID: 65547, HostID: 600000, Size: 1},
	}
	if got := subordinate(file, "me", "1000"); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestCount(t *testing.T) {
	for _, test := range []struct {
		users, groups string
		want          uint32
	}{
		{"         0       1000          1\n         1     100000      65536\n", "0 1000 1\n1 100000 65536\n", 65537},
		{"0 1000 1\n", "0 1000 1\n", 1},
		{"0 1000 1\n1 100000 10\n", "0 1000 1\n1 100000 5\n", 6},
		{"0 1000 1\n2 100000 10\n", "0 1000 1\n2 100000 10\n", 1},
		{"1000 1000 1\n", "1000 1000 1\n", 0},
		{"", "", 0},
	} {
		if got := (IDs{parse(test.users), parse(test.groups)}).Count(); got != test.want {
			t.Errorf("%q, %q: %d, not %d", test.users, test.groups, got, test.want)
		}
	}
}
