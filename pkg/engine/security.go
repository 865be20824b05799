package engine

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/pkg/spec"
)

const all = "ALL"

func setCapabilities(w *wall, o Options) error {
	drop, err := capabilities("--cap-drop", o.CapDrop)
	if err != nil {
		return err
	}
	add, err := capabilities("--cap-add", o.CapAdd)
	if err != nil {
		return err
	}
	dropped := func(c string) bool { return slices.Contains(drop, c) }
	if o.Privileged || slices.Contains(add, all) {
		w.leave(spec.AllCaps(slices.DeleteFunc(heldCapabilities(), dropped)))
		return nil
	}
	caps := w.Process.Capabilities.Bounding
	if dropped(all) {
		caps = nil
	}
	caps = slices.DeleteFunc(slices.Concat(caps, add), dropped)
	slices.Sort(caps)
	caps = slices.Compact(caps)
	w.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	return nil
}

// heldCapabilities are all that this process may give, sorted.
func heldCapabilities() (caps []string) {
	for c, name := range plan.CapNames {
		if held, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err == nil && held == 1 {
			caps = append(caps, name)
		}
	}
	slices.Sort(caps)
	return caps
}

// capabilities puts names in the kernel's form: net_raw is CAP_NET_RAW.
func capabilities(flag string, names []string) (list []string, err error) {
	for _, n := range names {
		n = strings.ToUpper(n)
		if n != all && !strings.HasPrefix(n, "CAP_") {
			n = "CAP_" + n
		}
		if n != all && !slices.Contains(plan.CapNames[:], n) {
			return nil, fmt.Errorf("%s: unknown capability %q", flag, n)
		}
		list = append(list, n)
	}
	return list, nil
}

func setSecurity(w *wall, o Options) error {
	w.Process.NoNewPrivileges = !o.Privileges
	if o.Privileged {
		w.leave(spec.Privileged()...)
		for _, d := range devicesBelow("/dev") {
			addNode(w.Spec, d)
		}
	}
	for _, text := range o.Security {
		key, value, given := strings.Cut(text, "=")
		if !given {
			key, value, given = strings.Cut(text, ":") // as docker took it once
		}
		if !given && key != noNewPrivileges {
			return fmt.Errorf("--security-opt: %q is not NAME=VALUE", text)
		}
		if err := w.secure(key, value); err != nil {
			return fmt.Errorf("--security-opt: %q: %w", text, err)
		}
	}
	return nil
}

const noNewPrivileges, unconfined = "no-new-privileges", "unconfined"

// secure does what one --security-opt asks for.
func (w *wall) secure(key, value string) (err error) {
	switch key {
	case noNewPrivileges:
		w.Process.NoNewPrivileges = value != "false"
		if !slices.Contains([]string{"", "true", "false"}, value) {
			return errors.New("it is neither true nor false")
		}
	case "seccomp":
		if value == unconfined {
			w.leave(spec.BrickOf("seccomp"))
			return nil
		}
		w.Linux.Seccomp, err = profile(value, w.Process.Capabilities.Bounding)
		return err
	case "apparmor":
		if w.Process.ApparmorProfile = value; value == unconfined {
			w.Process.ApparmorProfile = "" // nothing confines it unless it is asked for
		}
	case "label":
		if value != "disable" {
			return errors.New("only label=disable can be had: containers of images have no label of SELinux")
		}
	case "systempaths":
		if value != unconfined {
			return errors.New("only systempaths=unconfined can be had")
		}
		w.leave(spec.BrickOf("masks"))
	case "mask":
		for p := range strings.SplitSeq(value, ":") {
			if !path.IsAbs(p) {
				return fmt.Errorf("%q is not an absolute path", p)
			}
			w.Linux.MaskedPaths = append(w.Linux.MaskedPaths, p)
		}
	case "unmask":
		for p := range strings.SplitSeq(value, ":") {
			spec.Unmask(w.Spec, p)
		}
	default:
		return errors.New("it is unknown; there are no-new-privileges, seccomp, apparmor, label, systempaths, mask and unmask")
	}
	return nil
}
