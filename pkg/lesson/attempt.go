package lesson

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

// An Attempt is one time that somebody does a lesson. It is kept from the
// moment before anything runs until all of it is taken away, for the question
// is answered by another process than the one that asks it.
type Attempt struct {
	Nonce string `json:"nonce"`           // 16 hexadecimal digits
	Dir   string `json:"dir"`             // where the scripts' directory is, and this program as minictr
	Asked bool   `json:"asked"`           // the question has been asked
	About string `json:"about,omitempty"` // what setup printed
	Hints int    `json:"hints"`           // so many have been given
}

const nonce = 8 // bytes

// NewAttempt makes up a nonce; nothing is made yet.
func NewAttempt() *Attempt {
	b := make([]byte, nonce)
	_, _ = rand.Read(b) // it never fails, crypto/rand
	a := &Attempt{Nonce: hex.EncodeToString(b)}
	a.Dir = filepath.Join(os.TempDir(), a.Name())
	return a
}

// Name is what the scripts call containers, or begin their names with. The
// nonce's other digits stay unknown.
func (a *Attempt) Name() string { return "minictr-lesson-" + a.Nonce[:6] }

// Begin makes the directory, in which the name minictr is a link to the program
// self.
func (a *Attempt) Begin(self string) error {
	return errors.Join(os.Mkdir(a.Dir, 0o711), os.Mkdir(a.scratch(), 0o755), os.Mkdir(a.bin(), 0o755),
		os.Symlink(self, filepath.Join(a.bin(), "minictr")))
}

// Ours says whether the directory is there, and this user's. Others can make one
// of its name where everybody may, once it is gone: no script runs in theirs.
func (a *Attempt) Ours() bool {
	var dir unix.Stat_t
	return a.Sound() && unix.Lstat(a.Dir, &dir) == nil && dir.Mode&unix.S_IFMT == unix.S_IFDIR && int(dir.Uid) == os.Geteuid()
}

// Sound says whether an attempt that was read is one that NewAttempt has made.
func (a *Attempt) Sound() bool {
	b, err := hex.DecodeString(a.Nonce)
	return err == nil && len(b) == nonce && filepath.Base(a.Dir) == a.Name()
}

func (a *Attempt) scratch() string { return filepath.Join(a.Dir, "dir") }
func (a *Attempt) bin() string     { return filepath.Join(a.Dir, "bin") }

// Fill puts this attempt's values in the place of their names in a text or a
// script, which then can be typed elsewhere as well.
func (a *Attempt) Fill(text string) string {
	return strings.NewReplacer("$NAME", a.Name(), "$DIR", a.scratch(), "$ABOUT", a.About).Replace(text)
}

// prelude defines what scripts have besides commands: pick chooses one of its
// words by the nonce, await repeats a command until it succeeds, and pid is the
// host's number of a container's first process.
const prelude = `pick() { shift $((0x${NONCE#?????????} % $#)); echo "$1"; }
await() { for _ in $(seq 100); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done; echo "never: $*"; return 1; }
pid() { minictr state "$1" | sed -n 's/.*"pid": \([0-9]*\).*/\1/p'; }
`

// Run runs a script, whose output goes to out, to its end, or until the context
// ends; then all of its process group is killed. Env are more variables.
func (a *Attempt) Run(ctx context.Context, script string, env []string, out io.Writer) error {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-euc", prelude+script, "lesson")
	cmd.Dir = a.scratch()
	cmd.Env = append(os.Environ(), "PATH="+a.bin()+":"+os.Getenv("PATH"), "LC_ALL=C", a.mark(), "NONCE="+a.Nonce, "DIR="+a.scratch())
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = out, out
	// Ctrl-C is for us, who clean up. If we are killed the shell is, too: before
	// it is the shell it does not have the mark.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second // for what it has left in the background
	return errors.Join(cmd.Run(), context.Cause(ctx))
}

