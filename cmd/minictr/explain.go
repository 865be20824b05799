package main

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/forkexec"
	"github.com/minictr/minictr/pkg/vm"
)

// Exit statuses, as Docker's and runc's. Run has its program's otherwise, so its
// own are others: 125 for an error of ours, 126 and 127 for a program that can't
// be run or isn't there. So has exec.
const (
	statusFailed   = 1
	statusRun      = 125
	statusNoExec   = 126
	statusNotFound = 127
	statusExec     = 255
)

// explain makes a message of an error: what happened, in the library's words,
// the likely cause and the next command, where they are known, and the code of
// the page that says more.
func explain(err error) (message, hint, code string, status int) {
	if step, ok := errors.AsType[*forkexec.StepError](err); ok {
		if message, hint, status := program(step); status != 0 {
			return message, hint, codeOf(step), status
		}
		return strings.TrimPrefix(step.Step.Spec+": ", ": ") + shortened(err, step), cause(step), codeOf(step), statusRun
	}
	k := kindOf(err)
	if program, ok := errors.AsType[*vm.ProgramError](err); ok {
		return err.Error(), "", k.code, program.Status
	}
	return err.Error(), k.hint, k.code, statusRun
}

// shortened is the message of a step that failed, without the end of a call
// with many arguments for the program.
func shortened(err error, step *forkexec.StepError) string {
	const most = 300
	if call := step.Step.Call.String(); len(call) > most {
		return strings.Replace(err.Error(), call, call[:most]+"...)", 1)
	}
	return err.Error()
}

func because(hint string) string {
	if hint == "" {
		return ""
	}
	return ": " + hint
}

// program says why the container's program can't be run, in the words that
// callers of runtimes look for; the status is 0 if the step is about something
// else.
func program(step *forkexec.StepError) (message, hint string, status int) {
	call := step.Step.Call
	if step.Step.Spec != "/process/args" || call.Name != "faccessat2" && call.Name != "execve" {
		return "", "", 0
	}
	path := call.Args[1].String()
	if call.Name == "execve" {
		path = call.Args[0].String()
	}
	path = strings.Trim(path, `"`)
	name := path[strings.LastIndexByte(path, '/')+1:]
	switch {
	case strings.HasPrefix(step.Step.Why, "it is nowhere") && !errors.Is(step.Err, unix.EACCES):
		return `exec: "` + name + `": executable file not found in $PATH`, "is it in the image? try: minictr run IMAGE ls /bin", statusNotFound
	case errors.Is(step.Err, unix.ENOENT):
		return `exec: "` + path + `": no such file or directory`, "the file, or the interpreter or loader that it names, is not in the container", statusNotFound
	case errors.Is(step.Err, unix.ENOTDIR):
		return `exec: "` + path + `": not a directory`, "", statusNotFound
	case errors.Is(step.Err, unix.EACCES):
		return `exec: "` + path + `": permission denied`, "it is a directory, or the container's user may not execute it", statusNoExec
	case errors.Is(step.Err, unix.ENOEXEC):
		return `exec: "` + path + `": exec format error`, "it is made for another machine, or is a script without #!", statusNoExec
	}
	return "", "", 0
}
