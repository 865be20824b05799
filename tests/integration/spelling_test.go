package integration_test

import "regexp"

// A spelling is one way in which strace and a plan write the same differently.
type spelling struct {
	from, to string // a regular expression, and what takes its place
	reason   string
}

// tracedSpelling is all that is changed in what strace prints before it is
// compared with a plan.
var tracedSpelling = [...]spelling{}

// planSpelling is all that is changed in what a plan prints.
var planSpelling = [...]spelling{}

func spell(table []spelling, text string) string {
	for _, s := range table {
		text = regexp.MustCompile(s.from).ReplaceAllString(text, s.to)
	}
	return text
}