// Ask runs the script that makes what the question is about. What it prints
// goes through a file, since what it starts stays.
func (a *Attempt) Ask(ctx context.Context, script string, env []string) error {
	f, err := os.Create(filepath.Join(a.Dir, "setup"))
	if err != nil {
		return err
	}
	err = a.Run(ctx, script, env, f)
	said, e := os.ReadFile(f.Name())
	a.Asked, a.About = true, strings.TrimSpace(string(said))
	if err = errors.Join(err, e, f.Close()); err != nil {
		return fmt.Errorf("the question can't be made: %w: %s", err, a.About)
	}
	return nil
}

// Right says whether an answer is the one that a script prints. An answer that
// the script can't find is an error.
func (a *Attempt) Right(ctx context.Context, script string, env []string, answer string) (bool, error) {
	var out bytes.Buffer
	err := a.Run(ctx, script, env, &out)
	right := strings.TrimSpace(out.String())
	if err == nil && right == "" {
		err = errors.New("there is none")
	}
	if err != nil {
		return false, fmt.Errorf("the answer can't be found any more: %w: %s", err, right)
	}
	return strings.TrimSpace(answer) == right, nil
}

// mark stands in the environment of all that the scripts start.
func (a *Attempt) mark() string { return "NAME=" + a.Name() }

// Kill ends every process that the scripts have started, until none is left.
// What containers run does not have the mark, and ends with them.
func (a *Attempt) Kill() error {
	for found := true; found; {
		found = false
		dirs, err := os.ReadDir("/proc")
		if err != nil {
			return err
		}
		for _, d := range dirs {
			pid, err := strconv.Atoi(d.Name())
			if err != nil {
				continue
			}
			killed, err := a.kill(pid)
			if err != nil {
				return fmt.Errorf("process %d of %s: %w", pid, a.Name(), err)
			}
			found = found || killed
		}
	}
	return nil
}

// kill kills a process if it is ours, by user and mark, and waits for its end:
// it still holds its locks when it has lost its memory, and with that its mark.
// The descriptor holds the process, so that no other can have its number.
func (a *Attempt) kill(pid int) (killed bool, err error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false, nil // it has just ended
	}
	defer func() { err = errors.Join(err, sys.Close(fd)) }()
	env, err := environ(pid)
	if err != nil || !strings.Contains("\x00"+env, "\x00"+a.mark()+"\x00") {
		return false, nil // it has ended, or is another user's
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return false, err
	}
	const patience = 10_000 // milliseconds
	ended := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := sys.Number("poll", func() (int, error) { return unix.Poll(ended, patience) })
	if err == nil && n == 0 {
		err = unix.ETIMEDOUT
	}
	return true, err
}

// environ is what a process of this user has got, as far as one reads of a
// stranger.
func environ(pid int) (string, error) {
	const most = 256 << 10
	dir := fmt.Sprintf("/proc/%d", pid)
	var owner unix.Stat_t
	if err := unix.Stat(dir, &owner); err != nil || int(owner.Uid) != os.Geteuid() {
		return "", errors.Join(err, unix.EPERM)
	}
	f, err := os.Open(dir + "/environ")
	if err != nil {
		return "", err
	}
	env, err := io.ReadAll(io.LimitReader(f, most))
	return string(env), errors.Join(err, f.Close())
}

// Clean runs the script that takes away what others have made outside of the
// directory; not a second time, when the directory is gone or another's.
func (a *Attempt) Clean(ctx context.Context, script string, env []string) error {
	if _, err := os.Stat(a.scratch()); script == "" || err != nil || !a.Ours() {
		return nil
	}
	var out bytes.Buffer
	if err := a.Run(ctx, script, env, &out); err != nil {
		return fmt.Errorf("the lesson's clean: %w: %s", err, &out)
	}
	return nil
}

// End removes the directory.
func (a *Attempt) End() error {
	if !a.Ours() {
		return nil
	}
	return sys.RemoveAll(a.Dir)
}
