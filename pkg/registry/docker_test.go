package registry

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minictr/minictr/pkg/image"
)

// htpasswd lets me in with the word secret.
const htpasswd = "me:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n"

// dockerRegistry starts Debian's docker-registry. certificate is the file of
// the one that it has if it is to speak TLS.
func dockerRegistry(t *testing.T, secure, login bool) (host, certificate string) {
	t.Helper()
	if _, err := exec.LookPath("docker-registry"); err != nil {
		t.Skip("needs Debian's package docker-registry")
	}
	host = deadHost(t)
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp:\n  addr: %q\n", filepath.Join(dir, "data"), host)
	if secure {
		c := selfSigned(t)
		key, err := x509.MarshalECPrivateKey(c.PrivateKey.(*ecdsa.PrivateKey))
		if err != nil {
			t.Fatal(err)
		}
		certificate = write("ca.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}))
		config += fmt.Sprintf("  tls: {certificate: %q, key: %q}\n", certificate,
			write("key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key})))
	}
	if login {
		config += fmt.Sprintf("auth: {htpasswd: {realm: here, path: %q}}\n", write("htpasswd", []byte(htpasswd)))
	}
	server := exec.Command("docker-registry", "serve", write("config.yml", []byte(config)))
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(server.Process.Kill(), server.Wait()) })
	for range 200 {
		if c, err := net.Dial("tcp", host); err == nil {
			_ = c.Close()
			return host, certificate
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("docker-registry doesn't listen")
	return
}

// TestDockerRegistry pushes to Debian's docker-registry, and pulls elsewhere.
func TestDockerRegistry(t *testing.T) {
	for _, secure := range []bool{false, true} {
		for _, login := range []bool{false, true} {
			t.Run(fmt.Sprintf("TLS %t, password %t", secure, login), func(t *testing.T) {
				here, there := openStore(t), openStore(t)
				host, certificate := dockerRegistry(t, secure, login)
				c := impatient()
				c.delays.idle = 10 * time.Second
				who := Credentials{User: "me", Password: "secret"}
				if secure {
					c.Certificates = map[string]string{host: certificate}
				}
				if login {
					if err := c.Login(t.Context(), host, Credentials{User: "me", Password: "wrong"}); err == nil || !strings.Contains(err.Error(), "status 401") {
						t.Errorf("got %v", err)
					}
					c.Credentials = func(context.Context, string) (Credentials, error) { return who, nil }
				}
				if err := c.Login(t.Context(), host, who); err != nil {
					t.Error(err)
				}
				content := bytes.Repeat([]byte("some text "), 1<<16)
				img, err := here.Import(t.Context(), bytes.NewReader(packed(t, string(content))), host+"/my/image:v1", image.Config{}, image.Options{})
				if err != nil {
					t.Fatal(err)
				}
				for _, name := range []string{"/my/image:v1", "/my/image:v2", "/another/image"} {
					ref := parse(t, host+name)
					got, err := c.Push(t.Context(), here.Store, img, ref, nil)
					if err != nil || got != img.Manifest.Digest {
						t.Fatalf("%s: got %v, %v", name, got, err)
					}
					pulled, err := c.Pull(t.Context(), there.Store, ref, image.Options{})
					if err != nil || pulled.Manifest.Digest != got {
						t.Fatalf("%s: got %v, %v", name, pulled, err)
					}
					args := []string{"inspect", "--format", "{{.Digest}}"}
					if login {
						args = append(args, "--creds", "me:secret")
					}
					if secure {
						args = append(args, "--cert-dir", filepath.Dir(certificate))
					} else {
						args = append(args, "--tls-verify=false")
					}
					if out := skopeo(t, append(args, "docker://"+ref.String())...); out != got.String() {
						t.Errorf("%s: skopeo finds %s, want %s", name, out, got)
					}
				}
				if text, err := img.ReadFile("file"); err != nil || !bytes.Equal(text, content) {
					t.Errorf("got %d bytes, %v", len(text), err)
				}
			})
		}
	}
}

// TestReferrersDockerRegistry pushes an image and its signature to
// docker-registry, which lists no referrers, and pulls them again.
func TestReferrersDockerRegistry(t *testing.T) {
	host, _ := dockerRegistry(t, false, false)
	f := newFakeRegistry(t)
	d := f.image("a", runtime.GOARCH, "ours")
	f.tags["a:v1"] = d.Digest.String()
	f.refer("a", d, "signed")
	here, there := openStore(t), openStore(t)
	here.Warn = func(err error) { t.Error(err) }
	there.Warn = here.Warn
	ref, to := f.reference("a:v1"), parse(t, host+"/a:v2")
	c := impatient()
	c.delays.idle = 10 * time.Second
	if _, err := c.Pull(t.Context(), here.Store, ref, image.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := here.Tag(ref.String(), to.String()); err != nil {
		t.Fatal(err)
	}
	img, err := here.Get(to.String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Push(t.Context(), here.Store, img, to, nil); err != nil {
		t.Fatal(err)
	}
	if img, err = c.Pull(t.Context(), there.Store, to, image.Options{}); err != nil {
		t.Fatal(err)
	}
	if got := signatures(t, img, to); len(got) != 1 || got[0] != "signed" {
		t.Errorf("got %q", got)
	}
}

func skopeo(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip("needs Debian's package skopeo")
	}
	cmd := exec.Command("skopeo", append([]string{"--insecure-policy"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("skopeo: %v: %s", err, &stderr)
	}
	return strings.TrimSpace(string(out))
}

// TestPullOfSkopeo pulls what skopeo has pushed to docker-registry.
func TestPullOfSkopeo(t *testing.T) {
	for _, format := range []string{"oci", "v2s2"} {
		s := openStore(t)
		host, _ := dockerRegistry(t, false, false)
		layout := writeLayout(t, format)
		name := host + "/some/image:" + format
		skopeo(t, "copy", "--dest-tls-verify=false", "--format", format, "oci:"+layout, "docker://"+name)
		img, err := impatient().Pull(t.Context(), s.Store, parse(t, name), image.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if content, err := img.ReadFile("file"); err != nil || string(content) != format {
			t.Errorf("got %q, %v", content, err)
		}
	}
}

// writeLayout writes an image layout of an image of one file.
func writeLayout(t *testing.T, content string) string {
	t.Helper()
	f := &fakeRegistry{t: t, blobs: map[string][]byte{}}
	d := f.image("", runtime.GOARCH, content)
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "blobs/sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{
		"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`),
		"index.json": jsonOf(t, ispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ispec.Descriptor{d}}),
	}
	for name, content := range f.blobs {
		files["blobs/sha256/"+strings.TrimPrefix(name, "@sha256:")] = content
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// selfSigned makes a certificate for the loopback interface.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "a registry"},
		NotAfter:              time.Now().Add(time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	text, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(text)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{text}, PrivateKey: key, Leaf: leaf}
}
