package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/image"
	"github.com/minictr/minictr/pkg/registry"
)

// mirrorsOf reads values of the flag --mirror.
func mirrorsOf(flags []string) (map[string][]string, error) {
	mirrors := make(map[string][]string)
	for _, f := range flags {
		host, url, ok := strings.Cut(f, "=")
		if !ok || host == "" || url == "" {
			return nil, fmt.Errorf("--mirror: %q is not HOST=URL, as in docker.io=http://localhost:5000", f)
		}
		mirrors[host] = append(mirrors[host], url)
	}
	return mirrors, nil
}

// registries is the client that flags, environment and configuration ask for.
// Only who speaks to a registry reads that.
func (c *call) registries() (*registry.Client, error) {
	f, err := readRegistries()
	if err != nil {
		return nil, err
	}
	mirrors, err := mirrorsOf(words(c.mirrors))
	if err != nil {
		return nil, err
	}
	maps.Copy(f.Mirrors, mirrors)
	return &registry.Client{
		Mirrors:      f.Mirrors,
		Insecure:     append(f.Insecure, words(c.insecure)...),
		Certificates: f.Certificates,
		Credentials:  findCredentials,
	}, nil
}

func pullCommand(f *pflag.FlagSet) action {
	quiet, plain := progressFlags(f)
	platform := f.String("platform", "", "of an image for several, take the one for `OS/ARCH[/VARIANT]`")
	return func(c *call) error {
		if err := c.exactly(1, "IMAGE"); err != nil {
			return err
		}
		p, err := engine.ParsePlatform(*platform)
		if err != nil {
			return err
		}
		ref, err := image.ParseReference(c.args[0])
		if err != nil {
			return err
		}
		e, err := c.engine()
		if err != nil {
			return err
		}
		e.Progress = func() (func(image.Progress), func() error) { return c.progress(*quiet, *plain) }
		if !*quiet {
			c.sayName(ref)
		}
		img, err := e.Pull(c, ref, p)
		if err != nil {
			return err
		}
		if !*quiet {
			digest := img.IndexOf(ref.String())
			if digest.IsZero() {
				digest = img.Manifest.Digest
			}
			fmt.Fprintf(c.stderr, "minictr: its digest is %s\n", digest)
		}
		_, err = fmt.Fprintln(c.stdout, img.ID)
		return err
	}
}

// sayName says where an image of a short name is.
func (c *call) sayName(ref image.Reference) {
	if name := c.args[0]; !strings.HasPrefix(name, ref.Repository()) {
		fmt.Fprintf(c.stderr, "minictr: %s is %s\n", name, ref)
	}
}

func pushCommand(f *pflag.FlagSet) action {
	quiet, plain := progressFlags(f)
	return func(c *call) error {
		if err := c.exactly(1, "NAME"); err != nil {
			return err
		}
		ref, err := image.ParseReference(c.args[0])
		if err != nil {
			return err
		}
		e, store, err := c.store()
		if err != nil {
			return err
		}
		img, err := store.Get(c.args[0])
		if err != nil {
			return err
		}
		if !slices.Contains(img.Names, ref.String()) {
			return fmt.Errorf("an image goes where its name says, and %s is not a name of this one, whose names are %s: minictr tag gives it more", ref, strings.Join(img.Names, " "))
		}
		client, err := e.Registries()
		if err != nil {
			return err
		}
		if !*quiet {
			c.sayName(ref)
		}
		report, stop := c.progress(*quiet, *plain)
		digest, err := client.Push(c, store, img, ref, report)
		if err = errors.Join(err, stop()); err != nil {
			return err
		}
		if !*quiet && digest == img.Manifest.Digest && !img.IndexOf(ref.String()).IsZero() {
			fmt.Fprintf(c.stderr, "minictr: it came as one of several platforms; the others are not here, and only %s was sent\n", printable(img.Config.String()))
		}
		_, err = fmt.Fprintln(c.stdout, digest)
		return err
	}
}

