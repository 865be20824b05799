package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode"
)

// Change makes changes that are written as in a Dockerfile, such as
// `CMD ["/bin/sh"]`, `ENV A=1 B="2 3"` or `EXPOSE 80/tcp`. As there, an
// ENTRYPOINT takes the Cmd away that the image had before.
func (c *ContainerConfig) Change(changes ...string) error {
	inherited := true // Cmd
	for _, text := range changes {
		word, rest := cutSpace(strings.TrimSpace(text))
		word = strings.ToUpper(word)
		if word == "ENTRYPOINT" && inherited {
			c.Cmd = nil
		}
		inherited = inherited && word != "CMD"
		if err := c.change(word, rest); err != nil {
			return fmt.Errorf("change %.200q: %w", text, err)
		}
	}
	return nil
}

func (c *ContainerConfig) change(word, rest string) (err error) {
	if rest == "" {
		return errors.New("is not INSTRUCTION VALUE")
	}
	switch word {
	case "CMD":
		c.Cmd, err = commandLine(rest)
	case "ENTRYPOINT":
		c.Entrypoint, err = commandLine(rest)
	case "ENV":
		return pairs(rest, func(name, value string) {
			for i, old := range c.Env {
				if strings.HasPrefix(old, name+"=") {
					c.Env[i] = name + "=" + value
					return
				}
			}
			c.Env = append(c.Env, name+"="+value)
		})
	case "LABEL":
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		return pairs(rest, func(name, value string) { c.Labels[name] = value })
	case "EXPOSE":
		for port := range strings.FieldsSeq(rest) {
			if !strings.Contains(port, "/") {
				port += "/tcp"
			}
			add(&c.ExposedPorts, port)
		}
	case "VOLUME":
		list, ok := jsonList(rest)
		if !ok {
			list, err = words(rest)
		}
		for _, v := range list {
			add(&c.Volumes, v)
		}
	case "USER":
		c.User = rest
	case "WORKDIR":
		c.WorkingDir = path.Join("/", c.WorkingDir, rest)
		if path.IsAbs(rest) {
			c.WorkingDir = path.Clean(rest)
		}
	case "STOPSIGNAL":
		c.StopSignal = rest
	default:
		return errors.New("is none of CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME and WORKDIR")
	}
	return err
}

func add(set *map[string]struct{}, name string) {
	if *set == nil {
		*set = map[string]struct{}{}
	}
	(*set)[name] = struct{}{}
}

// commandLine is a list, or a text for a shell.
func commandLine(text string) ([]string, error) {
	if list, ok := jsonList(text); ok {
		return list, nil
	}
	if strings.HasPrefix(text, "[") {
		return nil, errors.New(`a list is written as ["word", "word"]`)
	}
	return []string{"/bin/sh", "-c", text}, nil
}

func jsonList(text string) (list []string, ok bool) {
	err := json.Unmarshal([]byte(text), &list)
	return list, err == nil
}

// pairs reads NAME=VALUE..., or the old form of one pair, NAME VALUE.
func pairs(text string, set func(name, value string)) error {
	list, err := words(text)
	if err != nil {
		return err
	}
	if name, value := cutSpace(text); value != "" && !strings.Contains(name, "=") {
		set(name, value)
		return nil
	}
	for _, word := range list {
		name, value, found := strings.Cut(word, "=")
		if !found || name == "" {
			return fmt.Errorf("%q is not NAME=VALUE", word)
		}
		set(name, value)
	}
	return nil
}

// cutSpace cuts a text, which neither begins nor ends with white space, at the
// first that there is.
func cutSpace(text string) (before, after string) {
	if i := strings.IndexFunc(text, unicode.IsSpace); i >= 0 {
		return text[:i], strings.TrimSpace(text[i:])
	}
	return text, ""
}

// words splits a text as a shell does: at white space, but for what is in
// quotes or behind a backslash.
func words(text string) (list []string, err error) {
	var word strings.Builder
	var quote rune
	inWord, escaped := false, false
	for _, r := range text {
		switch {
		case escaped:
			escaped = false
			word.WriteRune(r)
		case r == '\\' && quote != '\'':
			escaped, inWord = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, inWord = r, true
		case quote == 0 && unicode.IsSpace(r):
			if inWord {
				list = append(list, word.String())
			}
			word.Reset()
			inWord = false
		default:
			inWord = true
			word.WriteRune(r)
		}
	}
	if quote != 0 || escaped {
		return nil, errors.New("a quotation has no end")
	}
	if inWord {
		list = append(list, word.String())
	}
	return list, nil
}
