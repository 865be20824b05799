package vm_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minictr/minictr/pkg/spec"
)

// policy is one of SELinux's: a program with the type box_t may make files
// only where they have the type box_file_t. What the policy does not speak of
// is allowed; a file on a nosuid mount is no way to that type.
const policy = `(handleunknown allow)
(mls false)
(policycap nnp_nosuid_transition)
(class process (transition dyntransition))
(class process2 (nnp_transition nosuid_transition))
(class file (create entrypoint))
(classorder (process process2 file))
(sid kernel) (sid security) (sid unlabeled)
(sidorder (kernel security unlabeled))
(user u) (role r) (type kernel_t) (type box_t) (type box_file_t)
(category c0) (categoryorder (c0)) (sensitivity s0) (sensitivityorder (s0)) (sensitivitycategory s0 (c0))
(level low (s0)) (userlevel u low) (userrange u (low low)) (userrole u r)
(roletype r kernel_t) (roletype r box_t) (roletype r box_file_t)
(sidcontext kernel (u r kernel_t (low low)))
(sidcontext security (u r kernel_t (low low)))
(sidcontext unlabeled (u r kernel_t (low low)))
(typeattribute any) (typeattributeset any (kernel_t box_t box_file_t))
(allow kernel_t any (process (transition dyntransition)))
(allow kernel_t box_t (process2 (nnp_transition)))
(allow kernel_t any (file (create entrypoint)))
(allow box_t box_file_t (file (create)))
(allow box_t kernel_t (file (entrypoint)))
`

// TestSELinux labels a container, its mounts and a process that enters it, on
// a kernel that has SELinux.
func TestSELinux(t *testing.T) {
	dir := bundle(t)
	if err := os.WriteFile(filepath.Join(dir, "policy.cil"), []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	compile := exec.Command("secilc", "-c", "33", "-o", "policy", "-f", "/dev/null", "policy.cil")
	compile.Dir = dir
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("secilc (Debian: secilc): %v: %s", err, out)
	}
	s := spec.Default()
	s.Process.Args = []string{"busybox", "sh", "-c", `busybox cat /proc/self/attr/current; echo
		busybox grep -c 'context="\?u:r:box_file_t' /proc/mounts; busybox touch /dev/shm/made && echo made; busybox touch /tmp/refused; echo ready; exec busybox sleep 100`}
	s.Process.SelinuxLabel, s.Linux.MountLabel = "u:r:box_t", "u:r:box_file_t"
	if err := spec.Write(dir, s); err != nil {
		t.Fatal(err)
	}
	r := finish(t, command(t, booted("-m", "1g", "--append", "security=selinux", "-v", machine.args[0]+":/minictr", "-v", dir+":/bundle", "tiny", "sh", "-c",
		`mount -t selinuxfs s /sys/fs/selinux; cat /bundle/policy > /sys/fs/selinux/load && echo 1 > /sys/fs/selinux/enforce || exit
		/minictr run -d --bundle /bundle box > /out 2>&1 < /dev/null || exit; until grep -q ready /out; do sleep 0.1; done; cat /out
		/minictr exec --process-label u:r:box_t box busybox sh -c 'busybox cat /proc/self/attr/current; busybox touch /tmp/refused'
		/minictr exec --process-label u:r:nosuch_t box busybox true; /minictr delete -f box`)...))
	if strings.Count(r.stdout, "u:r:box_t") != 2 || !strings.Contains(r.stdout, "\n4\n") || strings.Count(r.stdout, "made") != 1 || strings.Count(r.stdout+r.stderr, "/tmp/refused: Permission denied") != 2 {
		t.Errorf("it is not confined: %v", r)
	}
	if !strings.Contains(r.stderr, `/process/selinuxLabel: `) || !strings.Contains(r.stderr, "invalid argument") {
		t.Errorf("a label that the policy does not know: %v", r)
	}
}
