package spec

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// An Image is how an image says that its containers run: the ImageConfig of
// the image specification, config.md. The Go type there can be converted; it
// isn't used, because its package compiles regular expressions at start.
type Image struct {
	User         string
	ExposedPorts map[string]struct{}
	Env          []string
	Entrypoint   []string
	Cmd          []string
	Volumes      map[string]struct{}
	WorkingDir   string
	Labels       map[string]string
	StopSignal   string
	ArgsEscaped  bool
}

// A FileReader reads a small file of an image, by its path in the image.
type FileReader func(path string) ([]byte, error)

// StopSignal is the annotation that keeps an image's stop signal.
const StopSignal = "org.opencontainers.image.stopSignal"

// SetImage makes the spec run what an image says, conversion.md of the image
// specification: its command, environment, working directory, user, labels
// and stop signal. Args, if any, take the place of Cmd; entrypoint, if not
// nil, that of Entrypoint and Cmd.
func SetImage(s *specs.Spec, c Image, entrypoint, args []string, read FileReader) error {
	switch {
	case entrypoint != nil:
		s.Process.Args = slices.Concat(entrypoint, args)
	case len(args) > 0:
		s.Process.Args = slices.Concat(c.Entrypoint, args)
	default:
		s.Process.Args = slices.Concat(c.Entrypoint, c.Cmd)
	}
	if len(s.Process.Args) == 0 {
		return errors.New("the image names no command to run: add one after the image")
	}
	for _, e := range c.Env {
		SetEnv(s, e)
	}
	if c.WorkingDir != "" {
		s.Process.Cwd = "/" + strings.TrimPrefix(c.WorkingDir, "/")
	}
	for name, value := range c.Labels {
		if !IsOurs(name) { // those are not the image's to give
			Annotate(s, name, value)
		}
	}
	if c.StopSignal != "" {
		Annotate(s, StopSignal, c.StopSignal)
	}
	return SetUser(s, c.User, read)
}

// IsOurs says whether an annotation is an order to this runtime.
func IsOurs(name string) bool { return strings.HasPrefix(name, ours) }

// Annotate sets an annotation.
func Annotate(s *specs.Spec, name, value string) {
	if s.Annotations == nil {
		s.Annotations = make(map[string]string)
	}
	s.Annotations[name] = value
}

// SetEnv sets NAME=VALUE in the program's environment. A text that isn't of
// that form is left out: images may hold anything.
func SetEnv(s *specs.Spec, e string) {
	name, _, ok := strings.Cut(e, "=")
	if !ok || name == "" {
		return
	}
	i := slices.IndexFunc(s.Process.Env, func(have string) bool { return strings.HasPrefix(have, name+"=") })
	if i < 0 {
		s.Process.Env = append(s.Process.Env, e)
	} else {
		s.Process.Env[i] = e
	}
}

// SetUser sets the user from USER[:GROUP], each a name or a number, with the
// group, the groups and the home directory of the image's own /etc/passwd and
// /etc/group, passwd(5). A number is never looked up as a name.
func SetUser(s *specs.Spec, user string, read FileReader) error {
	name, group, hasGroup := strings.Cut(user, ":")
	name = cmp.Or(name, "0")
	u := specs.User{}
	passwd, err := entries(read, "/etc/passwd", 7)
	if err != nil {
		return err
	}
	groups, err := entries(read, "/etc/group", 4)
	if err != nil {
		return err
	}
	var home, login string
	uid, numeric, err := number(name)
	if err != nil {
		return fmt.Errorf("user %q: %w", user, err)
	}
	i := slices.IndexFunc(passwd, func(f []string) bool {
		if numeric {
			return f[2] == strconv.FormatUint(uint64(uid), 10)
		}
		return f[0] == name
	})
	switch {
	case i >= 0:
		login, home = passwd[i][0], passwd[i][5]
		if u.UID, err = id(passwd[i][2]); err != nil {
			return fmt.Errorf("user %q in the image's /etc/passwd: %w", user, err)
		}
		if u.GID, err = id(passwd[i][3]); err != nil {
			return fmt.Errorf("user %q in the image's /etc/passwd: %w", user, err)
		}
	case numeric:
		u.UID = uid
	default:
		return fmt.Errorf("user %q: no such user in the image's /etc/passwd", name)
	}
	var more []uint32
	if hasGroup {
		if u.GID, err = groupOf(group, groups); err != nil {
			return fmt.Errorf("user %q: %w", user, err)
		}
	} else if login != "" {
		more = membership(login, u.GID, groups)
	}
	// A set-group-ID program changes the group, but not this one: so nobody gets rid
	// of a group that is denied something.
	u.AdditionalGids = append([]uint32{u.GID}, more...)
	s.Process.User = u
	if !HasHome(s) {
		SetEnv(s, "HOME="+cmp.Or(home, "/"))
	}
	return nil
}

