package step

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A fact is one of what /proc tells of a process, proc(5).
type fact struct{ name, value string }

// facts are those that the bricks of a wall change.
type facts struct {
	list   []fact
	mounts []mount
}

// A mount is known to the kernel by a number.
type mount struct{ id, text string }

const (
	links  = "ns/user ns/pid ns/net ns/ipc ns/uts ns/cgroup ns/time ns/mnt cwd exe"
	files  = "comm uid_map gid_map oom_score_adj personality"
	status = " Umask NSpid NSsid Uid Gid Groups SigBlk CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp Seccomp_filters "
)

// factsOf reads what there is to read of a process: what can't be read is no
// fact, and what is not in both of two is no change.
func factsOf(pid string) (f facts) {
	dir := "/proc/" + pid + "/"
	add := func(name, value string) {
		f.list = append(f.list, fact{name, strings.Join(strings.Fields(value), " ")})
	}
	for name := range strings.FieldsSeq(links) {
		if target, err := os.Readlink(dir + name); err == nil {
			if strings.HasPrefix(name, "ns/") { // pid:[4026531836]
				_, target, _ = strings.Cut(strings.TrimSuffix(target, "]"), "[")
			}
			add(name, target)
		}
	}
	f.mountinfo(dir, add)
	for name := range strings.FieldsSeq(files) {
		if text, err := os.ReadFile(dir + name); err == nil {
			add(name, string(text))
		}
	}
	lines(dir+"status", func(line string) {
		if name, value, _ := strings.Cut(line, ":"); strings.Contains(status, " "+name+" ") {
			add(name, value)
		}
	})
	lines(dir+"cgroup", func(line string) {
		_, line, _ = strings.Cut(line, ":")
		hierarchy, path, _ := strings.Cut(line, ":")
		add(strings.TrimSpace("cgroup "+hierarchy), path)
	})
	const column = 26 // of the numbers
	lines(dir+"limits", func(line string) {
		if len(line) > column {
			add(strings.TrimSpace(line[:column]), line[column:])
		}
	})
	return f
}

// lines reads a file line by line.
func lines(name string, do func(line string)) {
	text, _ := os.ReadFile(name) // no fact
	for line := range strings.Lines(string(text)) {
		do(strings.TrimSuffix(line, "\n"))
	}
}

// mountinfo adds the mounts that a process can reach, which of them is its
// root, and how many take part in what happens elsewhere.
func (f *facts) mountinfo(dir string, add func(name, value string)) {
	var root unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir+"root", 0, unix.STATX_MNT_ID, &root)
	shared, slave := 0, 0
	lines(dir+"mountinfo", func(line string) {
		own, super, _ := strings.Cut(line, " - ")
		words, kind := strings.Fields(own), strings.Fields(super)
		if len(words) < 6 || len(kind) == 0 {
			return
		}
		mode, _, _ := strings.Cut(words[5], ",")
		f.mounts = append(f.mounts, mount{words[0], fmt.Sprintf("%s (%s %s)", words[4], kind[0], mode)})
		if err == nil && words[0] == strconv.FormatUint(root.Mnt_id, 10) {
			add("root", words[3]+" of "+kind[0])
		}
		for _, tag := range words[6:] {
			switch name, _, _ := strings.Cut(tag, ":"); name {
			case "shared":
				shared++
			case "master":
				slave++
			}
		}
	})
	add("propagation", fmt.Sprintf("%d mounts shared, %d slaves", shared, slave))
}

const empty = "(empty)"

// mostMounts is how many mounts are named that come, go or change in one step.
const mostMounts = 4

// changes lists what differs in other facts.
func (f facts) changes(now facts) (list []string) {
	for _, n := range now.list {
		i := slices.IndexFunc(f.list, func(old fact) bool { return old.name == n.name })
		if i >= 0 && f.list[i].value != n.value {
			list = append(list, fmt.Sprintf("%s: %s -> %s", n.name, cmp.Or(f.list[i].value, empty), cmp.Or(n.value, empty)))
		}
	}
	gone, came := without(f.mounts, now.mounts), without(now.mounts, f.mounts)
	var moved, less, more []string
	for _, m := range gone {
		if i := slices.IndexFunc(came, func(c mount) bool { return c.id == m.id }); i >= 0 {
			moved = append(moved, m.text+" -> "+came[i].text)
			came = slices.Delete(came, i, i+1)
		} else {
			less = append(less, "- "+m.text)
		}
	}
	for _, m := range came {
		more = append(more, "+ "+m.text)
	}
	for _, kind := range [...][]string{moved, less, more} {
		for i, change := range kind {
			if i == mostMounts {
				list = append(list, fmt.Sprintf("mounts: %d more likewise", len(kind)-i))
				break
			}
			list = append(list, "mounts: "+change)
		}
	}
	return list
}

// without is what a list has more than another, by what is said of a mount: a
// copy of all mounts is no change.
func without(list, other []mount) (rest []mount) {
	other = slices.Clone(other)
	for _, m := range list {
		if i := slices.IndexFunc(other, func(o mount) bool { return o.text == m.text }); i >= 0 {
			other = slices.Delete(other, i, i+1)
		} else {
			rest = append(rest, m)
		}
	}
	return rest
}
