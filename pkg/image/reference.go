package image

import (
	"errors"
	"fmt"
	"strings"
)

const (
	defaultDomain  = "docker.io"
	defaultLibrary = "library/"
	defaultTag     = "latest"
	maxNameLength  = 255
	maxTagLength   = 128
)

// Reference names an image: a registry's host, the path of a repository in it,
// and which of the repository's images, by tag or digest or both.
type Reference struct {
	Domain string // "docker.io", "localhost:5000"
	Path   string // "library/alpine"
	Tag    string // empty if none was given
	Digest Digest // zero if none was given
}

// ParseReference reads [domain/]path[:tag][@digest] as Docker does. Without a
// domain it is docker.io, where a path of one component belongs to library.
// The first component is a domain if it has a dot, a colon or a capital
// letter, or is localhost.
func ParseReference(s string) (Reference, error) {
	r, err := parseReference(s)
	if err != nil {
		return Reference{}, fmt.Errorf("reference %.300q: %w", s, err)
	}
	return r, nil
}

func parseReference(s string) (r Reference, err error) {
	if len(s) == 64 && isHex(s) {
		return r, errors.New("64 hexadecimal digits are an image ID, not a name")
	}
	rest, dgst, found := strings.Cut(s, "@")
	if found {
		if r.Digest, err = ParseDigest(dgst); err != nil {
			return r, err
		}
	}
	if colon := strings.LastIndexByte(rest, ':'); colon > strings.LastIndexByte(rest, '/') {
		rest, r.Tag = rest[:colon], rest[colon+1:]
		if !isTag(r.Tag) {
			return r, fmt.Errorf("%.140q is not a tag: want at most %d letters, digits, '_', '.' and '-', not beginning with '.' or '-'", r.Tag, maxTagLength)
		}
	}
	r.Domain, r.Path = splitDomain(rest)
	switch {
	case len(r.Domain)+1+len(r.Path) > maxNameLength:
		return r, fmt.Errorf("the name is longer than %d characters", maxNameLength)
	case !isDomain(r.Domain):
		return r, fmt.Errorf("%q is not a registry's host", r.Domain)
	}
	for component := range strings.SplitSeq(r.Path, "/") {
		if !isPathComponent(component) {
			return r, pathComponentError(component)
		}
	}
	return r, nil
}

func pathComponentError(component string) error {
	if lower := strings.ToLower(component); lower != component && isPathComponent(lower) {
		return fmt.Errorf("%q: the name must be in lower case", component)
	}
	return fmt.Errorf("%q is not part of a name: want lower-case letters and digits, with single '.', one or two '_' or any '-' between them", component)
}

func splitDomain(name string) (domain, path string) {
	first, rest, found := strings.Cut(name, "/")
	isHost := found && (first == "localhost" || strings.ContainsAny(first, ".:") || first != strings.ToLower(first))
	if isHost {
		domain, path = first, rest
	} else {
		domain, path = defaultDomain, name
	}
	if domain == "index."+defaultDomain {
		domain = defaultDomain
	}
	if domain == defaultDomain && !strings.Contains(path, "/") {
		path = defaultLibrary + path
	}
	return domain, path
}

// String returns the reference in full, such as
// docker.io/library/alpine:latest.
func (r Reference) String() string { return r.Domain + "/" + r.Path + r.suffix() }

// Familiar returns the reference as people write it, without docker.io and
// library: alpine:latest.
func (r Reference) Familiar() string {
	name := r.Domain + "/" + r.Path
	if short, found := strings.CutPrefix(name, defaultDomain+"/"); found {
		name = strings.TrimPrefix(short, defaultLibrary)
		if strings.Contains(name, "/") && strings.HasPrefix(short, defaultLibrary) {
			name = short
		}
	}
	return name + r.suffix()
}

// Repository returns the reference without tag and digest.
func (r Reference) Repository() string { return r.Domain + "/" + r.Path }

func (r Reference) suffix() string {
	switch {
	case r.Digest.IsZero() && r.Tag == "":
		return ":" + defaultTag
	case r.Digest.IsZero():
		return ":" + r.Tag
	case r.Tag == "":
		return "@" + r.Digest.String()
	}
	return ":" + r.Tag + "@" + r.Digest.String()
}

func isLowerAlnum(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

func isAlnum(c byte) bool { return isLowerAlnum(c) || 'A' <= c && c <= 'Z' }

func isTag(s string) bool {
	if s == "" || len(s) > maxTagLength || s[0] == '.' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && !strings.Contains("_.-", s[i:i+1]) {
			return false
		}
	}
	return true
}

// isPathComponent wants runs of letters and digits, joined by one '.', one or
// two '_', or any number of '-'.
func isPathComponent(s string) bool {
	if s == "" || !isLowerAlnum(s[0]) || !isLowerAlnum(s[len(s)-1]) {
		return false
	}
	for i := 0; i < len(s); {
		run := i
		for i < len(s) && isLowerAlnum(s[i]) {
			i++
		}
		if i > run {
			continue
		}
		for i < len(s) && !isLowerAlnum(s[i]) {
			i++
		}
		separator := s[run:i]
		if separator != "." && separator != "_" && separator != "__" && strings.Trim(separator, "-") != "" {
			return false
		}
	}
	return true
}

// isDomain wants a host name, an IPv4 address or an IPv6 address in brackets,
// each with or without a port.
func isDomain(s string) bool {
	host, port, found := s, "", false
	if colon := strings.LastIndexByte(s, ':'); colon > strings.LastIndexByte(s, ']') {
		host, port, found = s[:colon], s[colon+1:], true
	}
	if found && (port == "" || strings.Trim(port, "0123456789") != "") {
		return false
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		return ok && inner != "" && strings.Trim(inner, "0123456789abcdefABCDEF:") == ""
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || !isAlnum(label[0]) || !isAlnum(label[len(label)-1]) {
			return false
		}
		for i := range len(label) {
			if !isAlnum(label[i]) && label[i] != '-' {
				return false
			}
		}
	}
	return true
}
