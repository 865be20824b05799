package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/registry"
	"github.com/minictr/minictr/pkg/sys"
)

// Passwords are where Docker, Podman and others have them too: in the file
// config.json, or at the programs that it names, docker-credential-NAME.

// tokenUser stands for the user's name where the secret is an identity token.
const tokenUser = "<token>"

// credentialsFile is a config.json. What is not ours in it stays as it is.
type credentialsFile struct {
	path string
	all  map[string]json.RawMessage
	// auths are those that the file holds by itself.
	auths map[string]json.RawMessage
	// helpers are the programs for one host each, and helper is for the others.
	helpers map[string]string
	helper  string
}

// findCredentials finds a host's credentials where login keeps them, or where
// Podman's does, unless one place is chosen.
func findCredentials(ctx context.Context, host string) (who registry.Credentials, err error) {
	f, err := openCredentials("")
	if err == nil {
		who, err = f.get(ctx, host)
	}
	if err != nil || who != (registry.Credentials{}) || os.Getenv("REGISTRY_AUTH_FILE")+os.Getenv("DOCKER_CONFIG") != "" {
		return who, err
	}
	path := fmt.Sprintf("/run/containers/%d/auth.json", os.Getuid())
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		path = filepath.Join(dir, "containers/auth.json")
	}
	if f, err = openCredentials(path); err != nil {
		return who, err
	}
	return f.get(ctx, host)
}

// openCredentials reads a file, or that of login.
func openCredentials(path string) (*credentialsFile, error) {
	f := &credentialsFile{path: cmp.Or(path, os.Getenv("REGISTRY_AUTH_FILE")), all: map[string]json.RawMessage{}, auths: map[string]json.RawMessage{}}
	if dir := os.Getenv("DOCKER_CONFIG"); f.path == "" && dir != "" {
		f.path = filepath.Join(dir, "config.json")
	}
	if f.path == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, err
		}
		f.path = filepath.Join(home, ".docker/config.json")
	}
	if target, err := filepath.EvalSymlinks(f.path); err == nil {
		f.path = target // so that a link to it stays one
	}
	text, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err == nil && len(bytes.TrimSpace(text)) > 0 {
		err = json.Unmarshal(text, &f.all)
	}
	for key, v := range map[string]any{"auths": &f.auths, "credHelpers": &f.helpers, "credsStore": &f.helper} {
		if text := f.all[key]; err == nil && text != nil {
			err = json.Unmarshal(text, v)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: it is not as docker writes it: %w", f.path, err) // JSON's errors quote no text of it
	}
	if f.all == nil { // by a null
		f.all = map[string]json.RawMessage{}
	}
	if f.auths == nil {
		f.auths = map[string]json.RawMessage{}
	}
	return f, nil
}

// keyOf is what a host's credentials are kept by.
func keyOf(host string) string {
	if host == "docker.io" {
		return "https://index.docker.io/v1/"
	}
	return host
}

// hostOf is the host that a key is for. Those of old have a scheme and a path.
func hostOf(key string) string {
	if _, rest, found := strings.Cut(key, "://"); found {
		key, _, _ = strings.Cut(rest, "/")
	}
	if key == "index.docker.io" || key == "registry-1.docker.io" {
		return "docker.io"
	}
	return key
}

// helperFor is the program that has a host's credentials; "" if none has.
func (f *credentialsFile) helperFor(host string) string {
	for _, key := range slices.Sorted(maps.Keys(f.helpers)) {
		if hostOf(key) == host {
			return f.helpers[key]
		}
	}
	return f.helper
}

// get finds a host's credentials; the zero ones if there are none.
func (f *credentialsFile) get(ctx context.Context, host string) (registry.Credentials, error) {
	if helper := f.helperFor(host); helper != "" {
		var answer struct{ Username, Secret string }
		out, err := runHelper(ctx, helper, "get", keyOf(host))
		if err == nil && json.Unmarshal(out, &answer) != nil {
			err = fmt.Errorf("docker-credential-%s get: its answer can't be read", helper)
		}
		switch {
		case errors.Is(err, errNoCredentials):
		case err != nil:
			return registry.Credentials{}, fmt.Errorf("%s names a program for passwords: %w", f.path, err)
		case answer.Username == tokenUser:
			return registry.Credentials{IdentityToken: answer.Secret}, nil
		default:
			return registry.Credentials{User: answer.Username, Password: answer.Secret}, nil
		}
	}
	for _, key := range slices.Sorted(maps.Keys(f.auths)) {
		if hostOf(key) == host {
			who, err := parseAuth(f.auths[key])
			if err != nil {
				err = fmt.Errorf("%s: the entry of %s in auths can't be read", f.path, key)
			}
			return who, err
		}
	}
	return registry.Credentials{}, nil
}

