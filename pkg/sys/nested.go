package sys

import (
	"strings"
	"sync"
)

// Nested says whether this process is in a user namespace that maps ids, as the
// first one does not: user_namespaces(7).
func Nested() bool { return maps() != "0 0 4294967295" && maps() != "" }

// Alone says whether that maps one user, and nobody else.
func Alone() bool {
	fields := strings.Fields(maps())
	return len(fields) == 3 && fields[2] == "1"
}

var maps = sync.OnceValue(func() string {
	text, _ := ReadFile("/proc/self/uid_map")
	return strings.Join(strings.Fields(string(text)), " ")
})
