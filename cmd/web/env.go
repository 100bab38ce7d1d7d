package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"patchbay/internal/connectors"
)

// env reads settings by name and collects every fault, so that an operator sees all of them at once.
type env struct {
	vars   map[string]string
	known  map[string]bool
	faults []string
}

func newEnv(environ []string) *env {
	e := &env{vars: map[string]string{}, known: map[string]bool{}}
	for _, one := range environ {
		name, value, _ := strings.Cut(one, "=")
		e.vars[strings.TrimPrefix(name, byteOrderMark)] = value // of an environment file that begins with the mark
	}
	return e
}

// fault adds a fault to the list, once: some settings are read in several places.
func (e *env) fault(format string, args ...any) {
	if fault := fmt.Sprintf(format, args...); !slices.Contains(e.faults, fault) {
		e.faults = append(e.faults, fault)
	}
}

// get returns a setting without the blanks around it, "" when it is not set. An empty setting counts as not set, as
// compose files write them. It adds a fault for quotes around a value, which `docker run --env-file` keeps.
func (e *env) get(name string) string {
	e.known[name] = true
	return e.unquoted(name, strings.TrimSpace(e.vars[name]))
}

// quotes are the pairs that stand around a value by mistake, those of editors that write typographic ones too.
var quotes = [][2]string{{`"`, `"`}, {"'", "'"}, {"`", "`"}, {"“", "”"}, {"„", "“"}, {"‘", "’"}, {"«", "»"}}

// unquoted returns a value without the quotes around it, for which it adds a fault.
func (e *env) unquoted(name, value string) string {
	for _, pair := range quotes {
		inner, opened := strings.CutPrefix(value, pair[0])
		if inner, closed := strings.CutSuffix(inner, pair[1]); opened && closed {
			e.fault("%s has quotes (%s…%s) around its value, which are taken as part of it: leave them out. A shell and compose drop quotes, docker run --env-file keeps them", name, pair[0], pair[1])
			return strings.TrimSpace(inner)
		}
	}
	return value
}

// secret returns a setting that may be given as a file: NAME, or the contents of the file at NAME_FILE.
func (e *env) secret(name string) string {
	value, path := e.get(name), e.get(name+"_FILE")
	switch {
	case path == "":
		return value
	case value != "":
		e.fault("%s and %s_FILE are both set: keep one", name, name)
		return value
	}
	b, ok := e.file(name+"_FILE", path)
	if !ok {
		return ""
	}
	if value = strings.TrimSpace(string(b)); value == "" {
		e.fault("%s_FILE: %s is empty", name, path)
	}
	return e.unquoted(name+"_FILE", value)
}

const byteOrderMark = "\ufeff"

// file reads the file of a setting, without the byte order mark that editors put at its head. It adds a fault and returns false if it
// cannot be read, or is in UTF-16, as Notepad and PowerShell write.
func (e *env) file(name, path string) ([]byte, bool) {
	b, err := os.ReadFile(filepath.Clean(path))
	switch {
	case err != nil:
		e.fault("%s: %v", name, err)
		return nil, false
	case bytes.HasPrefix(b, []byte("\xff\xfe")), bytes.HasPrefix(b, []byte("\xfe\xff")), len(b) > 3 && (b[0] == 0 && b[2] == 0 || b[1] == 0 && b[3] == 0):
		e.fault("%s: %s is in the encoding UTF-16: save it as UTF-8", name, path)
		return nil, false
	}
	return bytes.TrimPrefix(b, []byte(byteOrderMark)), true
}

// unknown adds a fault for each variable that looks like a setting and is none: one with a prefix of ours, or a misspelt
// name. Variables that a cluster or a database's host adds are ignored: see added. It is called after all settings have been read.
func (e *env) unknown() {
	prefixes := []string{
		"SMTP_", "MAIL_FROM", "SESSION_KEY", "KEYSET", "MIGRATE_DATABASE_",
		"TRUSTED_PROX", "CONNECTORS_", "PUBLIC_URL", "RETURN_URL", "BRAND_", "SSO_", "LOG_LEVEL", "LOG_FORMAT", "WEBHOOK_",
	}
	for _, d := range connectors.BuiltIn() {
		prefixes = append(prefixes, d.SettingPrefix())
	}
	// Short names, and those that are set, are not what another was meant to be.
	unset := slices.DeleteFunc(slices.Sorted(maps.Keys(e.known)), func(name string) bool { return len(name) < 8 || e.vars[name] != "" })
	for _, name := range slices.Sorted(maps.Keys(e.vars)) {
		if e.known[name] || e.added(name) {
			continue
		}
		switch near := connectors.Nearest(name, unset); {
		case near != "":
			e.fault("%s is not a setting: did you mean %s?", name, near)
		case slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) }):
			e.fault("%s is not a setting", name)
		}
	}
}

// serviceLink matches the variables of a service link but for NAME_PORT: Kubernetes adds them to every container for each
// Service of its namespace, Docker for each link.
var serviceLink = regexp.MustCompile(`^(.+)_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// linkAddress matches the value of NAME_PORT in a service link.
var linkAddress = regexp.MustCompile(`^(tcp|udp|sctp)://`)

// added reports whether a variable was set by the surroundings and not by an operator: a service link, or an address of the
// same database beside DATABASE_URL, as DATABASE_URL_UNPOOLED is; and what OpenTelemetry's SDK, AWS's and Vault's tools read by themselves.
func (e *env) added(name string) bool {
	if linked, ok := strings.CutSuffix(name, "_PORT"); ok && linked != "" && linkAddress.MatchString(e.vars[name]) {
		return true
	}
	// Docker's links bring the other container's name and environment too.
	for _, mark := range []string{"_NAME", "_ENV_"} {
		if linked, _, ok := strings.Cut(name, mark); ok && linkAddress.MatchString(e.vars[linked+"_PORT"]) {
			return true
		}
	}
	return serviceLink.MatchString(name) || strings.HasPrefix(name, "OTEL_") || strings.HasPrefix(name, "AWS_") || strings.HasPrefix(name, "VAULT_") || strings.HasPrefix(name, "DATABASE_URL_") && connectors.Nearest(name, []string{"DATABASE_URL_FILE"}) == ""
}