// auth is an entry of the file.
type auth struct {
	Auth          string `json:"auth,omitempty"` // base64 of USER:PASSWORD
	IdentityToken string `json:"identitytoken,omitempty"`
}

func parseAuth(text []byte) (registry.Credentials, error) {
	var a auth
	plain, err := []byte(nil), json.Unmarshal(text, &a)
	if err == nil {
		plain, err = base64.StdEncoding.DecodeString(a.Auth)
	}
	if err != nil {
		return registry.Credentials{}, err
	}
	user, password, _ := strings.Cut(string(plain), ":")
	if a.IdentityToken != "" {
		return registry.Credentials{IdentityToken: a.IdentityToken}, nil
	}
	return registry.Credentials{User: user, Password: strings.Trim(password, "\x00")}, nil
}

// put keeps a user's password, and tells whether that is in plain text.
func (f *credentialsFile) put(ctx context.Context, host string, who registry.Credentials) (plain bool, err error) {
	if helper := f.helperFor(host); helper != "" {
		text, err := json.Marshal(map[string]string{"ServerURL": keyOf(host), "Username": who.User, "Secret": who.Password})
		if err == nil {
			_, err = runHelper(ctx, helper, "store", string(text))
		}
		if err == nil && f.drop(host) { // from before there was a helper
			err = f.write()
		}
		return false, err
	}
	f.drop(host)
	f.auths[keyOf(host)], err = json.Marshal(auth{Auth: base64.StdEncoding.EncodeToString([]byte(who.User + ":" + who.Password))})
	if err != nil {
		return true, err
	}
	return true, f.write()
}

// forget removes a host's credentials, and tells whether there were any.
func (f *credentialsFile) forget(ctx context.Context, host string) (found bool, err error) {
	if helper := f.helperFor(host); helper != "" {
		_, err = runHelper(ctx, helper, "erase", keyOf(host))
		found = err == nil
		if errors.Is(err, errNoCredentials) {
			err = nil
		}
	}
	if f.drop(host) {
		return true, errors.Join(err, f.write())
	}
	return found, err
}

func (f *credentialsFile) drop(host string) bool {
	before := len(f.auths)
	maps.DeleteFunc(f.auths, func(key string, _ json.RawMessage) bool { return hostOf(key) == host })
	return len(f.auths) < before
}

// write replaces the file: another program sees the old or the new.
func (f *credentialsFile) write() (err error) {
	f.all["auths"], err = json.Marshal(f.auths)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(f.all, "", "\t")
	if err != nil {
		return err
	}
	dir := filepath.Dir(f.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return sys.Replace(f.path, dir, func(temp *os.File) (err error) {
		var old unix.Stat_t
		if unix.Stat(f.path, &old) == nil { // it stays its owner's, whom sudo serves
			err = temp.Chown(int(old.Uid), int(old.Gid))
		}
		if err == nil {
			_, err = temp.Write(append(text, '\n'))
		}
		return err
	})
}

// errNoCredentials is a helper's answer for a host that it doesn't know.
var errNoCredentials = errors.New("credentials not found in native keychain")

// helperTimeout is long enough for a person whom a helper asks for a passphrase.
const helperTimeout = 2 * time.Minute

// runHelper runs docker-credential-NAME, which reads what it is asked for from
// its standard input.
func runHelper(ctx context.Context, name, operation, input string) ([]byte, error) {
	program := "docker-credential-" + name
	if strings.Contains(name, "/") {
		return nil, fmt.Errorf("%s: the name of a program can't have a slash", program)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, helperTimeout, fmt.Errorf("no answer for %v", helperTimeout))
	defer cancel()
	cmd := exec.CommandContext(ctx, program, operation)
	cmd.WaitDelay = time.Second // for what it has started
	cmd.Stdin, cmd.Stderr = strings.NewReader(input), os.Stderr
	out, err := cmd.Output()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return out, nil
	}
	text := string(bytes.TrimSpace(out)) // where the protocol has its errors
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case text == errNoCredentials.Error():
		return nil, errNoCredentials
	case text != "" && operation != "get": // whose output may be a secret
		return nil, fmt.Errorf("%s %s: %w: %.200q", program, operation, err, text)
	}
	return nil, fmt.Errorf("%s %s: %w", program, operation, err)
}
