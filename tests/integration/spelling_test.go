package integration_test

import "regexp"

// A spelling is one way in which strace and a plan write the same differently.
type spelling struct {
	from, to string // a regular expression, and what takes its place
	reason   string
}

// tracedSpelling is all that is changed in what strace prints before it is
// compared with a plan.
var tracedSpelling = [...]spelling{
	{` /\* [^*]* \*/`, "", "strace's remark on a number that it has no name for"},
	{`^(read\(\d+), ".*", 1\)$`, "$1, buf, 1)", "what is read is known only when it has been read"},
	{`attr_clr=MOUNT_ATTR_NOATIME\|MOUNT_ATTR_STRICTATIME\|0x40`, "attr_clr=MOUNT_ATTR__ATIME", "strace takes the mask of the three kinds of atime apart"},
	{`(TIOCGPTPEER), 0x80102`, "$1, O_RDWR|O_NOCTTY|O_CLOEXEC", "strace does not decode this argument"},
	{`pidfd=0x[0-9a-f]+`, "pidfd=&$$pidfd", "the address of a word is not known before"},
	{`parent_tid=0x[0-9a-f]+`, "parent_tid=$$born", "nor that of another"},
	{` => \{(pidfd|parent_tid)=\[\d+\]\}`, "", "what clone3 stores is a result, and no argument"},
	{`^clone\(child_stack=NULL, flags=SIGCHLD\)`, "clone(SIGCHLD, NULL)", "strace names the arguments, in another order"},
	{`^wait4\(-1, ([^,]+), `, "wait4(-1, $$status, ", "how a child ends is known only then"},
	{`filter=\[.*\]\}`, "filter=...}", "the filter is compared instruction by instruction below"},
}

// planSpelling is all that is changed in what a plan prints.
var planSpelling = [...]spelling{
	{` /\* [^*]* \*/`, "", "the same remark"},
}

func spell(table []spelling, text string) string {
	for _, s := range table {
		text = regexp.MustCompile(s.from).ReplaceAllString(text, s.to)
	}
	return text
}
