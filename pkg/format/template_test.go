package format

import (
	"encoding/json"
	"strings"
	"testing"
	"text/template"
)

const example = `{"ID": "4f5e", "Name": "/box", "Size": 123456789012, "Load": 0.25, "Big": 1e300,
	"State": {"Status": "running", "Running": true, "Dead": false, "Pid": 42, "Error": ""},
	"Names": ["one", "two", "three"], "None": [], "Null": null, "Zero": 0,
	"Config": {"Labels": {"a": "1", "b": "2", "with space": "x"}, "Cmd": ["sh", "-c", "echo <&>"]},
	"Ports": {"53/udp": null, "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}}`

// differential holds templates that text/template and this package execute
// alike: with the same text, or both with an error.
var differential = []string{
	"", "text", "{{.ID}}", "a {{.ID}} b", "{{ .ID }}", "{{- .ID -}}  x", "x {{- /* a comment */ -}} y",
	"{{.Size}} {{.Load}} {{.Big}} {{.Zero}}", "{{.State.Status}}", "{{.State.Running}}", "{{.Null}}", "{{.State}}", "{{.Names}}", "{{.Config}}", "{{.Ports}}",
	"{{.Nosuch}}", "{{.State.Nosuch}}", "{{.ID.Nosuch}}", "{{.Null.Nosuch}}", "{{.Names.Nosuch}}", "{{$.ID}}", "{{$}}", "{{(.State).Status}}", "{{(.State).Nosuch}}",
	`{{index .Names 0}}`, `{{index .Names 2}}`, `{{index .Names 3}}`, `{{index .Names -1}}`, `{{index .Names "a"}}`, `{{index .Config.Labels "a"}}`,
	`{{index .Config.Labels "with space"}}`, `{{index .ID "a"}}`, `{{index .Config.Labels 3}}`, `{{index .Ports "80/tcp" 0 "HostPort"}}`, `{{index .Ports}}`,
	`{{(index (index .Ports "80/tcp") 0).HostPort}}`, `{{with index .Ports "80/tcp"}}{{(index . 0).HostIp}}{{end}}`,
	`{{range .Names}}[{{.}}]{{end}}`, `{{range .None}}x{{else}}none{{end}}`, `{{range .Null}}x{{else}}none{{end}}`, `{{range $i, $n := .Names}}{{$i}}={{$n}} {{end}}`,
	`{{range $n := .Names}}{{$n}}{{$.ID}}{{end}}`, `{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}`, `{{range .Config.Labels}}{{.}}{{end}}`,
	`{{range .ID}}x{{end}}`, `{{range .State.Running}}x{{end}}`, `{{range 3}}{{.}}{{end}}`, `{{range $i := 3}}{{$i}}{{end}}`,
	`{{range .Names}}{{if eq . "two"}}{{continue}}{{end}}{{.}}{{end}}`, `{{range .Names}}{{if eq . "two"}}{{break}}{{end}}{{.}}{{end}}`, `{{break}}`,
	`{{range $p, $b := .Ports}}{{$p}}{{range $b}} -> {{.HostIp}}:{{.HostPort}}{{end}};{{end}}`,
	`{{if .State.Running}}up{{else}}down{{end}}`, `{{if .State.Dead}}dead{{else if .State.Running}}up{{else}}?{{end}}`, `{{if .State.Error}}x{{end}}`, `{{if .Nosuch.More}}{{end}}`,
	`{{if .None}}x{{else}}y{{end}}`, `{{if .Null}}x{{else}}y{{end}}`, `{{if .Zero}}x{{else}}y{{end}}`, `{{if .Load}}x{{end}}`, `{{if .Names}}x{{end}}`, `{{if .State}}x{{end}}`,
	`{{if $x := .ID}}{{$x}}{{end}}`, `{{if not .State.Dead}}x{{end}}`, `{{with .State}}{{.Status}} {{$.ID}}{{end}}`, `{{with .Null}}x{{else}}y{{end}}`,
	`{{with $s := .State}}{{$s.Pid}}{{end}}`, `{{with .Null}}x{{else with .State}}{{.Pid}}{{end}}`,
	`{{$x := 1}}{{$x}}{{$x = 2}}{{$x}}`, `{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}`, `{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}`, `{{$x}}`, `{{$x := .State}}{{$x.Pid}}`,
	`{{$n := ""}}{{range .Names}}{{$n = .}}{{end}}{{$n}}`, `{{$n := ""}}{{range $n = .Names}}{{end}}{{$n}}`,
	`{{.ID | printf "%s-%s" "a"}}`, `{{"x" | printf "%5s|"}}`, `{{printf "%d %q %v %.2f %5.1f" .Size .ID .State.Running .Load .Load}}`, `{{printf "%v" .Names}}`, `{{printf "%d" .ID}}`,
	`{{printf .Zero}}`, `{{printf}}`, `{{print 1 2 "a" "b" true}}`, `{{print}}`, `{{println .ID "x"}}`, `{{print .Null}}`, `{{print 1.5 'a' 0x10}}`,
	`{{eq 1 1}}`, `{{eq .State.Pid 42}}`, `{{eq .ID "4f5e"}}`, `{{eq .ID "x" "y" "4f5e"}}`, `{{eq .ID 1}}`, `{{eq true .State.Running}}`, `{{eq .Null nil}}`, `{{ne .ID "x"}}`, `{{ne 1 1}}`,
	`{{eq .ID}}`, `{{lt 1 2}} {{le 2 2}} {{gt 1 2}} {{ge 1.5 1.5}}`, `{{lt "a" "b"}}`, `{{lt "a" 1}}`, `{{lt true false}}`, `{{gt .Size 1000}}`, `{{gt .Load 0.1}}`,
	`{{and true false}}`, `{{and 1 "" .Nosuch.More}}`, `{{or "" .ID}}`, `{{or .ID .Nosuch.More}}`, `{{or 0 ""}}`, `{{and .ID .Names}}`, `{{and}}`, `{{true | and .ID}}`, `{{not .ID}}`, `{{not}}`,
	`{{len .Names}} {{len .ID}} {{len .Config.Labels}}`, `{{len .Size}}`, `{{len .Null}}`, `{{slice .ID 1 3}}`, `{{slice .Names 1}}`, `{{slice .ID 3 1}}`, `{{slice .ID 0 9}}`, `{{slice .State 0}}`,
	`{{json .ID}}`, `{{json .Names}}`, `{{json .State.Pid}}`, `{{json .Config.Labels}}`, `{{json .Config.Cmd}}`, `{{json .Null}}`, `{{.Names | json}}`, `{{json .Ports}}`, `{{json}}`,
	`{{join .Names ", "}}`, `{{join .Config.Cmd " " | upper}}`, `{{join .ID ","}}`, `{{lower "ABC"}}{{upper .ID}}`, `{{upper 1}}`, `{{split "a,b,c" ","}}`, `{{index (split .Name "/") 1}}`,
	`{{range split "a,b" ","}}<{{.}}>{{end}}`, `{{len (split "" ",")}}`, `{{nosuch .ID}}`, `{{.ID`, `{{if .ID}}`, `{{end}}`, `{{.ID 1}}`, `{{1 2}}`, `{{"a" .ID}}`, `{{nil}}`, `{{"a\tb"}}`, "{{`raw`}}",
	`{{.State.Status | len}}`, `{{1 | .ID}}`, `{{true}} {{false}} {{-3}} {{1.25}}`, `{{(print "a" "b") | upper}}`, `{{with 3}}{{.}}{{end}}`, `{{and (eq .ID "4f5e") (gt .State.Pid 1)}}`,
}