func loginCommand(f *pflag.FlagSet) action {
	user := f.StringP("username", "u", "", "sign in as `USER`")
	password := f.StringP("password", "p", "", "with `PASSWORD`, which others on this host can see meanwhile")
	stdin := f.Bool("password-stdin", false, "read the password from standard input")
	return func(c *call) error {
		host, err := c.host()
		if err != nil {
			return err
		}
		switch {
		case *password != "" && *stdin:
			return errors.New("--password and --password-stdin: one of them")
		case *password != "":
			fmt.Fprintln(c.stderr, "minictr: warning: others can see a password that is an argument: --password-stdin")
		case *stdin && *user == "":
			return errors.New("--password-stdin needs --username")
		}
		who, err := c.askFor(*user, *password, *stdin)
		if err != nil {
			return err
		}
		client, err := c.registries()
		if err != nil {
			return err
		}
		if err := client.Login(c, host, who); err != nil {
			return err
		}
		file, err := openCredentials("")
		if err != nil {
			return err
		}
		plain, err := file.put(c, host, who)
		if err != nil {
			return err
		}
		if plain {
			fmt.Fprintf(c.stderr, "minictr: warning: the password is in %s, not encrypted; credsStore there names a program that keeps it better\n", file.path)
		}
		_, err = fmt.Fprintf(c.stdout, "signed in at %s as %s\n", host, who.User)
		return err
	}
}

func logoutCommand(*pflag.FlagSet) action {
	return func(c *call) error {
		host, err := c.host()
		if err != nil {
			return err
		}
		file, err := openCredentials("")
		if err != nil {
			return err
		}
		found, err := file.forget(c, host)
		if err != nil {
			return err
		}
		text := "the password for %s is forgotten\n"
		if !found {
			text = "there is no password for %s\n"
		}
		_, err = fmt.Fprintf(c.stdout, text, host)
		return err
	}
}

// host is the registry that the argument names, or Docker's.
func (c *call) host() (string, error) {
	switch len(c.args) {
	case 0:
		return "docker.io", nil
	case 1:
		if host := hostOf(c.args[0]); image.IsDomain(host) {
			return host, nil
		}
		return "", fmt.Errorf("%q is not a registry's host", c.args[0])
	}
	return "", fmt.Errorf("%s takes one registry at most", c.name)
}

// askFor asks for what was not given: on the terminal, or standard input.
func (c *call) askFor(user, password string, stdin bool) (who registry.Credentials, err error) {
	who = registry.Credentials{User: user, Password: password}
	if stdin {
		text, err := io.ReadAll(io.LimitReader(os.Stdin, 64<<10))
		who.Password = strings.TrimRight(string(text), "\r\n")
		if err == nil && who.Password == "" {
			err = errors.New("--password-stdin: standard input is empty")
		}
		return who, err
	}
	if (user == "" || password == "") && !term.IsTerminal(0) {
		return who, errors.New("standard input is no terminal to ask on: --username and --password-stdin")
	}
	if user == "" {
		fmt.Fprint(c.stderr, "User: ")
		line, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return who, err
		}
		who.User = strings.TrimSpace(line)
	}
	if password == "" {
		fmt.Fprint(c.stderr, "Password: ")
		text, err := readPassword()
		fmt.Fprintln(c.stderr)
		if err != nil && !errors.Is(err, io.EOF) {
			return who, err
		}
		who.Password = string(text)
	}
	if who.User == "" || who.Password == "" {
		return who, errors.New("a name and a password are needed")
	}
	return who, nil
}

// readPassword reads a line without echo. A signal that ends the program gives
// the terminal back first.
func readPassword() ([]byte, error) {
	before, err := term.GetState(0)
	if err != nil {
		return nil, err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM)
	defer signal.Stop(signals)
	type line struct {
		text []byte
		err  error
	}
	read := make(chan line, 1)
	go func() {
		text, err := term.ReadPassword(0)
		read <- line{text, err}
	}()
	select {
	case l := <-read:
		return l.text, l.err
	case s := <-signals:
		return nil, errors.Join(fmt.Errorf("no password: %v", s), term.Restore(0, before))
	}
}
