// Package lesson is what people get wrong about containers, and how they find
// out: a lesson is a file with a question, the shortest experiment that answers
// it, and a check whose answer is a fact of the kernel at that moment.
//
// A lesson file is a txtar archive. Its sections en and ko hold texts, in
// paragraphs "key: text"; run, break, setup, answer, solve and clean hold shell
// scripts, see and broken regular expressions of which each must match what run
// and break print, and needs words. What stands before the first section is for
// who reads the file.
package lesson

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/minictr/minictr/pkg/lang"
)

// A Lesson is one of these files.
type Lesson struct {
	Name   string // "03-bricks", or the path of a file from outside
	Needs  []string
	Run    string // the experiment
	See    []*regexp.Regexp
	Break  string // the same with another wall
	Broken []*regexp.Regexp
	Setup  string // makes what the question is about
	Answer string // prints the answer
	Solve  string // does what a student does to find it, for tests
	Clean  string // takes away what Setup and the others have made outside of their directory
	texts  map[lang.Language]map[string][]string
}

// Keys of texts.
const (
	Title   = "title"   // the wrong belief
	Predict = "predict" // a question, before anything runs
	Explain = "explain" // what Run showed, and why
	Breaks  = "break"   // what Break changes, and what to expect
	Ask     = "ask"     // the question of the check
	Hint    = "hint"    // several, from vague to nearly the answer
)

var keys = [...]string{Title, Predict, Explain, Breaks, Ask, Hint}

//go:embed lessons
var files embed.FS

// All reads the lessons of this program, in their order.
func All() (all []*Lesson, err error) {
	entries, err := files.ReadDir("lessons")
	for _, e := range entries {
		text, e1 := files.ReadFile("lessons/" + e.Name())
		l, e2 := Parse(strings.TrimSuffix(e.Name(), ".txt"), text)
		if err = errors.Join(err, e1, e2); err == nil {
			all = append(all, l)
		}
	}
	return all, err
}

// Find returns the lesson of a number, or of a file, whose path has a slash or
// a dot.
func Find(name string) (*Lesson, error) {
	if strings.ContainsAny(name, "/.") {
		text, err := os.ReadFile(name)
		if err == nil {
			name, err = filepath.Abs(name)
		}
		if err != nil {
			return nil, err
		}
		return Parse(name, text)
	}
	found, _ := files.ReadDir("lessons") // they are in the program: there is no error
	for _, f := range found {
		if number, _, _ := strings.Cut(f.Name(), "-"); strings.TrimLeft(number, "0") == strings.TrimLeft(name, "0") {
			text, err := files.ReadFile(path.Join("lessons", f.Name()))
			if err != nil {
				return nil, err
			}
			return Parse(strings.TrimSuffix(f.Name(), ".txt"), text)
		}
	}
	return nil, fmt.Errorf("there is no lesson %q: minictr lesson lists them", name)
}

// Number is what the lesson is called by: that of the file's name, or its path.
func (l *Lesson) Number() string {
	if strings.Contains(l.Name, "/") {
		return l.Name
	}
	number, _, _ := strings.Cut(l.Name, "-")
	return strings.TrimLeft(number, "0")
}

// Patience ends a script that does not end by itself, with a cause that says so.
func (l *Lesson) Patience(ctx context.Context) (context.Context, context.CancelFunc) {
	most := time.Minute
	if slices.Contains(l.Needs, "vm") || slices.Contains(l.Needs, "dockerd") {
		most = 3 * time.Minute
	}
	return context.WithTimeoutCause(ctx, most, fmt.Errorf("it did not end within %v", most))
}

// Text is a text in a language, in both one after the other. Of hints there are
// several, which n counts.
func (l *Lesson) Text(in lang.Language, key string, n int) (list []string) {
	for _, one := range [...]lang.Language{lang.English, lang.Korean} {
		if texts := l.texts[one][key]; (in == one || in == lang.Both) && n < len(texts) {
			list = append(list, texts[n])
		}
	}
	return list
}

// Hints is how many there are.
func (l *Lesson) Hints() int { return len(l.texts[lang.English][Hint]) }

// Parse reads a lesson file. Its errors name the section.
func Parse(name string, text []byte) (*Lesson, error) {
	l := &Lesson{Name: name, texts: make(map[lang.Language]map[string][]string)}
	seen := make(map[string]bool)
	for _, f := range txtar.Parse(text).Files {
		err := l.section(f.Name, string(f.Data))
		if err == nil && seen[f.Name] {
			err = errors.New("there are two of it")
		}
		if err != nil {
			return nil, fmt.Errorf("lesson %s: section %s: %w", name, f.Name, err)
		}
		seen[f.Name] = true
	}
	for _, needed := range [...]string{"en", "ko", "run", "see", "break", "broken", "answer", "solve"} {
		if !seen[needed] {
			return nil, fmt.Errorf("lesson %s: there is no section %s, a line \"-- %[2]s --\" and what follows it", name, needed)
		}
	}
	for _, key := range keys {
		if en, ko := len(l.texts[lang.English][key]), len(l.texts[lang.Korean][key]); en != ko {
			return nil, fmt.Errorf("lesson %s: %s stands %d times in section en, and %d times in ko", name, key, en, ko)
		}
	}
	return l, nil
}

// section takes one section in.
func (l *Lesson) section(name, text string) (err error) {
	if strings.TrimSpace(text) == "" {
		return errors.New("it is empty")
	}
	switch name {
	case "en", "ko":
		l.texts[lang.Language(name)], err = paragraphs(text)
	case "needs":
		l.Needs = strings.Fields(text)
	case "see":
		l.See, err = expressions(text)
	case "broken":
		l.Broken, err = expressions(text)
	case "setup":
		l.Setup = text
	case "run":
		l.Run = text
	case "break":
		l.Break = text
	case "answer":
		l.Answer = text
	case "solve":
		l.Solve = text
	case "clean":
		l.Clean = text
	default:
		err = errors.New("no lesson has such a section; it is none of en, ko, needs, run, see, break, broken, setup, answer, solve, clean")
	}
	return err
}

// paragraphs reads texts: "key: text", over several lines, until an empty one.
func paragraphs(text string) (map[string][]string, error) {
	texts := make(map[string][]string)
	for p := range strings.SplitSeq(text, "\n\n") {
		if p = strings.Join(strings.Fields(p), " "); p == "" {
			continue
		}
		key, text, _ := strings.Cut(p, ": ")
		switch {
		case !slices.Contains(keys[:], key):
			return nil, fmt.Errorf("%.30q begins with none of %q and a colon", p, keys)
		case key != Hint && texts[key] != nil:
			return nil, fmt.Errorf("there are two texts %q", key)
		}
		texts[key] = append(texts[key], text)
	}
	for _, key := range keys {
		if texts[key] == nil {
			return nil, fmt.Errorf("there is no text \"%s: ...\"", key)
		}
	}
	return texts, nil
}

// expressions reads one regular expression a line; ^ and $ are a line's ends.
func expressions(text string) (list []*regexp.Regexp, err error) {
	for line := range strings.Lines(strings.TrimSpace(text)) {
		re, err := regexp.Compile("(?m)" + strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, err
		}
		list = append(list, re)
	}
	return list, nil
}

// Unseen returns the first expression that nothing in an output matches, nil if
// each matches.
func Unseen(list []*regexp.Regexp, output string) *regexp.Regexp {
	for _, re := range list {
		if !re.MatchString(output) {
			return re
		}
	}
	return nil
}
