package main

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
	cmd := exec.CommandContext(t.Context(), minictr, "run", server.Listener.Addr().String()+"/image", "true")
	cmd.Env = append(os.Environ(), "MINICTR_DATA_ROOT="+h.dir+"/root", "MINICTR_ROOT="+h.dir+"/run")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-asked
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("exit status 0")
		}
	case <-time.After(20 * time.Second): // it takes a moment; a pull that goes on never ends
		_ = cmd.Process.Kill()
		t.Error("it goes on")
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
