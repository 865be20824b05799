package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// candidates is a command for completion scripts alone: with the words before
// the cursor it prints what may come next, and flags if the last word is "-".
const candidates = "__complete"

// completions are scripts that ask the program itself.
var completions = [...]struct{ shell, script string }{
	{"bash", `_minictr() {
	local cur=${COMP_WORDS[COMP_CWORD]} words=("${COMP_WORDS[@]:1:COMP_CWORD-1}")
	[[ $cur == -* ]] && words+=(-)
	COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" ` + candidates + ` "${words[@]}" 2>/dev/null)" -- "$cur"))
}
complete -o default -F _minictr minictr
`},
	{"fish", `complete -c minictr -a '(set -l words (commandline -opc); $words[1] ` + candidates + ` $words[2..-1] (string match -q -- "-*" (commandline -ct); and echo -) 2>/dev/null)'
`},
	{"zsh", `#compdef minictr
_minictr() {
	local before=($words[2,CURRENT-1])
	[[ $words[CURRENT] == -* ]] && before+=(-)
	compadd -- ${(f)"$($words[1] ` + candidates + ` $before 2>/dev/null)"}
}
compdef _minictr minictr
`},
}

// printCandidates prints what may follow the words.
func (c *call) printCandidates(words []string) error {
	flags := new(globals).flags()
	_ = flags.Parse(words) // what is wrong is not wrong yet
	var list []string
	if cmd, rest, err := c.find(append(flags.Args(), "")); err == nil {
		rest = rest[:len(rest)-1]
		flags = newFlags()
		cmd.setup(flags)
		if parsed := flags.Parse(rest); parsed == nil && strings.Contains(cmd.args, "[COMMAND") && flags.NArg() > 0 && flags.Arg(0) != "-" {
			return nil // what follows is the container's
		}
		if cmd.name == "completion" {
			for _, c := range completions {
				list = append(list, c.shell)
			}
		}
	} else {
		for _, cmd := range c.table() {
			first, second, _ := strings.Cut(cmd.name, " ")
			switch {
			case flags.NArg() == 0:
				list = append(list, first)
			case second != "" && flags.Arg(0) == first:
				list = append(list, second)
			}
		}
		list = slices.Compact(list)
	}
	if len(words) > 0 && words[len(words)-1] == "-" {
		list = nil
		flags.VisitAll(func(f *pflag.Flag) { list = append(list, "--"+f.Name) })
	}
	for _, candidate := range list {
		if _, err := fmt.Fprintln(c.stdout, candidate); err != nil {
			return err
		}
	}
	return nil
}

func completionCommand(*pflag.FlagSet) action {
	return func(c *call) error {
		if err := c.exactly(1, c.command.args); err != nil {
			return err
		}
		for _, known := range completions {
			if known.shell == c.args[0] {
				_, err := fmt.Fprint(c.stdout, known.script)
				return err
			}
		}
		return fmt.Errorf("no completion for the shell %q; there are bash, zsh and fish", c.args[0])
	}
}
