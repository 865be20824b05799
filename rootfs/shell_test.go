package rootfs

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sh is the shell as a process of this test binary.
func sh(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	for _, name := range commands() {
		if err := os.Symlink(self, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(filepath.Join(bin, "sh"), args...)
	cmd.Env = []string{"PATH=" + bin}
	cmd.Dir = t.TempDir()
	return cmd
}

func TestShell(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("echo $# \"$1\"\nsh -c 'exit 4'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, input string
		args        []string
		want        string
		code        int
	}{
		{"-c with arguments", "", []string{"-c", "echo $0 $1 $#", "name", "x"}, "name x 1\n", 0},
		{"script", "", []string{script, "a b"}, "1 a b\n", 4},
		{"no script", "", []string{"/nosuch"}, "sh: open /nosuch: no such file or directory\n", 2},
		{"syntax", "", []string{"-c", "if"}, "sh: sh:1:1: `if` must be followed by a statement list\n", 2},
		{"input ends within a line", "echo a\nexit 5", nil, "a\n", 5},
		{"status at the end", "false\n", nil, "", 1},
		{"other trap", "", []string{"-c", "trap 'echo x' NOSUCH"}, "trap: NOSUCH: invalid signal specification\n", 2},
		{"input is read line by line", "read x\nhello\necho $x", nil, "hello\n", 0},
		{"lines go on", "if true\nthen echo a\nfi\nfor i in 1 2; do\necho $i\ndone\n", nil, "a\n1\n2\n", 0},
		{"-e", "", []string{"-ec", "false; echo no"}, "", 1},
		{"-u", "", []string{"-uc", "echo $nosuch"}, "nosuch: unbound variable\n", 1},
		{"unknown option", "", []string{"-Z"}, "sh: unknown option -Z\n", 2},
		{"-c of nothing", "", []string{"-c"}, "sh: -c needs a command\n", 2},
		{"redirections", "", []string{"-c", "echo a >f; echo b >>f; cat <f; rm f 2>&1"}, "a\nb\n", 0},
		{"here-document", "cat <<E\nx $((1+2))\nE\n", nil, "x 3\n", 0},
		{"exit trap", "trap 'echo bye' EXIT\n", nil, "bye\n", 0},
		{"killed", "", []string{"-c", "sh -c 'kill -KILL $$'; echo $?"}, "killed\n137\n", 0},
		{"ignored signal", "", []string{"-c", "trap '' TERM; kill -TERM $$; echo alive"}, "alive\n", 0},
		{"trap and no more", "", []string{"-c", "trap 'echo x' TERM; trap - TERM; kill -TERM $$; sleep 5"}, "", -1},
		{"background list", "", []string{"-c", "{ echo a; exit 3; } & wait $!; echo $?"}, "a\n3\n", 0},
		{"functions and variables in the background", "", []string{"-c", "f() { echo $x $1; }; x=1; f 2 & wait"}, "1 2\n", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := sh(t, c.args...)
			cmd.Stdin = strings.NewReader(c.input)
			out, _ := cmd.CombinedOutput() // the status is looked at
			got := strings.ReplaceAll(string(out), cmd.Path, "sh")
			if got != c.want || cmd.ProcessState.ExitCode() != c.code {
				t.Errorf("prints %q, status %d; want %q, %d", got, cmd.ProcessState.ExitCode(), c.want, c.code)
			}
		})
	}
}

// A person types: what SIGINT ends, and what it leaves alone.
func TestInteractive(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer terminal.Close()
	if err := unix.IoctlSetPointerInt(int(terminal.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := sh(t)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = peer, peer, peer
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill() // it has ended if all went well
	peer.Close()
	prompt := cmd.Dir + " # "
	if os.Getuid() != 0 {
		prompt = cmd.Dir + " $ "
	}
	for _, c := range []struct{ key, want string }{
		{"", prompt},
		{"cat\n", "cat\r\n"},
		{"\x03", prompt},
		{"echo $?\n", "130\r\n"},
		{"", prompt},
		{"while :; do :; done\n", "done\r\n"},
		{"\x03", prompt},
		{"for i in 1\n", "> "},
		{"\x03", prompt},
		{"sleep 50.0625 &\n", prompt},
		{"\x03", prompt},
		{"set -- $(ps | grep 'sleep 50.0625$'); kill $1; wait $!; echo =$?\n", "=143\r\n"},
		{"", prompt},
		{"\x04", "exit\r\n"},
	} {
		if _, err := terminal.WriteString(c.key); err != nil {
			t.Fatal(err)
		}
		if got, ok := expect(terminal, c.want); !ok {
			t.Fatalf("after %q: %q, want %q", c.key, got, c.want)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// expect reads until the text comes.
func expect(terminal *os.File, text string) (string, bool) {
	var got []byte
	b := make([]byte, 1)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		fds := []unix.PollFd{{Fd: int32(terminal.Fd()), Events: unix.POLLIN}}
		if n, _ := unix.Poll(fds, 100); n == 0 {
			continue
		}
		if n, err := terminal.Read(b); err != nil || n == 0 {
			break
		}
		if got = append(got, b[0]); bytes.HasSuffix(got, []byte(text)) {
			time.Sleep(50 * time.Millisecond) // what was started gets to where it waits
			return string(got), true
		}
	}
	return string(got), false
}
