package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// programs is the environment variable that names the directory of programs
// that are built already. What it says, in a virtual machine, is true there.
const programs = "MINICTR_BENCH_PROGRAMS"

// measureInMachine runs this program in a virtual machine, where cgroup is v2
// alone. The peers go there with their libraries.
func measureInMachine(rounds, paused int) (err error) {
	p := place{}
	if p.dir, err = os.MkdirTemp("", "minictr-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(p.dir)) }()
	if err := p.build(); err != nil {
		return err
	}
	args := []string{
		"--data-root", p.dir + "/images", "--root", p.dir + "/run", "vm", "--cpus", "2", "-m", "2g",
		"-e", programs + "=/programs", "-e", "PATH=" + os.Getenv("PATH"), "-e", inside + "=1",
	}
	for name := range ours {
		args = append(args, "-v", filepath.Join(p.dir, name)+":/programs/"+name)
	}
	files := []string{"/bin/busybox"}
	for _, peer := range peers {
		program, missing := exec.LookPath(peer)
		if missing != nil {
			continue
		}
		libraries, err := exec.Command("ldd", program).Output()
		if err != nil {
			return fmt.Errorf("ldd %s: %w", program, err)
		}
		files = append(files, program)
		for word := range strings.FieldsSeq(string(libraries)) {
			if filepath.IsAbs(word) {
				files = append(files, word)
			}
		}
	}
	slices.Sort(files)
	for _, file := range slices.Compact(files) {
		args = append(args, "-v", file+":"+file)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(p.dir+"/minictr", append(args, "--exec", "tiny", self, fmt.Sprintf("-n=%d", rounds), fmt.Sprintf("-paused=%d", paused))...)
	if cmd.Dir, err = os.MkdirTemp(p.dir, "empty"); err != nil { // it goes into the machine, too
		return err
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}
