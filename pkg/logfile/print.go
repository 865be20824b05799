package logfile

import (
	"context"
	"errors"
	"io"
)

// Print reads a log as Read does and writes each stream's bytes, as the program
// wrote them, to its writer. With times, each line begins with its time and a
// space. It writes in large pieces, but keeps nothing back while it waits.
func Print(ctx context.Context, path string, o Options, out, err io.Writer, times bool) error {
	p := printer{to: [2]io.Writer{out, err}, times: times}
	o.idle = p.flush
	return errors.Join(Read(ctx, path, o, p.print), p.flush())
}

type printer struct {
	to     [2]io.Writer
	times  bool
	inside [2]bool // a line has begun
	last   int     // whose the text is
	text   []byte  // not written yet
}

func (p *printer) print(r Record) error {
	stream := 0
	if r.Stream != stdout {
		stream = 1
	}
	if stream != p.last || len(p.text) > maxWrite {
		if err := p.flush(); err != nil {
			return err
		}
	}
	p.last = stream
	if p.times && !p.inside[stream] {
		p.text = append(r.Time.UTC().AppendFormat(p.text, layout), ' ')
	}
	p.text = append(p.text, r.Text...)
	if !r.Partial {
		p.text = append(p.text, '\n')
	}
	p.inside[stream] = r.Partial
	return nil
}

func (p *printer) flush() error {
	if len(p.text) == 0 {
		return nil
	}
	_, err := p.to[p.last].Write(p.text)
	p.text = p.text[:0]
	return err
}
