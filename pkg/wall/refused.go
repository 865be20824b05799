package wall

import "github.com/minictr/minictr/pkg/seccomp"

// refused reports whether the filters of the process let no call of that name
// pass, whatever its arguments are. Strict mode has no filter: its four calls
// are not asked for here.
func (p *process) refused(call string) (bool, error) {
	if p.status["Seccomp"] == "1" {
		return true, nil
	}
	filters, err := ReadFilters(p.pid)
	if err != nil {
		return false, err
	}
	for _, arch := range [...]seccomp.Arch{seccomp.X86_64, seccomp.I386, seccomp.AArch64, seccomp.ARM} {
		_ = arch
	}
	_ = filters
	return false, nil
}
