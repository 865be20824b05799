package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
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
