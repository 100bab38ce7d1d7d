package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"patchbay/internal/connectors"
)

// env reads settings by name and gathers every fault, so that an operator sees all of them at once.
type env struct {
	vars   map[string]string
	known  map[string]bool
	faults []string
}

func newEnv(environ []string) *env {
	e := &env{vars: map[string]string{}, known: map[string]bool{}}
	for _, one := range environ {
		name, value, _ := strings.Cut(one, "=")
		e.vars[name] = value
	}
	return e
}

// fault notes what is wrong, once: some settings are read by several.
func (e *env) fault(format string, args ...any) {
	if fault := fmt.Sprintf(format, args...); !slices.Contains(e.faults, fault) {
		e.faults = append(e.faults, fault)
	}
}

// get returns a setting without the blanks around it, "" when it is not set. An empty setting counts as not set, as
// compose files write them.
func (e *env) get(name string) string {
	e.known[name] = true
	return strings.TrimSpace(e.vars[name])
}

// secret returns a setting that may stand in a file: NAME, or the contents of the file that NAME_FILE names.
func (e *env) secret(name string) string {
	e.known[name+"_FILE"] = true
	value, path := e.get(name), strings.TrimSpace(e.vars[name+"_FILE"])
	switch {
	case path == "":
		return value
	case value != "":
		e.fault("%s and %s_FILE are both set: keep one", name, name)
		return value
	}
	b, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		e.fault("%s_FILE: %v", name, err)
		return ""
	}
	if value = strings.TrimSpace(string(b)); value == "" {
		e.fault("%s_FILE: %s is empty", name, path)
	}
	return value
}

// unknown faults what looks like a setting of ours and is none: something after one of our prefixes, or a slip of the
// hand in a name. Called when everything has been read.
func (e *env) unknown() {
	prefixes := []string{
		"SMTP_", "MAIL_FROM", "SESSION_KEY", "KEYSET", "MIGRATE_DATABASE_",
		"TRUSTED_PROX", "CONNECTORS_", "PUBLIC_URL", "DATABASE_URL", "LOG_LEVEL", "LOG_FORMAT",
	}
	for _, d := range connectors.BuiltIn() {
		prefixes = append(prefixes, d.SettingPrefix())
	}
	known := slices.Sorted(maps.Keys(e.known))
	for _, name := range slices.Sorted(maps.Keys(e.vars)) {
		if e.known[name] {
			continue
		}
		near := ""
		for _, k := range known {
			if len(k) >= 8 && e.vars[k] == "" && distance(name, k) <= 2 {
				near = k
			}
		}
		switch {
		case near != "":
			e.fault("%s is not a setting: did you mean %s?", name, near)
		case slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) }):
			e.fault("%s is not a setting", name)
		}
	}
}

// distance is how many letters must be changed, added, dropped or swapped with the next to make one word the other.
func distance(a, b string) int {
	if d := len(a) - len(b); d > 2 || d < -2 {
		return 3
	}
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
