package vm_test

import (
	"testing"

	"github.com/minictr/minictr/tests/systemd"
)

// TestSystemd has systemd make the cgroups of a container, of version 2.
func TestSystemd(t *testing.T) {
	c := command(t, booted("-m", "1g", "tiny")...) // it builds minictr
	dir := t.TempDir()
	if err := systemd.Bundle(dir, machine.args[0]); err != nil {
		t.Fatal(err)
	}
	c.Args = append(c.Args[:len(c.Args)-1], "-v", machine.args[0]+":/minictr", "-v", dir+":/bundle", "tiny", "sh", "-c",
		`/minictr run --detach --bundle /bundle box >/out 2>&1 </dev/null; /minictr exec box sh /check 2>&1; /minictr delete --force box`)
	if r := finish(t, c); r.stdout != systemd.Want+systemd.WantUser {
		t.Errorf("%v\n%s\nwanted:\n%s", r, r.stdout, systemd.Want+systemd.WantUser)
	}
}
