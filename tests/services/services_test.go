package services_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A service is a server with data of its own.
type service struct {
	name string   // of the container, and of its volume
	args []string // of run, to the image's name

	// works is what a client finds who asks for the service; data is what one
	// finds who asks for the data that write has left there.
	works, write, data func() error
}

// live is what a server goes through: it is killed and comes again, stops when
// it is asked to, and is made anew for the data it had.
func (s service) live(t *testing.T) {
	t.Helper()
	stopped := false
	t.Cleanup(func() {
		if !stopped {
			text, err := minictr("logs", s.name)
			t.Logf("%s has written: %v\n%s", s.name, err, text)
			_, _ = minictr("rm", "-f", "-v", s.name)
		}
	})
	s.run(t)
	eventually(t, "it serves", s.works)
	if err := s.write(); err != nil {
		t.Fatal(err)
	}

	pid, err := strconv.Atoi(s.state(t, "State.Pid"))
	if err != nil || pid < 2 {
		t.Fatalf("the PID: %d, %v", pid, err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is started again", func() error {
		if n := s.state(t, "RestartCount"); n != "1" {
			return fmt.Errorf("RestartCount is %s", n)
		}
		return nil
	})
	eventually(t, "the data is there after a kill", s.data)

	s.stop(t)
	s.run(t, "--stop-signal", "INT")
	eventually(t, "the data is there in a new container", s.data)
	s.stop(t)
	must(t, "volume", "rm", s.name)
	stopped = true
}

// run makes the container, and starts it.
func (s service) run(t *testing.T, more ...string) {
	t.Helper()
	must(t, append(append([]string{"run", "-d", "--name", s.name, "--network", "shop"}, more...), s.args...)...)
}

// stop has it end by its own decision, and removes it.
func (s service) stop(t *testing.T) {
	t.Helper()
	begun := time.Now()
	must(t, "stop", "-t", fmt.Sprint(int(patience.Seconds())), s.name)
	if status := s.state(t, "State.Status") + " " + s.state(t, "State.ExitCode"); status != "exited 0" {
		t.Errorf("stopped after %v, it is %s", time.Since(begun), status)
	}
	must(t, "rm", s.name)
}

// state is what inspect says of it.
func (s service) state(t *testing.T, field string) string {
	t.Helper()
	return must(t, "inspect", "--format", "{{."+field+"}}", s.name)
}

// client runs a command in a container of its own on the network, and expects
// it to print one thing.
func client(want string, args ...string) error {
	out, err := minictr(append([]string{"run", "--rm", "--network", "shop", "services"}, args...)...)
	if err == nil && out != want {
		return fmt.Errorf("%q printed %q, not %q", args, out, want)
	}
	return err
}

// TestNginx has a web server, whose volume is filled with the image's page.
func TestNginx(t *testing.T) {
	newMachine(t)
	page := func(want string) error {
		response, err := http.Get("http://127.0.0.1:8080/")
		if err != nil {
			return err
		}
		text, err := io.ReadAll(response.Body)
		if err := errors.Join(err, response.Body.Close()); err != nil {
			return err
		}
		if got := strings.TrimSpace(string(text)); got != want || !strings.HasPrefix(response.Header.Get("Server"), "nginx") {
			return fmt.Errorf("%s from %s says %q, not %q", response.Status, response.Header.Get("Server"), got, want)
		}
		return client(want, "busybox", "wget", "-q", "-O", "-", "http://web/")
	}
	service{
		name:  "web",
		args:  []string{"--restart", "unless-stopped", "-v", "web:/var/www/html", "-p", "8080:80", "nginx"},
		works: func() error { return page("the image's page") },
		write: func() error {
			_, err := minictr("run", "--rm", "-v", "web:/site", "services", "sh", "-c", "echo another page >/site/index.html")
			return err
		},
		data: func() error { return page("another page") },
	}.live(t)
}

// TestRedis has a store whose writes are on the disk before they are answered.
func TestRedis(t *testing.T) {
	newMachine(t)
	command := func(want string, words ...string) func() error {
		return func() error {
			if got, err := redis("127.0.0.1:6379", words...); err != nil || got != want {
				return fmt.Errorf("%q is answered by %q, not %q: %w", words, got, want, err)
			}
			return nil
		}
	}
	service{
		name:  "cache",
		args:  []string{"--restart", "always", "-v", "cache:/var/lib/redis", "-p", "127.0.0.1:6379:6379", "redis"},
		works: command("PONG", "PING"),
		write: command("OK", "SET", "key", "value"),
		data: func() error {
			return errors.Join(command("value", "GET", "key")(), client("value", "redis-cli", "-h", "cache", "GET", "key"))
		},
	}.live(t)
}

// redis says a command in the server's own protocol, RESP, and returns a simple
// or a bulk string that answers it.
func redis(address string, words ...string) (string, error) {
	c, err := net.DialTimeout("tcp", address, 3*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	fmt.Fprintf(c, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(c, "$%d\r\n%s\r\n", len(w), w)
	}
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	if err == nil && line[0] == '$' && line[1] != '-' {
		line, err = r.ReadString('\n')
		line = "+" + line
	}
	if err != nil || line[0] != '+' {
		return strings.TrimSpace(line), errors.Join(err, errors.New("no string"))
	}
	return strings.TrimSpace(line[1:]), nil
}

// TestPostgres has a database with a client in another container.
func TestPostgres(t *testing.T) {
	newMachine(t)
	const volume = "db:/var/lib/postgresql/data"
	must(t, "run", "--rm", "-u", "postgres", "-v", volume, "postgres", "sh", "-c",
		"initdb -D /var/lib/postgresql/data -A trust && echo host all all all trust >>/var/lib/postgresql/data/pg_hba.conf")
	query := func(want, query string) func() error {
		return func() error { return client(want, "psql", "-h", "db", "-U", "postgres", "-At", "-c", query) }
	}
	service{
		name:  "db",
		args:  []string{"--restart", "on-failure", "-v", volume, "-p", "5432", "postgres"},
		works: query("1", "SELECT 1"),
		write: query("CREATE TABLE\nINSERT 0 1000", "CREATE TABLE list (n int); INSERT INTO list SELECT generate_series(1, 1000)"),
		data:  query("500500", "SELECT sum(n) FROM list"),
	}.live(t)
}
