package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const registryConf = "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s/registry}}\nhttp: {addr: %q}\n"

// serve starts a registry whose blobs are in the cache. It is not in the
// cgroup: its time is nobody's.
func (b *bench) serve() (*exec.Cmd, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b.host = l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	conf := filepath.Join(b.dir, "registry.yml")
	if err := os.WriteFile(conf, fmt.Appendf(nil, registryConf, b.cache, b.host), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command("docker-registry", "serve", conf)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for range 100 {
		if c, err := net.Dial("tcp", b.host); err == nil {
			return cmd, c.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	end(cmd)
	return nil, fmt.Errorf("docker-registry does not answer at %s", b.host)
}

// A descriptor refers to a blob.
type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

const media = "application/vnd.oci.image."

// push brings an image into the registry, its layers compressed, and returns
// the digests of its blobs.
func (b bench) push(name, tag string, compress []string, layers []layer) (digests []string, err error) {
	parts := struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Config        descriptor   `json:"config"`
		Layers        []descriptor `json:"layers"`
	}{SchemaVersion: 2, MediaType: media + "manifest.v1+json"}
	var diffIDs []string
	for _, layer := range layers {
		file, diffID, err := b.compress(layer, compress)
		if err != nil {
			return nil, err
		}
		d, err := b.pushFile(name, file)
		if err != nil {
			return nil, err
		}
		d.MediaType = media + "layer.v1.tar+" + compress[0]
		parts.Layers, diffIDs, digests = append(parts.Layers, d), append(diffIDs, diffID), append(digests, hex(d))
	}
	config, err := json.Marshal(map[string]any{
		"os": "linux", "architecture": runtime.GOARCH, "config": map[string]any{"Cmd": []string{"/bin/sh"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	if err != nil {
		return nil, err
	}
	parts.Config = descriptor{media + "config.v1+json", fmt.Sprintf("sha256:%x", sha256.Sum256(config)), int64(len(config))}
	if err := b.upload(name, parts.Config, bytes.NewReader(config)); err != nil {
		return nil, err
	}
	text, err := json.Marshal(parts)
	if err != nil {
		return nil, err
	}
	_, err = b.send(http.MethodPut, "http://"+b.host+"/v2/"+name+"/manifests/"+tag, parts.MediaType, int64(len(text)), bytes.NewReader(text))
	return append(digests, hex(parts.Config), fmt.Sprintf("%x", sha256.Sum256(text))), err
}

func hex(d descriptor) string { return strings.TrimPrefix(d.Digest, "sha256:") }

// compress writes a layer to a file, and returns its diffID too.
func (b bench) compress(write layer, program []string) (file, diffID string, err error) {
	file = filepath.Join(b.cache, "layer")
	out, err := os.Create(file)
	if err != nil {
		return "", "", err
	}
	defer out.Close()
	cmd := exec.Command(program[0], program[1:]...)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", "", err
	}
	if err := cmd.Start(); err != nil {
		return "", "", err
	}
	sum := sha256.New()
	if err := write(io.MultiWriter(in, sum)); err != nil {
		end(cmd)
		return "", "", err
	}
	if err := in.Close(); err != nil {
		return "", "", err
	}
	return file, fmt.Sprintf("sha256:%x", sum.Sum(nil)), cmd.Wait()
}

// pushFile uploads a file as a blob, and removes it.
func (b bench) pushFile(name, file string) (d descriptor, err error) {
	f, err := os.Open(file)
	if err != nil {
		return d, err
	}
	defer f.Close()
	sum := sha256.New()
	if d.Size, err = io.Copy(sum, f); err != nil {
		return d, err
	}
	d.Digest = fmt.Sprintf("sha256:%x", sum.Sum(nil))
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return d, err
	}
	if err := b.upload(name, d, f); err != nil {
		return d, err
	}
	return d, os.Remove(file)
}

// upload is one blob in one piece (distribution-spec, "Pushing blobs").
func (b bench) upload(name string, d descriptor, content io.Reader) error {
	place, err := b.send(http.MethodPost, "http://"+b.host+"/v2/"+name+"/blobs/uploads/", "", 0, nil)
	if err != nil {
		return err
	}
	_, err = b.send(http.MethodPut, place+"&digest="+d.Digest, "application/octet-stream", d.Size, content)
	return err
}

// send sends a request and returns where its answer points to.
func (b bench) send(method, url, mediaType string, size int64, content io.Reader) (location string, err error) {
	request, err := http.NewRequest(method, url, content)
	if err != nil {
		return "", err
	}
	request.ContentLength = size
	request.Header.Set("Content-Type", mediaType)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 300 {
		text, _ := io.ReadAll(answer.Body)
		return "", fmt.Errorf("%s %s: %s\n%s", method, url, answer.Status, text)
	}
	return answer.Header.Get("Location"), nil
}
