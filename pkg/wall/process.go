package wall

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/minictr/minictr/pkg/sys"
)

// A process is one that is looked at. It can end at any moment; then reading
// its files fails with ESRCH or ENOENT.
type process struct {
	pid     int
	inside  []int // its number in each PID namespace, the innermost last
	command string
	status  map[string]string // /proc/PID/status: proc_pid_status(5)
	host    map[string]string // that of who looks
}

func look(pid int) (*process, error) {
	p := &process{pid: pid}
	var err error
	if p.status, err = status(strconv.Itoa(pid)); err != nil {
		return nil, err
	}
	if p.host, err = status("self"); err != nil {
		return nil, err
	}
	for n := range strings.FieldsSeq(p.status["NSpid"]) {
		number, err := strconv.Atoi(n)
		if err != nil {
			return nil, err
		}
		p.inside = append(p.inside, number)
	}
	p.command, err = p.read("comm")
	return p, err
}

// status reads the fields of a process's status.
func status(who string) (map[string]string, error) {
	text, err := sys.ReadFile("/proc/" + who + "/status")
	if err != nil {
		return nil, err
	}
	fields := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			fields[name] = strings.TrimSpace(value)
		}
	}
	return fields, nil
}

// read reads one of the process's files in /proc.
func (p *process) read(name string) (string, error) {
	text, err := sys.ReadFile(fmt.Sprintf("/proc/%d/%s", p.pid, name))
	return strings.TrimSuffix(string(text), "\n"), err
}
