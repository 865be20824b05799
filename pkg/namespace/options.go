package namespace

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// An attrs is a change of mount attributes, mount_setattr(2).
type attrs struct{ set, clear uint64 }

// options are what a mount's list of options says, mount(8).
type options struct {
	bind, rbind    bool
	idmap, ridmap  bool   // it shows ids through maps; all mounts below it do, too
	remount        bool   // it is there, and gets other attributes
	copyUp         bool   // a tmpfs begins with what it hides
	one, all       attrs  // of the mount; of it and all mounts below it ("rro")
	propagation    uint64 // MS_SHARED and its kin, mount_namespaces(7)
	propagationAll bool
	data           []string // for the file system itself
}

func optionsOf(words []string) (o options) {
	for _, w := range words {
		if !o.mount(w) {
			o.data = append(o.data, w)
		}
	}
	return o
}

// Options are the words that mean something for every mount, sorted. Others
// are for the file system.
func Options() (words []string) {
	words = []string{
		"bind", "defaults", "idmap", "iversion", "loud", "noiversion", "norelatime", "rbind", "remount", "ridmap", "silent", "tmpcopyup",
		"async", "dirsync", "lazytime", "mand", "nolazytime", "nomand", "sync",
	} // the last by fsconfig(2)
	for _, w := range []string{"private", "slave", "shared", "unbindable"} {
		words = append(words, w, "r"+w)
	}
	for _, w := range []string{
		"ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "noatime", "strictatime", "relatime", "atime",
		"nostrictatime", "nodiratime", "diratime", "nosymfollow", "symfollow",
	} {
		words = append(words, w, "r"+w)
	}
	slices.Sort(words)
	return words
}

// mount takes an option that concerns the mount, not the file system.
func (o *options) mount(word string) bool {
	if a, ok := attrsOf(word); ok {
		o.one.add(a)
		return true
	}
	switch word {
	case "copyfile", "defaults", "silent", "loud", "iversion", "noiversion", "norelatime":
		// Of no effect on a mount that is being made; see IsCopy.
	case "remount":
		o.remount = true
	case "tmpcopyup":
		o.copyUp = true
	case "idmap", "ridmap":
		o.idmap, o.ridmap = true, word == "ridmap"
	case "bind":
		o.bind = true
	case "rbind":
		o.bind, o.rbind = true, true
	default:
		return o.recursive(word)
	}
	return true
}

// recursive takes an option that concerns how the mount is shared, or an
// attribute with "r" before it, for the mount and all below it.
func (o *options) recursive(word string) bool {
	bare, all := strings.CutPrefix(word, "r")
	if flag := propagation(bare); flag != 0 {
		o.propagation, o.propagationAll = flag, all
		return true
	}
	a, ok := attrsOf(bare)
	if ok {
		o.all.add(a)
	}
	return ok
}

func (a *attrs) add(b attrs) {
	a.set = a.set&^b.clear | b.set
	a.clear = a.clear&^b.set | b.clear
}

func propagation(word string) uint64 {
	switch word {
	case "private":
		return unix.MS_PRIVATE
	case "slave":
		return unix.MS_SLAVE
	case "shared":
		return unix.MS_SHARED
	case "unbindable":
		return unix.MS_UNBINDABLE
	}
	return 0
}

// attrsOf is the attribute that an option sets or clears. The kernel wants
// the three kinds of atime cleared together before one of them is set.
func attrsOf(word string) (attrs, bool) {
	switch word {
	case "ro":
		return attrs{set: unix.MOUNT_ATTR_RDONLY}, true
	case "rw":
		return attrs{clear: unix.MOUNT_ATTR_RDONLY}, true
	case "nosuid":
		return attrs{set: unix.MOUNT_ATTR_NOSUID}, true
	case "suid":
		return attrs{clear: unix.MOUNT_ATTR_NOSUID}, true
	case "nodev":
		return attrs{set: unix.MOUNT_ATTR_NODEV}, true
	case "dev":
		return attrs{clear: unix.MOUNT_ATTR_NODEV}, true
	case "noexec":
		return attrs{set: unix.MOUNT_ATTR_NOEXEC}, true
	case "exec":
		return attrs{clear: unix.MOUNT_ATTR_NOEXEC}, true
	case "noatime":
		return attrs{set: unix.MOUNT_ATTR_NOATIME}, true
	case "strictatime":
		return attrs{set: unix.MOUNT_ATTR_STRICTATIME}, true
	case "relatime", "atime", "nostrictatime":
		return attrs{clear: unix.MOUNT_ATTR__ATIME}, true
	case "nodiratime":
		return attrs{set: unix.MOUNT_ATTR_NODIRATIME}, true
	case "diratime":
		return attrs{clear: unix.MOUNT_ATTR_NODIRATIME}, true
	case "nosymfollow":
		return attrs{set: unix.MOUNT_ATTR_NOSYMFOLLOW}, true
	case "symfollow":
		return attrs{clear: unix.MOUNT_ATTR_NOSYMFOLLOW}, true
	}
	return attrs{}, false
}

// kernel is the change as mount_setattr(2) wants it: whoever sets one kind of
// atime clears all three.
func (a attrs) kernel() attrs {
	if a.set&(unix.MOUNT_ATTR_NOATIME|unix.MOUNT_ATTR_STRICTATIME) != 0 {
		a.clear |= unix.MOUNT_ATTR__ATIME
	}
	return a
}
