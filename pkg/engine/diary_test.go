package engine

import (
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// long fills a diary at once.
var long = map[string]string{"long": strings.Repeat("x", maxEvents)}

// TestDiaryWriters has many write at once as the diary is begun anew: the older
// one stays whole.
func TestDiaryWriters(t *testing.T) {
	for range 100 {
		e := &Engine{Root: t.TempDir()}
		c := &Container{ID: "box"}
		if err := os.WriteFile(e.EventsFile(), []byte(strings.Repeat("\n", maxEvents+1)), 0o600); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() { e.event(c, "start", nil) })
		}
		all.Wait()
		if fi, err := os.Stat(e.EventsFile() + ".1"); err != nil || fi.Size() <= maxEvents {
			t.Fatalf("the older diary: %v, %v", fi, err)
		}
	}
}

// TestDiaryReader begins the diary anew while it is read: no event is missed, and
// none seen twice.
func TestDiaryReader(t *testing.T) {
	e := &Engine{Root: t.TempDir()}
	c := &Container{ID: "box"}
	e.event(c, "create", nil)
	if err := os.Rename(e.EventsFile(), e.EventsFile()+".1"); err != nil {
		t.Fatal(err)
	}
	e.event(c, "start", nil)
	var seen []string
	err := e.Events(t.Context(), EventOptions{}, func(event Event) error {
		if event.Action == "create" {
			e.event(c, "die", long)
			e.event(c, "destroy", nil)
		}
		seen = append(seen, event.Action)
		return nil
	})
	if got := strings.Join(seen, " "); err != nil || got != "create start die" {
		t.Errorf("seen: %q, %v", got, err)
	}
}

// TestStoppedInTurn has two commands want the root of one container that has
// ended: it is mounted for one after the other.
func TestStoppedInTurn(t *testing.T) {
	e, _ := stopped(t, func(*specs.Spec) {})
	in, leave := make(chan bool, 2), make(chan bool)
	ended := make(chan error, 2)
	for range 2 {
		go func() {
			ended <- e.inRoot("box", func(tree) error {
				in <- true
				<-leave
				return nil
			})
		}()
	}
	<-in
	select {
	case <-in:
		t.Error("it is mounted twice")
	case <-time.After(300 * time.Millisecond): // what comes later is not seen as an error
	}
	close(leave)
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