// AddGroups adds supplementary groups, each a number or a name in the image's
// own /etc/group.
func AddGroups(s *specs.Spec, names []string, read FileReader) error {
	if len(names) == 0 {
		return nil
	}
	groups, err := entries(read, "/etc/group", 4)
	if err != nil {
		return err
	}
	for _, name := range names {
		gid, err := groupOf(name, groups)
		if err != nil {
			return err
		}
		if u := &s.Process.User; !slices.Contains(u.AdditionalGids, gid) {
			u.AdditionalGids = append(u.AdditionalGids, gid)
		}
	}
	return nil
}

// HasHome says whether the environment says where the user is at home.
func HasHome(s *specs.Spec) bool {
	return slices.ContainsFunc(s.Process.Env, func(e string) bool { return strings.HasPrefix(e, "HOME=") })
}

// Home is where /etc/passwd says that a user is at home; "/" if it does not.
func Home(read FileReader, uid uint32) string {
	passwd, _ := entries(read, "/etc/passwd", 7)
	for _, f := range passwd {
		if f[2] == strconv.FormatUint(uint64(uid), 10) && f[5] != "" {
			return f[5]
		}
	}
	return "/"
}

func groupOf(group string, groups [][]string) (uint32, error) {
	gid, numeric, err := number(group)
	if numeric || err != nil {
		return gid, err
	}
	for _, f := range groups {
		if f[0] == group {
			if gid, err = id(f[2]); err != nil {
				err = fmt.Errorf("group %q in the image's /etc/group: %w", group, err)
			}
			return gid, err
		}
	}
	return 0, fmt.Errorf("no such group %q in the image's /etc/group", group)
}

// membership lists the groups that name the user, besides its first one.
func membership(login string, first uint32, groups [][]string) (gids []uint32) {
	for _, f := range groups {
		gid, numeric, err := number(f[2])
		if err == nil && numeric && gid != first && slices.Contains(strings.Split(f[3], ","), login) {
			gids = append(gids, gid)
		}
	}
	return gids
}

// number reads an id. What looks like a number but is none that an id can be
// is an error, never a name.
func number(s string) (id uint32, numeric bool, err error) {
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err == nil && n >= 0 && n <= maxID:
		return uint32(n), true, nil
	case err == nil || errors.Is(err, strconv.ErrRange):
		return 0, true, fmt.Errorf("%s is no id from 0 to %d", s, maxID)
	}
	return 0, false, nil
}

// id is number of a text that can be nothing else.
func id(s string) (uint32, error) {
	n, numeric, err := number(s)
	if err == nil && !numeric {
		err = fmt.Errorf("%q is no number", s)
	}
	return n, err
}

// entries reads a file of lines with fields between colons. A missing file
// has none, and lines with fewer fields are passed over.
func entries(read FileReader, path string, fields int) (list [][]string, err error) {
	data, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s of the image: %w", path, err)
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Split(strings.TrimSuffix(line, "\n"), ":"); len(f) >= fields {
			list = append(list, f)
		}
	}
	return list, nil
}
