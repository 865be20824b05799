package vm

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestFrames(t *testing.T) {
	var wire bytes.Buffer
	wire.WriteString("firmware 1.2\r\nminictr-minictr-vm 1\n") // a false start, too
	l := line{out: &wire}
	text := strings.Repeat("x", maxPayload+1)
	if err := errors.Join(l.send(kindStarted), l.stream(kindOutput, strings.NewReader(text)), l.send(kindExited, 3)); err != nil {
		t.Fatal(err)
	}
	r := line{in: bufio.NewReader(&wire)}
	if err := r.greeted(); err != nil {
		t.Fatal(err)
	}
	var output string
	for {
		k, payload, err := r.receive()
		if err != nil {
			t.Fatal(err)
		}
		switch k {
		case kindStarted:
			continue
		case kindOutput:
			output += string(payload)
			continue
		case kindExited:
			if payload[0] != 3 || output != text {
				t.Errorf("status %d after %d bytes", payload[0], len(output))
			}
		default:
			t.Errorf("kind %d", k)
		}
		break
	}
	if _, _, err := r.receive(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func TestBadFrame(t *testing.T) {
	r := line{in: bufio.NewReader(strings.NewReader("\x02\xff\xff"))}
	if _, _, err := r.receive(); err == nil {
		t.Error("a frame of 65535 bytes was taken")
	}
	if err := (&line{in: bufio.NewReader(strings.NewReader("minictr"))}).greeted(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func TestPanicIsFound(t *testing.T) {
	c := console{ended: make(chan struct{})}
	var log strings.Builder
	text := strings.Repeat("noise\r\n", 2*keptLines) + "[ 1.5] Kernel panic - not syncing: sysrq triggered crash\r\n[ 1.6] CPU: 0\r\n"
	c.read(strings.NewReader(text), &log)
	lines, reason := c.last()
	if reason != "sysrq triggered crash" || len(lines) != keptLines || lines[len(lines)-1] != "[ 1.6] CPU: 0" || log.String() != text {
		t.Errorf("%q, %d lines, the last %q", reason, len(lines), lines[len(lines)-1])
	}
}
