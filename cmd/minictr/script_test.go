package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/minictr/minictr/pkg/forkexec"
	"github.com/minictr/minictr/pkg/plan"
	"github.com/minictr/minictr/tests/alone"
)

// minictr is the program under test. It is no copy of the test binary, because
// the built-in image is made of the program itself and wants a static one.
var minictr string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	if err := os.Setenv(envNetwork, "none"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "minictr-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	minictr = filepath.Join(dir, "minictr")
	if err := alone.Build(minictr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// testscript works there, and leaves a directory if -run chooses few scripts.
	if err := os.Setenv("GOTMPDIR", dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// imagesDir is where images of others are, if they are here at all.
var imagesDir = cmp.Or(os.Getenv("MINICTR_TEST_IMAGES"), "../../../shared/images")

// TestScripts runs the scripts in testdata, which are minictr's manual too:
// one for each thing that people do with it. Beside the commands of package
// testscript there are
//
//	status CODE COMMAND...     the command exits with that status
//	until PATTERN COMMAND...   run the command until its output matches
//	program FILE TEXT          make a program that prints a line
//	mkimage ...                make an image, see mkimage_test.go
//	registry VARIABLE STORE    serve a store's images on the loopback device
//	docker-registry VARIABLE   run Debian's docker-registry, for me with the password secret
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Condition:           condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": status, "until": until, "program": makeProgram, "mkimage": mkimage, "registry": serveStore, "docker-registry": dockerRegistry,
		},
	})
}

func setup(env *testscript.Env) error {
	images, err := filepath.Abs(imagesDir)
	if err != nil {
		return err
	}
	env.Setenv("PATH", filepath.Dir(minictr)+string(os.PathListSeparator)+env.Getenv("PATH"))
	env.Setenv("MINICTR", minictr)
	env.Setenv("MINICTR_DATA_ROOT", filepath.Join(env.WorkDir, "root"))
	env.Setenv("MINICTR_ROOT", filepath.Join(env.WorkDir, "run"))
	env.Setenv("IMAGES", images)
	env.Setenv(envNetwork, "none") // the host is the machine's
	env.Defer(func() { removeAll(env) })
	return nil
}

// removeAll takes away the containers of a script that has failed: those that
// nobody waits for would outlive it.
func removeAll(env *testscript.Env) {
	command := func(args ...string) []byte {
		cmd := exec.Command(minictr, args...)
		cmd.Env = env.Vars
		out, _ := cmd.Output() // what it says is not this script's subject
		return out
	}
	if _, err := os.Stat(env.Getenv("MINICTR_DATA_ROOT")); err == nil {
		if ids := strings.Fields(string(command("ps", "-aq"))); len(ids) > 0 {
			command(append([]string{"rm", "-f"}, ids...)...)
		}
	}
}

func condition(name string) (bool, error) {
	switch name {
	case "root":
		return os.Getuid() == 0, nil
	case "images":
		_, err := os.Stat(imagesDir)
		return err == nil, nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got, err := 0, ts.Exec(args[1], args[2:]...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN COMMAND...")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		ts.Check(ts.Exec(args[1], args[2:]...))
		if pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("its output never matched %#q", args[0])
}

// makeProgram makes a static program of a page or two, for any root file system.
func makeProgram(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: program FILE TEXT")
	}
	file := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(file), 0o755))
	text, err := printer(args[1] + "\n")
	ts.Check(err)
	ts.Check(os.WriteFile(file, text, 0o755))
}

func printer(text string) ([]byte, error) {
	return forkexec.Program([]*plan.Step{{Call: plan.WriteTo(1, text)}})
}

// TestScriptsSkip checks that the scripts that need root say so in their
// first line: who runs the tests without it relies on that word.
func TestScriptsSkip(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(scripts) < 10 {
		t.Fatalf("got %q, %v", scripts, err)
	}
	rootless := []string{"completion.txt", "doctor.txt", "errors.txt", "explain.txt", "help.txt", "language.txt", "login.txt", "look.txt", "plan.txt", "spec.txt", "version.txt"}
	for _, file := range scripts {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		marked := regexp.MustCompile(`(?m)^\[!root\] skip 'needs root'$`).Match(text)
		if marked == slices.Contains(rootless, filepath.Base(file)) {
			t.Errorf("%s: needs root: %t", file, marked)
		}
	}
}
