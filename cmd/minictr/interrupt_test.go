package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestInterruptedPull is that Ctrl-C ends a pull that a registry does not
// answer, with nothing left of it.
func TestInterruptedPull(t *testing.T) {
	h := newHost(t)
	asked := make(chan struct{}, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	defer server.Close()
	for _, c := range []struct{ name, arg, want string }{
		{"run", "true", ""},
		{"unpack", h.dir + "/files", "interrupt signal received\n"},
		{"bundle", h.dir + "/bundle", "interrupt signal received\n"},
	} {
		cmd := exec.CommandContext(t.Context(), minictr, c.name, server.Listener.Addr().String()+"/image", c.arg)
		cmd.Env = append(os.Environ(), "MINICTR_DATA_ROOT="+h.dir+"/root", "MINICTR_ROOT="+h.dir+"/run")
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-asked
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		stop := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() }) // it takes a moment; a pull that goes on never ends
		if err := cmd.Wait(); !stop.Stop() || err == nil || !strings.HasSuffix(said.String(), c.want) {
			t.Errorf("%s: got %v, %s", c.name, err, &said)
		}
		if left, _ := filepath.Glob(h.dir + "/root/tmp/*"); len(left) > 0 {
			t.Errorf("%s left %q", c.name, left)
		}
	}
	if left, _ := filepath.Glob(h.dir + "/[^r]*"); len(left) > 0 {
		t.Errorf("left are %q", left)
	}
}

// TestInterruptedSave is that Ctrl-C takes the half of an archive away.
func TestInterruptedSave(t *testing.T) {
	dir := t.TempDir()
	c := &call{Context: t.Context()}
	err := c.writeArchive(filepath.Join(dir, "archive"), func(w io.Writer) error {
		if err := unix.Kill(os.Getpid(), unix.SIGINT); err != nil {
			return err
		}
		_, err := io.Copy(w, endless{})
		return err
	})
	if left, e := os.ReadDir(dir); !errors.Is(err, context.Canceled) || e != nil || len(left) > 0 {
		t.Errorf("got %v, left %v, %v", err, left, e)
	}
}

// endless never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestInterruptedPassword is that Ctrl-C gives the terminal its echo back.
func TestInterruptedPassword(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer terminal.Close()
	number, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCGPTN)
	if err := errors.Join(err, unix.IoctlSetPointerInt(int(terminal.Fd()), unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatal(err)
	}
	peer, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	echoes := func() bool {
		state, err := unix.IoctlGetTermios(int(peer.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return state.Lflag&unix.ECHO != 0
	}
	cmd := exec.CommandContext(t.Context(), minictr, "login", "-u", "me", "registry.example")
	cmd.Stdin, cmd.Stderr = peer, peer
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); echoes() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if echoes() {
		t.Fatal("it asks for no password, or echoes it")
	}
	if _, err := terminal.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || !echoes() {
		t.Errorf("got %v, echo: %t", err, echoes())
	}
}

// TestInterruptedCommit is that Ctrl-C ends a commit that takes for ever, and
// the container goes on.
func TestInterruptedCommit(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	h := newHost(t)
	command := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), minictr, args...)
		cmd.Env = append(os.Environ(), "MINICTR_DATA_ROOT="+h.dir+"/root", "MINICTR_ROOT="+h.dir+"/run")
		return cmd
	}
	reaches := func(status string) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			out, _ := command("state", "box").Output()
			if strings.Contains(string(out), `"status": "`+status+`"`) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("it is never %s: %s", status, out)
			}
		}
	}
	var said bytes.Buffer
	box := command("run", "--name", "box", "tiny", "sleep", "100")
	if err := box.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = command("rm", "-f", "box").Run()
		_ = box.Wait() // its program was killed
	}()
	reaches("running")
	upper, err := filepath.Glob(h.dir + "/root/containers/*/upper")
	if err != nil || len(upper) != 1 {
		t.Fatal(upper, err)
	}
	if err := errors.Join(os.WriteFile(upper[0]+"/endless", nil, 0o600), os.Truncate(upper[0]+"/endless", 60<<30)); err != nil {
		t.Fatal(err)
	}
	commit := command("commit", "box", "never")
	commit.Stderr = &said
	if err := commit.Start(); err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(20*time.Second, func() { _ = commit.Process.Kill() })
	reaches("paused")
	time.Sleep(100 * time.Millisecond) // it reads
	if err := commit.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err = commit.Wait()
	if !stop.Stop() || err == nil || !strings.HasSuffix(said.String(), "context canceled\n") {
		t.Errorf("got %v, %s", err, &said)
	}
	reaches("running")
	if out, err := command("images", "never").Output(); err != nil || strings.Contains(string(out), "never") {
		t.Errorf("got %s, %v", out, err)
	}
}
