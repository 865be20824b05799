// Command probe runs as a container's program and asks the kernel, from
// inside, what its wall lets through. It prints what it has seen as JSON, and
// then waits until it is killed. It knows nothing of package wall, and shares
// no code with it.
//
// It is given a name by which it is found, and how often it forks at most, to
// see when the kernel refuses.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sys/unix"
)

// Seen is all that the probe finds out.
type Seen struct {
	PID        int                 `json:"pid"`
	Namespaces map[string]string   `json:"namespaces"` // links of /proc/self/ns
	UIDMap     [][3]uint32         `json:"uid_map"`
	GIDMap     [][3]uint32         `json:"gid_map"`
	Caps       map[string][]string `json:"caps"`
	Tries      map[string]string   `json:"tries"` // what a capability is for, done: "" or an error
	NoNewPrivs bool                `json:"no_new_privs"`
	Mode       int                 `json:"mode"` // of seccomp(2)
	Label      string              `json:"label"`
	Mounts     int                 `json:"mounts"`
	Root       int64               `json:"root"`      // as statfs(2) has its file system
	RootFile   [2]uint64           `json:"root_file"` // its device and inode
	ReadOnly   bool                `json:"read_only"`
	Files      map[string]Opened   `json:"files"` // of /proc and /sys
	Devices    map[string]Device   `json:"devices"`
	Mknod      map[string]string   `json:"mknod"` // "c 1:3": "" or an error
	Forks      int                 `json:"forks"` // how often it could
	Cgroup     map[string]string   `json:"cgroup"`
	Values     map[string]string   `json:"values"` // of what is not walled
	Calls      Calls               `json:"calls"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

// run is the probe, or one of the processes that it begins.
func run(args []string) error {
	n := make([]int, len(args))
	for i := range args {
		n[i], _ = strconv.Atoi(args[i]) // the others are words
	}
	switch {
	case len(args) == 3 && args[0] == "calls":
		calls(n[1], n[2])
		return nil
	case len(args) == 1 && args[0] == "try":
		return json.NewEncoder(os.Stdout).Encode(tries())
	}
	most := 0
	if len(args) == 2 {
		most = n[1]
	}
	s, err := ask(most)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(s)
	}
	for err == nil {
		_ = unix.Pause()
	}
	return err
}

// ask finds out everything.
func ask(most int) (s Seen, err error) {
	s = Seen{PID: os.Getpid(), Namespaces: make(map[string]string), UIDMap: idMap("uid_map"), GIDMap: idMap("gid_map")}
	links, err := os.ReadDir("/proc/self/ns")
	if err != nil {
		return s, err
	}
	for _, link := range links {
		s.Namespaces[link.Name()], _ = os.Readlink("/proc/self/ns/" + link.Name())
	}
	if s.Caps, err = capabilities(); err != nil {
		return s, err
	}
	out, err := again("try").Output()
	if err == nil {
		err = json.Unmarshal(out, &s.Tries)
	}
	if err != nil {
		return s, fmt.Errorf("try: %w", err)
	}
	nnp, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil {
		return s, fmt.Errorf("PR_GET_NO_NEW_PRIVS: %w", err)
	}
	if s.Mode, err = unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0); err != nil {
		return s, fmt.Errorf("PR_GET_SECCOMP: %w", err)
	}
	if err := s.root(); err != nil {
		return s, err
	}
	s.NoNewPrivs, s.Label = nnp == 1, text("/proc/self/attr/current")
	s.Files, s.Devices, s.Mknod, s.Cgroup, s.Values = files(), devices(), nodes(), limits(), values()
	s.Forks, s.Calls = forks(most), askCalls()
	return s, nil
}

// again is this program once more, in a container that may have no /dev/null.
func again(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Stdin, cmd.Stderr = os.Stdin, os.Stderr
	return cmd
}

// text is what a file says, or "".
func text(name string) string {
	b, _ := os.ReadFile(name)
	return string(bytes.TrimRight(b, "\n\x00"))
}

func idMap(name string) (ranges [][3]uint32) {
	for line := range bytes.Lines([]byte(text("/proc/self/" + name))) {
		var r [3]uint32
		if _, err := fmt.Sscan(string(line), &r[0], &r[1], &r[2]); err == nil {
			ranges = append(ranges, r)
		}
	}
	return ranges
}

// say is "", or what went wrong.
func say(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}
