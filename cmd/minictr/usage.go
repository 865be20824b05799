package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// usageError says what is wrong with the flags, and where to read about them;
// cli would print the whole help.
func usageError(c *cli.Context, err error, _ bool) error {
	help := strings.TrimSuffix("minictr help "+c.Command.Name, " "+c.App.Name)
	return fmt.Errorf("%s: %s", flagError(err.Error()), help)
}

// flagError puts a message of package flag or cli in our words.
func flagError(text string) string {
	var short, long string
	if n, _ := fmt.Sscanf(text, "Cannot use two forms of the same flag: %s %s", &short, &long); n == 2 {
		return fmt.Sprintf("-%s and --%s are one flag: use one form of it", short, long)
	}
	// There the name of any flag has one dash.
	if i := strings.LastIndex(text, " -") + 1; i > 0 && len(text) > i+2 && text[i+2] != ':' {
		text = text[:i] + "-" + text[i:]
	}
	cause := "it is no number"
	if strings.Contains(text, "boolean") {
		cause = "it is neither true nor false"
	}
	return strings.NewReplacer("flag provided but not defined:", "unknown flag", "parse error", cause).Replace(text)
}

// words are the values of a flag that may be given several times, or once with
// commas between the values.
func words(c *cli.Context, flag string) (list []string) {
	for _, value := range c.StringSlice(flag) {
		list = append(list, strings.FieldsFunc(value, func(r rune) bool { return r == ',' })...)
	}
	return list
}