// reference executes a template as text/template does.
func reference(source string, value any) (string, error) {
	upTo := func(v any) string { out, _ := json.Marshal(v); return string(out) }
	t, err := template.New("").Option("missingkey=error").Funcs(template.FuncMap{
		"json": func(v any) string {
			return strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(upTo(v))
		},
		"join": func(list []any, between string) string {
			var texts []string
			for _, v := range list {
				texts = append(texts, v.(string))
			}
			return strings.Join(texts, between)
		},
		"split": strings.Split, "lower": strings.ToLower, "upper": strings.ToUpper,
	}).Parse(source)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	err = t.Execute(&out, value)
	return out.String(), err
}

func execute(source string, value any) (string, error) {
	t, err := Parse(source)
	if err != nil {
		return "", err
	}
	return t.Execute(value)
}

// TestAsTextTemplate executes each template over a document, which is read as
// far as it is needed, and over one that is read already.
func TestAsTextTemplate(t *testing.T) {
	lazy, err := Document(json.RawMessage(example))
	if err != nil {
		t.Fatal(err)
	}
	read := whole(lazy)
	failed := 0
	for _, source := range differential {
		want, wrong := reference(source, read)
		for name, value := range map[string]any{"lazy": lazy, "read": read} {
			got, err := execute(source, value)
			if (err != nil) != (wrong != nil) || err == nil && got != want {
				t.Errorf("%s, %s: %q, %v; text/template: %q, %v", source, name, got, err, want, wrong)
			}
		}
		if wrong != nil {
			failed++
		}
	}
	if failed < 20 || failed > len(differential)/2 {
		t.Errorf("%d of %d are errors for text/template", failed, len(differential))
	}
}

