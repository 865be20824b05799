package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/engine"
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
		list = c.namesFor(cmd, flags.NArg())
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

// namesFor are those that may be a command's argument after n others: of what it
// calls CONTAINER, and so on.
func (c *call) namesFor(cmd command, n int) (list []string) {
	args := strings.Fields(cmd.args)
	if last := len(args) - 1; n > last && last >= 0 && strings.HasSuffix(args[last], "...") {
		n = last
	}
	e, err := c.engine()
	if n >= len(args) || err != nil {
		return nil
	}
	for word := range strings.SplitSeq(strings.Trim(args[n], "[]."), "|") {
		list = append(list, namesOf(e, word)...)
	}
	return list
}

// namesOf are the names of all that a word of a usage stands for; what can't be
// read has none.
func namesOf(e *engine.Engine, word string) (list []string) {
	switch word {
	case "CONTAINER", "ID":
		containers, _ := e.Containers()
		for _, found := range containers {
			list = append(list, found.Title())
		}
	case "IMAGE":
		store, err := e.Images()
		if err != nil {
			return nil
		}
		images, _ := store.List()
		for _, img := range images {
			for _, name := range img.Names {
				list = append(list, familiar(name))
			}
		}
	case "NETWORK":
		networks, _ := e.Networks().List()
		for _, found := range networks {
			list = append(list, found.Name)
		}
	case "VOLUME":
		volumes, _ := e.Volumes().List()
		for _, found := range volumes {
			list = append(list, found.Name)
		}
	case "bash", "zsh", "fish":
		list = append(list, word)
	}
	return list
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
