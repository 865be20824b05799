// Package lang says minictr's sentences in the reader's language.
//
// Code has English only. What is printed for people is translated where it is
// printed, by a catalog: files of paragraphs, each an English sentence and the
// same in Korean. A %s in both stands for what differs, which is translated
// too if the catalog has it and it is more than one word: one is a name. Commands,
// keys, JSON and error codes stay English.
package lang

import (
	"embed"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
)

// A Language is what a reader wants to read.
type Language string

// Languages, as flags name them.
const (
	English Language = "en"
	Korean  Language = "ko"
	Both    Language = "both" // each sentence twice, English first
)

// Parse reads the name of a language, as a flag has it.
func Parse(name string) (Language, error) {
	switch l := Language(name); l {
	case English, Korean, Both:
		return l, nil
	}
	return "", errors.New("it is none of en, ko, both")
}

// Local is the language that the environment asks for: locale(7).
func Local() Language {
	for _, name := range [...]string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if value := os.Getenv(name); value != "" {
			if value == "ko" || strings.HasPrefix(value, "ko_") || strings.HasPrefix(value, "ko.") {
				return Korean
			}
			return English
		}
	}
	return English
}

// Say returns an English sentence in the language, a line for each of Both. A
// sentence that the catalog lacks stays English.
func (l Language) Say(english string) []string {
	if l == English || english == "" {
		return []string{english}
	}
	korean, ok := Translate(english)
	switch {
	case !ok:
		return []string{english}
	case l == Korean:
		return []string{korean}
	}
	return []string{english, korean}
}

// Line is Say on one line.
func (l Language) Line(english string) string { return strings.Join(l.Say(english), " / ") }

// Translate returns the Korean of an English sentence, and whether the catalog
// has it. Of several entries with a %s the one with the most other words wins.
func Translate(english string) (string, bool) {
	c := catalog()
	if korean, ok := c.sentences[english]; ok {
		return korean, true
	}
	var best *pattern
	var fill []string
	for i := range c.patterns {
		p := &c.patterns[i]
		if best != nil && p.literal <= best.literal {
			continue
		}
		if found := p.match(english); found != nil {
			best, fill = p, found
		}
	}
	if best == nil {
		return english, false
	}
	args := make([]any, len(fill))
	for i, f := range fill {
		args[i] = f
		if strings.Contains(f, " ") { // one word is a name or a value, even where the catalog has it
			args[i], _ = Translate(f)
		}
	}
	return fmt.Sprintf(best.korean, args...), true
}

// A pattern is an entry with a %s: what stands around them.
type pattern struct {
	pieces  []string
	literal int // bytes of all pieces
	korean  string
}

// match returns what stands for each %s, nil if the sentence is another one.
func (p *pattern) match(s string) (fill []string) {
	rest, ok := strings.CutPrefix(s, p.pieces[0])
	last := p.pieces[len(p.pieces)-1]
	if !ok || !strings.HasSuffix(rest, last) {
		return nil
	}
	rest = strings.TrimSuffix(rest, last)
	for _, piece := range p.pieces[1 : len(p.pieces)-1] {
		before, after, ok := strings.Cut(rest, piece)
		if !ok {
			return nil
		}
		fill, rest = append(fill, before), after
	}
	return append(fill, rest)
}

type book struct {
	sentences map[string]string
	patterns  []pattern
}

//go:embed ko
var files embed.FS

// catalog reads all of it, which only who wants Korean pays for.
var catalog = sync.OnceValue(func() (c book) {
	c.sentences = make(map[string]string)
	for english, korean := range paragraphs(read()) {
		if !strings.Contains(english, "%s") {
			c.sentences[english] = korean
			continue
		}
		p := pattern{pieces: strings.Split(english, "%s"), korean: korean}
		for _, piece := range p.pieces {
			p.literal += len(piece)
		}
		c.patterns = append(c.patterns, p)
	}
	return c
})

// read returns the catalog's files as one text.
func read() string {
	var all strings.Builder
	entries, _ := files.ReadDir("ko") // they are in the program: there is no error
	for _, e := range entries {
		text, _ := files.ReadFile("ko/" + e.Name())
		all.Write(text)
		all.WriteString("\n")
	}
	return all.String()
}

// paragraphs iterates over the entries of a catalog. Lines that begin with #
// are for translators.
func paragraphs(text string) func(yield func(english, korean string) bool) {
	return func(yield func(english, korean string) bool) {
		english := ""
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			switch {
			case strings.HasPrefix(line, "# "):
			case line == "":
				english = ""
			case english == "":
				english = line
			case !yield(english, line):
				return
			}
		}
	}
}
