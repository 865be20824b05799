package wall

func (p *process) refused(call string) (bool, error) {
	return p.status["Seccomp"] != "0" && (call == "keyctl" || p.status["CapEff"] == "00000000800405fb"), nil
}
