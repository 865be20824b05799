package main

import (
	"fmt"
	"maps"
	"runtime"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"
)

// version and commit are set by the linker, see the Makefile.
var (
	version = "0.1.0-dev"
	commit  = ""
)

func versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the version", OnUsageError: usageError,
		Action: func(c *cli.Context) error {
			if err := exactly(c, 0, ""); err != nil {
				return err
			}
			out := fmt.Sprintf("minictr version %s\n", version)
			if commit != "" {
				out += fmt.Sprintf("commit: %s\n", commit)
			}
			_, err := fmt.Fprintf(c.App.Writer, "%sspec: %s\ngo: %s\n", out, specs.Version, runtime.Version())
			return err
		},
	}
}

// Completion scripts ask the program itself what may come next; cli answers
// when it is called with --generate-bash-completion, with all flags after "-".
var completions = map[string]string{
	"bash": `_minictr() {
	local cur=${COMP_WORDS[COMP_CWORD]} words=("${COMP_WORDS[@]:0:COMP_CWORD}")
	[[ $cur == -* ]] && words+=(-)
	COMPREPLY=($(compgen -W "$("${words[@]}" --generate-bash-completion 2>/dev/null)" -- "$cur"))
}
complete -o default -F _minictr minictr
`,
	"zsh": `#compdef minictr
_minictr() {
	local before=($words[1,CURRENT-1])
	[[ $words[CURRENT] == -* ]] && before+=(-)
	compadd -- ${(f)"$($before --generate-bash-completion 2>/dev/null)"}
}
compdef _minictr minictr
`,
	"fish": `complete -c minictr -a '(eval (commandline -opc) (string match -q -- "-*" (commandline -ct); and echo -) --generate-bash-completion 2>/dev/null)'
`,
}

func completionCommand() *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print a completion script for a shell", ArgsUsage: "bash|zsh|fish", OnUsageError: usageError,
		BashComplete: func(c *cli.Context) {
			for _, shell := range slices.Sorted(maps.Keys(completions)) {
				fmt.Fprintln(c.App.Writer, shell)
			}
		},
		Action: func(c *cli.Context) error {
			if err := exactly(c, 1, "bash|zsh|fish"); err != nil {
				return err
			}
			script, ok := completions[c.Args().First()]
			if !ok {
				return fmt.Errorf("no completion for the shell %q; there are bash, zsh and fish", c.Args().First())
			}
			_, err := fmt.Fprint(c.App.Writer, script)
			return err
		},
	}
}
