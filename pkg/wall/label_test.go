package wall

import (
	"testing"

	"github.com/minictr/minictr/pkg/cgroup"
	"github.com/minictr/minictr/pkg/lang"
)

// TestLabelled has the labels that AppArmor and SELinux give in their manuals:
// apparmor(7), selinux(8).
func TestLabelled(t *testing.T) {
	for _, tt := range []struct {
		module, inside, host string
		permissive           bool
		want                 State
	}{
		{"", "", "", false, Missing},
		{"AppArmor", "unconfined", "unconfined", false, Missing},
		{"AppArmor", "docker-default (enforce)", "unconfined", false, Walled},
		{"AppArmor", "docker-default (complain)", "unconfined", false, Missing},
		{"AppArmor", "firefox (unconfined)", "unconfined", false, Missing},
		{"AppArmor", "sshd (enforce)", "sshd (enforce)", false, Shared},
		{"SELinux", "system_u:system_r:container_t:s0:c1,c2", "unconfined_u:unconfined_r:unconfined_t:s0", false, Walled},
		{"SELinux", "system_u:system_r:container_t:s0:c1,c2", "unconfined_u:unconfined_r:unconfined_t:s0", true, Missing},
		{"SELinux", "unconfined_u:unconfined_r:unconfined_t:s0", "unconfined_u:unconfined_r:unconfined_t:s0", false, Missing},
		{"SELinux", "system_u:system_r:init_t:s0", "system_u:system_r:init_t:s0", false, Shared},
	} {
		state, means := labelled(tt.module, tt.inside, tt.host, tt.permissive)
		if state != tt.want {
			t.Errorf("%+v: %s, %s", tt, state, means)
		}
		for _, text := range []string{means, tt.module + " label " + tt.inside} {
			if _, ok := lang.Translate(text); !ok {
				t.Errorf("there is no Korean for %q", text)
			}
		}
	}
}

// TestUnseen has a controller whose cgroups are out of sight.
func TestUnseen(t *testing.T) {
	b := Brick{State: Missing}
	seen := cgroup.Limits{Seen: []string{"blkio"}}
	if unseen(&b, seen, "io", "blkio"); b.State != Missing {
		t.Errorf("blkio is seen: %+v", b)
	}
	unseen(&b, seen, "memory")
	_, inside := lang.Translate(b.Inside)
	_, means := lang.Translate(b.Means)
	if b.State != Unknown || !inside || !means {
		t.Errorf("memory is not seen: %+v", b)
	}
}
