package spec_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/seccomp"
	"github.com/minictr/minictr/pkg/spec"
)

// everything is a value of each kind that a spec or a state can have.
type everything struct {
	Text     string `json:"text"`
	Yes      bool   `json:"yes,omitempty"`
	Signed   int16
	Unsigned uint8
	Pointer  *int64            `json:"pointer"`
	Nothing  *int64            `json:"nothing,omitempty"`
	List     []string          `json:"list"`
	Empty    []string          `json:"empty,omitempty"`
	Map      map[string]uint32 `json:"map"`
	Deep     []map[string][]*specs.LinuxThrottleDevice
	When     time.Time
	Hidden   string `json:"-"`
	specs.LinuxWeightDevice
}

func sample() everything {
	n, w := int64(-1), uint16(10)
	v := everything{
		Text: "tab\t, \"quotes\", \\, é and \x00", Yes: true, Signed: -1 << 15, Unsigned: 255, Pointer: &n,
		List: []string{}, Map: map[string]uint32{"b": 1, "a": 0}, When: time.Unix(1, 2).UTC(),
		Deep: []map[string][]*specs.LinuxThrottleDevice{nil, {"x": {{Rate: 1 << 63}, nil}}},
	}
	v.Deep[1]["x"][0].Major = 8
	v.Minor, v.Weight = 7, &w
	return v
}

// TestMarshal checks our JSON against the standard library's: the same text,
// and the same value from it.
func TestMarshal(t *testing.T) {
	full := spec.Default()
	full.Linux.Seccomp = seccomp.Default(nil, seccomp.Native())
	for _, v := range []any{sample(), *full, specs.Spec{}} {
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		got := spec.Marshal(v)
		var a, b any
		if json.Unmarshal(want, &a) != nil || json.Unmarshal(got, &b) != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		equal(t, got, reflect.TypeOf(v))
	}
}

// TestUnmarshal reads the configurations of the tests.
func TestUnmarshal(t *testing.T) {
	names, err := filepath.Glob("../../tests/bench/config.json")
	if err != nil || len(names) == 0 {
		t.Fatal("no configurations: ", err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, data, reflect.TypeFor[specs.Spec]())
	}
}

func equal(t *testing.T, data []byte, kind reflect.Type) {
	t.Helper()
	got, want := reflect.New(kind), reflect.New(kind)
	if err := json.Unmarshal(data, want.Interface()); err != nil {
		t.Fatal(err)
	}
	if err := spec.Unmarshal(data, got.Interface()); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Interface(), want.Interface()) {
		t.Errorf("%s:\ngot  %+v\nwant %+v", data, got, want)
	}
}

// FuzzUnmarshal looks for values that don't survive Marshal, or that the
// standard library understands otherwise. (It can't read data itself: it takes
// names in any case, and the last of two.)
func FuzzUnmarshal(f *testing.F) {
	f.Add(spec.Marshal(sample()))
	f.Add([]byte(`{"text": null, "list": [null], "map": {"": 1}, "When": "2026-01-02T03:04:05.6Z"}`))
	f.Add([]byte(`{"Signed": 1.0}`))
	f.Add([]byte(`{"When": {"wall": 1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var got, want everything
		if spec.Unmarshal(data, &got) != nil {
			return
		}
		var again everything
		if err := spec.Unmarshal(spec.Marshal(got), &again); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(spec.Marshal(got), &want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(again, want) {
			t.Errorf("%q: got %+v, want %+v", data, again, want)
		}
	})
}
