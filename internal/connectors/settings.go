package connectors

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// Need says what a setting is like.
type SettingFlags int

const (
	Required   SettingFlags = 1 << iota // the provider is not set up without it
	Secret                              // never shown
	AllowQuery                          // an address that may have a query
)

// Setting is one that a provider reads, by its name in the environment.
type Setting struct {
	Name  string
	Flags SettingFlags
}

// Settings reads one provider's settings and notes what is missing and what is wrong, so that all of it can be said
// at once.
type Settings struct {
	Declared    []Setting
	missing     []string
	errors      []string
	get         func(string) string
	environment string
}

// Text returns the setting's value without surrounding space.
func (s *Settings) Text(name string, need SettingFlags) string {
	s.Declared = append(s.Declared, Setting{name, need})
	value := strings.TrimSpace(s.get(name))
	if value == "" && need&Required != 0 {
		s.missing = append(s.missing, name)
	}
	return value
}

// Environment returns sandbox or production. To be read before any address, which it decides about.
func (s *Settings) Environment(name string) string {
	s.environment = s.Text(name, Required)
	if s.environment != "" && !environment(s.environment) {
		s.Invalid(name, "must be sandbox or production")
	}
	return s.environment
}

// Address returns an absolute https address (http on this machine, and in a sandbox).
func (s *Settings) URL(name string, need SettingFlags) string {
	value := s.Text(name, need)
	if value == "" {
		return ""
	}
	if wrong := addressFault(value, s.environment, need&AllowQuery != 0); wrong != "" {
		s.Invalid(name, wrong)
	}
	return value
}

// Fault notes what is wrong with a setting, without its value.
func (s *Settings) Invalid(name, wrong string) { s.errors = append(s.errors, name+" "+wrong) }

// Faults is every fault found in the settings, each naming its setting and never a value.
type Errors []string

func (f Errors) Error() string { return strings.Join(f, "\n") }

func environment(s string) bool { return s == "sandbox" || s == "production" }

func addressFault(value, environment string, query bool) string {
	u, err := url.Parse(value)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return "must be a whole address such as https://api.example.com"
	case u.User != nil:
		return "must not hold a user or password"
	case u.Fragment != "" || !query && (u.RawQuery != "" || u.ForceQuery):
		return "must not hold a query or a fragment"
	case !permitted(u, environment):
		return "must begin with https (http is for this machine and for sandboxes)"
	}
	return ""
}

// permitted says whether secrets may travel to an address: https, or http to this machine or in a sandbox.
func permitted(u *url.URL, environment string) bool {
	if u.Scheme == "https" {
		return true
	}
	host := strings.ToLower(u.Hostname())
	address, err := netip.ParseAddr(host)
	local := host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && address.IsLoopback()
	return u.Scheme == "http" && (local || environment == "sandbox")
}

// sameAddress compares without scheme, query and trailing slash.
func sameAddress(u *url.URL, address string) bool {
	other, err := url.Parse(address)
	return err == nil && strings.EqualFold(u.Hostname(), other.Hostname()) && port(u) == port(other) &&
		strings.TrimRight(u.Path, "/") == strings.TrimRight(other.Path, "/")
}

func port(u *url.URL) string {
	if u.Port() == "443" || u.Port() == "80" {
		return ""
	}
	return u.Port()
}

// withQuery adds to the query that an address has already.
func withQuery(address string, add url.Values) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	q := u.Query()
	for key := range add {
		q.Set(key, add.Get(key))
	}
	u.RawQuery = q.Encode()
	return u.String()
}

func fault(where, format string, args ...any) string {
	return where + " " + fmt.Sprintf(format, args...)
}
