package engine

import (
	"errors"
	"fmt"
	"strings"

	"github.com/minictr/minictr/pkg/logfile"
)

// checkRecord checks options that are not for the wall, but for who starts the
// container and keeps its log.
func checkRecord(_ *wall, o Options) error {
	_, err := ParseRestart(o.Restart)
	_, e := ParseLog(o.LogDriver, o.LogOpts)
	_, platform := ParsePlatform(o.Platform)
	switch {
	case o.Remove && o.Restart != "" && o.Restart != "no":
		e = errors.Join(e, errors.New("--rm and --restart: a container that is started again is not to be removed"))
	case o.StopTimeout != nil && *o.StopTimeout < -1:
		e = errors.Join(e, fmt.Errorf("--stop-timeout: %d is neither a number of seconds nor -1, for ever", *o.StopTimeout))
	case o.Pull != "" && o.Pull != "always" && o.Pull != "missing" && o.Pull != "never":
		e = errors.Join(e, fmt.Errorf("--pull: %q is none of always, missing and never", o.Pull))
	}
	return errors.Join(err, e, platform)
}

// A Restart says when a container that has ended is started again.
type Restart struct {
	Policy  string // "no", "on-failure", "always" or "unless-stopped"
	Retries int    // of on-failure: how often at most; 0 is no limit
}

// ParseRestart reads no, on-failure[:N], always or unless-stopped; "" is no.
func ParseRestart(text string) (Restart, error) {
	policy, retries, limited := strings.Cut(text, ":")
	r := Restart{Policy: policy}
	switch policy {
	case "":
		r.Policy = "no"
		fallthrough
	case "no", "always", "unless-stopped":
		if limited {
			return r, fmt.Errorf("--restart: %q: only on-failure takes a number", text)
		}
	case "on-failure":
		if n, err := whole(retries, 0, 1<<31-1); err == nil {
			r.Retries = int(n)
		} else if limited {
			return r, fmt.Errorf("--restart: %q: %q is no number", text, retries)
		}
	default:
		return r, fmt.Errorf("--restart: %q is none of no, on-failure[:N], always and unless-stopped", text)
	}
	return r, nil
}

// wants says whether a container is to be started again that has ended with a
// status, after so many times.
func (r Restart) wants(status, times int) bool {
	switch r.Policy {
	case "always", "unless-stopped":
		return true
	case "on-failure":
		return status != 0 && (r.Retries == 0 || times < r.Retries)
	}
	return false
}

// A Log says how much of a container's output is kept.
type Log struct {
	None  bool
	Size  int64 // bytes of each file; -1 is no limit
	Files int   // that are kept, the one in use among them
}

// rotation is how much of it is kept. Without a log there is what an attached
// terminal needs.
func (l Log) rotation() logfile.Rotation {
	if l.None {
		return logfile.Rotation{MaxSize: 64 << 10}
	}
	return logfile.Rotation{MaxSize: max(l.Size, 0), MaxFiles: l.Files}
}

// ParseLog reads --log-driver and what --log-opt says.
func ParseLog(driver string, options []string) (Log, error) {
	l := Log{Size: 10 << 20, Files: 3}
	switch driver {
	case "", "json-file":
	case "none":
		l.None = true
	default:
		return l, fmt.Errorf("--log-driver: %q is neither json-file nor none: output is kept in a file, or not at all", driver)
	}
	for _, text := range options {
		key, value, _ := strings.Cut(text, "=")
		switch key {
		case "max-size":
			if l.Size = -1; value != "-1" {
				n, err := size("--log-opt", value, 1)
				if err != nil {
					return l, err
				}
				l.Size = n
			}
		case "max-file":
			n, err := whole(value, 1, 1000)
			if err != nil {
				return l, fmt.Errorf("--log-opt: %q: %w", text, err)
			}
			l.Files = int(n)
		default:
			return l, fmt.Errorf("--log-opt: %q is neither max-size=BYTES nor max-file=N", text)
		}
	}
	return l, nil
}
