package cgroup

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// allowed is what the rules of config.json mean, in the plainest words.
func allowed(rules []rule, d device, want access) bool {
	for _, bit := range []access{accessMknod, accessRead, accessWrite} {
		if want&bit == 0 {
			continue
		}
		ok := false
		for _, r := range rules {
			if r.covers(d) && r.access&bit != 0 {
				ok = r.allow
			}
		}
		if !ok {
			return false
		}
	}
	return true
}

// interpret runs a device program as the kernel would.
func interpret(t *testing.T, code []instruction, d device, want access) bool {
	t.Helper()
	kind := uint32(unix.BPF_DEVCG_DEV_BLOCK)
	if d.kind == 'c' {
		kind = unix.BPF_DEVCG_DEV_CHAR
	}
	context := []uint32{kind | uint32(want)<<16, uint32(d.major), uint32(d.minor)}
	var r [11]uint32
	for i := 0; i < len(code); i++ {
		switch c := code[i]; c.code {
		case opLoad32:
			r[c.dst] = context[c.off/4]
		case opMove:
			r[c.dst] = uint32(c.imm)
		case opCopy:
			r[c.dst] = r[c.src]
		case opAnd:
			r[c.dst] &= uint32(c.imm)
		case opShift:
			r[c.dst] >>= c.imm
		case opUnless:
			if r[c.dst] != uint32(c.imm) {
				i += int(c.off)
			}
		case opIf:
			if r[c.dst] == uint32(c.imm) {
				i += int(c.off)
			}
		case opExit:
			return r[regResult] == 1
		default:
			t.Fatalf("instruction %d: %+v", i, c)
		}
	}
	t.Fatal("the program has no end")
	return false
}

// keepV1 does with the lines of version 1 what the kernel does with them.
func keepV1(t *testing.T, base bool, lines []string, d device, want access) bool {
	t.Helper()
	for _, line := range lines {
		var e device
		var numbers, letters string
		if _, err := fmt.Sscanf(line, "%c %s %s", &e.kind, &numbers, &letters); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		major, minor, _ := strings.Cut(numbers, ":")
		e.major, e.minor = number1(major), number1(minor)
		var a access
		for _, l := range letters {
			a |= accessOf(l)
		}
		if e.covers(d) && want&a == want {
			return !base
		}
	}
	return base
}

func number1(s string) int64 {
	if s == "*" {
		return -1
	}
	return int64(parseNumber(s))
}

func randomRules(random *rand.Rand) []rule {
	pick := func(list ...int64) int64 { return list[random.IntN(len(list))] }
	var rules []rule
	for range 1 + random.IntN(6) {
		rules = append(rules, rule{
			device: device{byte(pick('a', 'b', 'c', 'c')), pick(-1, 1, 1, 5), pick(-1, 3, 3, 4)},
			access: access(1 + random.IntN(7)), allow: random.IntN(2) == 0,
		})
	}
	if random.IntN(2) == 0 {
		rules[0] = rule{device: device{'a', -1, -1}, access: accessAll, allow: random.IntN(4) == 0}
	}
	return rules
}

// everyAccess calls visit with some devices and all that can be asked of them.
func everyAccess(visit func(d device, want access)) {
	for _, kind := range []byte("bc") {
		for _, numbers := range [][2]int64{{1, 3}, {1, 4}, {5, 3}, {9, 9}} {
			for want := access(1); want <= accessAll; want++ {
				visit(device{kind, numbers[0], numbers[1]}, want)
			}
		}
	}
}

func TestProgramDoesWhatTheRulesSay(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		rules := randomRules(random)
		code := assemble(rules)
		everyAccess(func(d device, want access) {
			if got := interpret(t, code, d, want); got != allowed(rules, d, want) {
				t.Fatalf("%v: the program says %v for %v %v", rules, got, d, want)
			}
		})
	}
}

func TestVersion1DoesWhatTheRulesSay(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	reduced := 0
	for range 3000 {
		rules := randomRules(random)
		base, lines, err := reduce(rules)
		if err != nil {
			continue
		}
		reduced++
		everyAccess(func(d device, want access) {
			// One kind of access at a time: the kernel of version 1 does not
			// add up what two lines allow.
			if want&(want-1) == 0 && keepV1(t, base, lines, d, want) != allowed(rules, d, want) {
				t.Fatalf("%v: version 1 (%v, %v) errs about %v %v", rules, base, lines, d, want)
			}
		})
	}
	if reduced < 1000 {
		t.Errorf("only %d of 3000 lists could be said in version 1", reduced)
	}
}

func TestParseRules(t *testing.T) {
	good := []specs.LinuxDeviceCgroup{
		{Allow: false},
		{Allow: true, Type: "b", Major: new(int64(8)), Access: "mr"},
		{Allow: true, Type: "a", Major: new(int64(-1)), Minor: new(int64(-1)), Access: "m"},
	}
	rules, err := parseRules(good)
	if got := fmt.Sprint(rules); err != nil || got != "[deny a *:* rwm allow b 8:* rm allow a *:* m]" {
		t.Errorf("%s, %v", got, err)
	}
	bad := []struct {
		rule specs.LinuxDeviceCgroup
		want string
	}{
		{specs.LinuxDeviceCgroup{Type: "p"}, `/linux/resources/devices/0/type: "p" is none of a, b, c`},
		{specs.LinuxDeviceCgroup{Major: new(int64(-2))}, "/linux/resources/devices/0/major: -2 is no device number"},
		{specs.LinuxDeviceCgroup{Minor: new(int64(1) << 32)}, "/linux/resources/devices/0/minor: 4294967296 is no device number"},
		{specs.LinuxDeviceCgroup{Access: "rx"}, `/linux/resources/devices/0/access: "rx" has other letters than r, w, m`},
	}
	for _, tt := range bad {
		if _, err := parseRules([]specs.LinuxDeviceCgroup{tt.rule}); err == nil || err.Error() != tt.want {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
}