// TestUnlikeTextTemplate has what is as Docker's, or better.
func TestUnlikeTextTemplate(t *testing.T) {
	value, err := Document(json.RawMessage(example))
	if err != nil {
		t.Fatal(err)
	}
	for source, want := range map[string]string{
		`{{.Id}}`:                               "4f5e",                                                                 // as in JSON, or as in Go
		`{{index .Config.Labels "nosuch"}}`:     "",                                                                     // as in a map of strings
		`{{json .State}}`:                       `{"Status":"running","Running":true,"Dead":false,"Pid":42,"Error":""}`, // in order
		`{{range $i, $n := 3}}{{$i}}{{end}}`:    "012",
		`{{gt .Load 0}}`:                        "true",                                                                             // a number is a number
		`{{.ID}}\t{{json .Name}}\n`:             "4f5e\t\"/box\"\n",                                                                 // escapes in the text
		`{{title "a cont-ainer's n_ame"}}`:      "A Cont-Ainer's N_ame",                                                             //
		`{{truncate .ID 2}}{{pad "x" 1 2}}`:     "4f x  ",                                                                           // Docker's functions
		`{{printf "%q" .Names}}`:                `["one" "two" "three"]`,                                                            //
		`{{.Nosuch}}`:                           "--format: there is no field .Nosuch; there are .Big .Config .ID .Load .Name .Nam", //
		`{{.State.X}}`:                          "--format: there is no field .X; there are .Dead .Error .Pid .Running .Status",
		`{{nosuch}}`:                            `--format "{{nosuch}}": function "nosuch" not defined; there are and or not eq `,
		`{{define "x"}}{{end}}{{template "x"}}`: `--format: {{template "x"}} is not supported`,
		`{{.Names.First}}`:                      `--format: "[one two three]" has no fields, and so no .First`,
		`{{upper .Names}}`:                      `--format: upper: "[one two three]" is no string`,
		`{{range 100000}}{{end}}`:               `--format: range 100000: that is too often`,
	} {
		got, err := execute(source, value)
		if err != nil {
			got = err.Error()
		}
		if got != want && (err == nil || !strings.HasPrefix(got, want)) {
			t.Errorf("%s: %q, want %q", source, got, want)
		}
	}
	huge, err := Document(json.RawMessage(`{"N": 1e999}`))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := execute("{{.N}} {{json .}}", huge); err != nil || got != `1e999 {"N":1e999}` {
		t.Errorf("%q, %v", got, err)
	}
}

func TestMethod(t *testing.T) {
	row := Row{"ID": "1", "Label": Method(func(name string) any { return "label " + name })}
	for source, want := range map[string]string{
		`{{.Label "a"}}`: "label a", `{{.Label}}`: "label ", `{{"b" | .Label}}`: "label b", `{{json .}}`: `{"ID":"1"}`, `{{.}}`: "map[ID:1]",
	} {
		if got, err := execute(source, row); err != nil || got != want {
			t.Errorf("%s: %q, %v", source, got, err)
		}
	}
	if got, err := execute(`{{.Label "a" "b"}}`, row); err == nil {
		t.Errorf("two arguments: %q", got)
	}
}
