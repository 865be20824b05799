package main

import (
	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/lang"
)

// language is the value of --lang.
type language struct{ lang.Language }

// languageFlag defines --lang: without it the environment's language counts.
func languageFlag(f *pflag.FlagSet) *language {
	l := &language{lang.Local()}
	f.Var(l, "lang", "say it in this `LANGUAGE`: en, ko or both")
	return l
}

func (l *language) Set(name string) (err error) {
	l.Language, err = lang.Parse(name)
	return err
}

func (l *language) String() string { return string(l.Language) }

func (l *language) Type() string { return "LANGUAGE" }
