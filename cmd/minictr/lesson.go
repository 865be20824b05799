package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/minictr/minictr/pkg/lang"
	"github.com/minictr/minictr/pkg/lesson"
	"github.com/minictr/minictr/pkg/vm"
)

func lessonCommand(f *pflag.FlagSet) action {
	f.Bool("list", false, "list the lessons, and what of them is done (by itself, without a NUMBER)")
	asJSON := f.Bool("json", false, "list them as JSON")
	yes := f.BoolP("yes", "y", false, "wait for no Enter (by itself, if this is no terminal)")
	answer := f.String("check", "", "give the `ANSWER` to the question that the lesson has asked")
	f.Bool("hint", false, "give the next hint")
	f.Bool("clean", false, "give up: take away what the question is about")
	language := languageFlag(f)
	return func(c *call) error {
		progress, err := lesson.Local()
		if err != nil {
			return err
		}
		wish, err := c.wish()
		if err != nil {
			return err
		}
		if len(c.args) == 0 && wish == "" {
			return c.lessons(progress, language.Language, *asJSON)
		}
		if err := c.exactly(1, "NUMBER"); err != nil {
			return err
		}
		l, err := lesson.Find(c.args[0])
		if err != nil {
			return err
		}
		t := &teacher{call: c, l: l, progress: progress, lang: language.Language}
		ctx, stop := signal.NotifyContext(c, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
		defer stop()
		if err := t.resume(); err != nil {
			return err
		}
		switch wish {
		case "clean":
			return t.clean()
		case "hint":
			return t.hint()
		case "check":
			return t.check(ctx, *answer)
		}
		if !*yes && term.IsTerminal(0) && term.IsTerminal(1) {
			t.keys = lines(os.Stdin)
		}
		err = t.teach(ctx)
		if err == nil {
			return nil
		}
		left := t.clean()
		if ctx.Err() != nil && left == nil {
			return fmt.Errorf("lesson %s was interrupted, and nothing is left of it", l.Number())
		}
		return errors.Join(err, left)
	}
}

// wish is the flag that asks for something else than the lesson: one at a time.
func (c *call) wish() (wish string, err error) {
	for _, name := range []string{"check", "hint", "clean"} {
		if c.flags.Changed(name) && wish != "" {
			return "", fmt.Errorf("--%s and --%s are asked for at once: minictr lesson takes one", wish, name)
		}
		if c.flags.Changed(name) {
			wish = name
		}
	}
	if lists := c.flags.Changed("list") || c.flags.Changed("json"); lists && (len(c.args) > 0 || wish != "") {
		return "", errors.New("--list and --json are about all lessons: they go with no NUMBER, and by themselves")
	}
	return wish, nil
}

// lines reads lines until the file's end.
func lines(r io.Reader) <-chan string {
	all := make(chan string)
	go func() {
		defer close(all)
		for s := bufio.NewScanner(r); s.Scan(); {
			all <- s.Text()
		}
	}()
	return all
}

// lessons lists them.
func (c *call) lessons(progress lesson.Progress, in lang.Language, asJSON bool) error {
	type row struct {
		Number   string    `json:"number"`
		Belief   string    `json:"belief"`
		Needs    []string  `json:"needs"`
		Missing  []string  `json:"missing"`
		Attempts int       `json:"attempts"`
		Done     time.Time `json:"done,omitzero"`
	}
	all, err := lesson.All()
	if err != nil {
		return err
	}
	records, err := progress.Read()
	if err != nil {
		return err
	}
	list := make([]row, 0, len(all))
	width := lang.Width(in.Line("wrong belief"))
	for _, l := range all {
		r := records.Of(l)
		missing := slices.DeleteFunc(slices.Clone(l.Needs), func(need string) bool { return missing(need) == nil })
		belief := strings.Join(l.Text(in, lesson.Title, 0), " / ")
		width = max(width, lang.Width(belief))
		list = append(list, row{l.Number(), belief, l.Needs, missing, r.Attempts, r.Done})
	}
	if asJSON {
		return writeJSON(c.stdout, list)
	}
	out := bufio.NewWriter(c.stdout)
	print := func(number, belief, done, needs string) {
		fmt.Fprintf(out, "%2s  %s  %s  %s\n", number, lang.Pad(belief, width), lang.Pad(done, len(time.DateOnly)), needs)
	}
	print("#", in.Line("wrong belief"), in.Line("done"), in.Line("needs"))
	for _, r := range list {
		done := "-"
		if !r.Done.IsZero() {
			done = r.Done.Local().Format(time.DateOnly)
		}
		for i, need := range r.Needs {
			if slices.Contains(r.Missing, need) {
				r.Needs[i] = need + ": " + in.Line("missing")
			}
		}
		print(r.Number, r.Belief, done, strings.Join(r.Needs, ", "))
	}
	return out.Flush()
}

// missing says why something that lessons need is not here: root, vm, or else
// a program by its name.
func missing(need string) error {
	switch need {
	case "root":
		if os.Geteuid() != 0 {
			return errors.New("root: try sudo")
		}
		return nil
	case "vm":
		return vm.Missing()
	}
	_, err := exec.LookPath(need)
	return err
}

// A teacher gives one lesson.
type teacher struct {
	*call
	l        *lesson.Lesson
	progress lesson.Progress
	lang     lang.Language
	keys     <-chan string   // what is typed, nil if nobody is there
	open     *lesson.Attempt // nil if there is none
}

// resume reads whether an attempt is open.
func (t *teacher) resume() error {
	records, err := t.progress.Read()
	if err == nil {
		t.open = records.Of(t.l).Open
	}
	if t.open != nil && !t.open.Sound() {
		t.open = nil
	}
	return err
}

// keep remembers how far the attempt is, unless another terminal has begun one.
func (t *teacher) keep() error {
	other := false
	err := t.progress.Update(t.l, func(r *lesson.Record) {
		if other = r.Open != nil && r.Open.Sound() && r.Open.Nonce != t.open.Nonce; !other {
			r.Open = t.open
		}
	})
	if err == nil && other {
		err = fmt.Errorf("lesson %s was begun in another terminal: go on there, or begin it anew here", t.l.Number())
	}
	return err
}

// forget is that the attempt is over; one of another terminal goes on.
func (t *teacher) forget() error {
	nonce := t.open.Nonce
	t.open = nil
	return t.progress.Update(t.l, func(r *lesson.Record) {
		if r.Open != nil && r.Open.Nonce == nonce {
			r.Open = nil
		}
	})
}

// env are the variables by which the scripts' minictr has our containers.
func (t *teacher) env() []string {
	return []string{envDataRoot + "=" + t.dataRoot, envRoot + "=" + t.root, "ABOUT=" + t.open.About}
}

// clean takes away all that an attempt has made. Its processes end first, so
// that they make nothing new.
func (t *teacher) clean() error {
	a := t.open
	if a == nil {
		return nil
	}
	ctx, stop := t.l.Patience(t.call)
	defer stop()
	err := errors.Join(a.Kill(), t.removeContainers(), a.Clean(ctx, t.l.Clean, t.env()), a.End())
	if err == nil {
		err = t.forget()
	}
	return err
}

// removeContainers removes those that have the attempt's name. Their runtimes
// were killed, so others may have taken them away by now.
func (t *teacher) removeContainers() error {
	e, err := t.engine()
	if err != nil {
		return err
	}
	e.Messages = io.Discard
	if err := e.Sweep(); err != nil {
		return err
	}
	list, err := e.Containers()
	for _, c := range list {
		if strings.HasPrefix(c.Name, t.open.Name()) || strings.HasPrefix(c.ID, t.open.Name()) {
			err = errors.Join(err, e.Remove(c, true, true))
		}
	}
	return err
}

// teach goes through the lesson up to the question.
func (t *teacher) teach(ctx context.Context) error {
	if err := t.clean(); err != nil { // what is left of another attempt
		return err
	}
	for _, need := range t.l.Needs {
		if err := missing(need); err != nil {
			return fmt.Errorf("lesson %s needs %w", t.l.Number(), err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	t.open = lesson.NewAttempt()
	if err := t.keep(); err != nil {
		return err
	}
	if err := t.open.Begin(self); err != nil {
		return err
	}
	t.heading("Lesson %s: people say", t.l.Number())
	t.text(lesson.Title, 0)
	for _, step := range [...]func(context.Context) error{
		func(ctx context.Context) error {
			t.heading("Predict")
			t.text(lesson.Predict, 0)
			return t.pause(ctx)
		},
		func(ctx context.Context) error { return t.experiment(ctx, t.l.Run, t.l.See) },
		func(ctx context.Context) error {
			t.heading("Explain")
			t.text(lesson.Explain, 0)
			return t.pause(ctx)
		},
		func(ctx context.Context) error {
			t.heading("Break it")
			t.text(lesson.Breaks, 0)
			return t.experiment(ctx, t.l.Break, t.l.Broken)
		},
		t.ask,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// heading prints where in the lesson we are.
func (t *teacher) heading(format string, args ...any) {
	fmt.Fprintf(t.stdout, "\n== %s ==\n\n", t.lang.Line(fmt.Sprintf(format, args...)))
}

// columns is how wide a line may be: the terminal's width, and not more than is
// easily read.
func columns() int {
	const most = 80
	if width, _, err := term.GetSize(1); err == nil && width > 20 {
		return min(width, most)
	}
	return most
}

// text prints one of the lesson's texts.
func (t *teacher) text(key string, n int) {
	for _, text := range t.l.Text(t.lang, key, n) {
		for _, line := range lang.Fold(t.open.Fill(text), columns()-1) {
			fmt.Fprintln(t.stdout, line)
		}
	}
}

// pause waits for Enter, or the end of what is typed.
func (t *teacher) pause(ctx context.Context) error {
	if t.keys == nil {
		return ctx.Err()
	}
	fmt.Fprintf(t.stdout, "\n[%s]", t.lang.Line("Enter goes on, Ctrl-C ends"))
	_, err := t.key(ctx)
	return err
}

// key is the next line that is typed.
func (t *teacher) key(ctx context.Context) (string, error) {
	select {
	case <-ctx.Done():
		fmt.Fprintln(t.stdout)
		return "", ctx.Err()
	case line := <-t.keys:
		return line, nil
	}
}

// experiment shows a script, runs it, and looks whether it printed what the
// lesson is about to explain.
func (t *teacher) experiment(ctx context.Context, script string, wanted []*regexp.Regexp) error {
	t.heading("Run")
	for line := range strings.Lines(t.open.Fill(script)) {
		fmt.Fprint(t.stdout, "    "+line)
	}
	if err := t.pause(ctx); err != nil {
		return err
	}
	fmt.Fprintln(t.stdout)
	var said bytes.Buffer
	ctx, stop := t.l.Patience(ctx)
	defer stop()
	if err := t.open.Run(ctx, script, t.env(), io.MultiWriter(t.stdout, &said)); err != nil {
		return fmt.Errorf("the experiment failed: %w: minictr doctor says what this host lacks", err)
	}
	if re := lesson.Unseen(wanted, said.String()); re != nil {
		return fmt.Errorf("the experiment printed something else than the lesson explains, nothing like %q: minictr doctor says what this host lacks", strings.TrimPrefix(re.String(), "(?m)"))
	}
	return nil
}

// ask makes what the question is about, and asks it.
func (t *teacher) ask(ctx context.Context) error {
	ctx, stop := t.l.Patience(ctx)
	defer stop()
	if err := t.open.Ask(ctx, t.l.Setup, t.env()); err != nil {
		return err
	}
	if err := t.keep(); err != nil {
		return err
	}
	t.heading("Question")
	t.text(lesson.Ask, 0)
	name := t.l.Number()
	fmt.Fprintf(t.stdout, "\n%s\n    minictr lesson %s --check ANSWER\n    minictr lesson %[2]s --hint\n    minictr lesson %[2]s --clean\n", t.lang.Line("Look for it, then answer; or take a hint; or give up:"), name)
	return nil
}

// asked refuses what only makes sense while a question waits.
func (t *teacher) asked() error {
	if t.open == nil || !t.open.Asked || !t.open.Ours() {
		return fmt.Errorf("lesson %s has asked nothing: minictr lesson %[1]s does", t.l.Number())
	}
	return nil
}

func (t *teacher) hint() error {
	if err := t.asked(); err != nil {
		return err
	}
	n := min(t.open.Hints, t.l.Hints()-1)
	t.heading("Hint %s of %s", strconv.Itoa(n+1), strconv.Itoa(t.l.Hints()))
	t.text(lesson.Hint, n)
	t.open.Hints = n + 1
	return t.keep()
}

// check compares an answer with what is so at this moment. After the right one
// nothing is left of the question.
func (t *teacher) check(ctx context.Context, answer string) error {
	if err := t.asked(); err != nil {
		return err
	}
	ctx, stop := t.l.Patience(ctx)
	defer stop()
	right, err := t.open.Right(ctx, t.l.Answer, t.env(), answer)
	if err != nil {
		return fmt.Errorf("%w: minictr lesson %s asks anew", err, t.l.Number())
	}
	err = t.progress.Update(t.l, func(r *lesson.Record) {
		r.Attempts++
		if right {
			r.Done = time.Now().UTC().Truncate(time.Second)
		}
	})
	switch {
	case err != nil:
		return err
	case !right:
		fmt.Fprintln(t.stdout, t.lang.Line("That is not it. minictr lesson "+t.l.Number()+" --hint helps."))
		return exitCode(1)
	}
	fmt.Fprintln(t.stdout, t.lang.Line("Right. Lesson "+t.l.Number()+" is done."))
	return t.clean()
}
