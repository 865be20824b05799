package plan

import "golang.org/x/sys/unix"

// A Builder makes a plan, step by step.
type Builder struct {
	plan    Plan
	spec    string
	steps   int
	free    []Step           // made in chunks: a plan has hundreds
	pending map[Label][]*int // jumps to labels that are not placed yet
	labels  Label
}

// A Label names a later step, until Place says which.
type Label int

// New returns an empty builder.
func New() *Builder { return &Builder{pending: make(map[Label][]*int)} }

// Plan returns the plan so far.
func (b *Builder) Plan() *Plan { return &b.plan }

// Section begins a section; the steps that follow are its own.
func (b *Builder) Section(where Where, brick, title string) {
	b.plan.Sections = append(b.plan.Sections, &Section{Brick: brick, Title: title, Where: where})
	b.spec = ""
}

// At sets the place in config.json that asks for the steps that follow, as a
// JSON pointer.
func (b *Builder) At(pointer string) { b.spec = pointer }

// Do adds a call.
func (b *Builder) Do(why string, c Call) Added { return b.add(Step{Call: c, Why: why, Spec: b.spec}) }

// Get adds a call whose result later steps use, and returns that register.
func (b *Builder) Get(r Reg, why string, c Call) Reg {
	b.Do(why, c).Out(r)
	return r
}

// Act adds an action of the parent.
func (b *Builder) Act(why, text string, act func(*Run) error) {
	b.add(Step{Call: Call{Text: text}, Why: why, Spec: b.spec, Act: act})
}

// Clone adds the call of the parent that makes the child.
func (b *Builder) Clone(why string, c Call) {
	s := b.Do(why, c).s
	s.Act = func(r *Run) error { return r.Clone(s) }
}

func (b *Builder) add(step Step) Added {
	if len(b.free) == 0 {
		b.free = make([]Step, 64)
	}
	s := &b.free[0]
	b.free = b.free[1:]
	*s = step
	sec := b.plan.Sections[len(b.plan.Sections)-1]
	sec.Steps = append(sec.Steps, s)
	b.steps++
	return Added{b, s}
}

// Label makes a label for jumps. Jumps lead forward only.
func (b *Builder) Label() Label {
	b.labels++
	return b.labels
}

// Place puts the label on the step that is added next.
func (b *Builder) Place(l Label) {
	for _, at := range b.pending[l] {
		*at = b.steps + 1
	}
	delete(b.pending, l)
}

// Next is the label of the step after this one.
const Next Label = 0

func (b *Builder) jump(at *int, l Label) {
	if l != Next {
		b.pending[l] = append(b.pending[l], at)
	}
}

// Added is a step that was just added, to say more about it.
type Added struct {
	b *Builder
	s *Step
}

// At says that another place in config.json asks for this step.
func (a Added) At(pointer string) Added {
	a.s.Spec = pointer
	return a
}

// Out keeps the result in a register.
func (a Added) Out(r Reg) Added {
	a.s.Out = r
	return a
}

// Then goes on at the label when the call succeeds.
func (a Added) Then(l Label) Added {
	a.b.jump(&a.s.Then, l)
	return a
}

// Allow goes on at the label when the call fails with one of the errnos.
func (a Added) Allow(l Label, errnos ...unix.Errno) Added {
	if a.s.Allow == nil {
		a.s.Allow = make([]Allow, 0, MaxAllow) // it must not move: jumps point into it
	}
	for _, e := range errnos {
		a.s.Allow = append(a.s.Allow, Allow{Errno: e})
		a.b.jump(&a.s.Allow[len(a.s.Allow)-1].Then, l)
	}
	return a
}

// MaxAllow is the number of errnos that one step can pass over.
const MaxAllow = 4
