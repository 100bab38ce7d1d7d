package connectors

import (
	"net/netip"
	"net/url"
	"strings"
)

// SettingFlags says what a setting is like.
type SettingFlags int

const (
	Required   SettingFlags = 1 << iota // the provider is not set up without it
	Secret                              // it is never shown
	AllowQuery                          // it is an address that may have a query
)

// Setting is one that a provider reads, by its name in the environment.
type Setting struct {
	Name  string
	Flags SettingFlags
}

// Settings reads one provider's settings and collects what is missing and what is wrong, so that an operator sees all
// of it at once.
type Settings struct {
	getenv      func(string) string
	environment string
	declared    []Setting
	missing     []string
	errs        []string
}

// Text returns the value of a setting without the space around it.
func (s *Settings) Text(name string, flags SettingFlags) string {
	s.declared = append(s.declared, Setting{name, flags})
	value := strings.TrimSpace(s.getenv(name))
	if value == "" && flags&Required != 0 {
		s.missing = append(s.missing, name)
	}
	return value
}

// Environment returns "sandbox" or "production". It must be read before URL, which depends on it.
func (s *Settings) Environment(name string) string {
	s.environment = s.Text(name, Required)
	if s.environment != "" && !isEnvironment(s.environment) {
		s.Invalid(name, "must be sandbox or production")
	}
	return s.environment
}

// URL returns an absolute https address. In a sandbox and on this machine it may be http.
func (s *Settings) URL(name string, flags SettingFlags) string {
	value := s.Text(name, flags)
	if value == "" {
		return ""
	}
	if wrong := urlFault(value, s.environment, flags&AllowQuery != 0); wrong != "" {
		s.Invalid(name, wrong)
	}
	return value
}

// Invalid notes what is wrong with a setting. wrong must not repeat its value.
func (s *Settings) Invalid(name, wrong string) { s.errs = append(s.errs, name+" "+wrong) }

// Errors is all that is wrong with the settings. Each names its setting and never a value.
type Errors []string

func (e Errors) Error() string { return strings.Join(e, "\n") }

// Nearest returns the member of known that name is probably a misspelling of, or "". Two slips are allowed in a name of
// eight letters or more, one in a name of four or more.
func Nearest(name string, known []string) string {
	nearest, least := "", 3
	for _, k := range known {
		if d := distance(name, k); d <= min(2, len(k)/4) && d < least {
			nearest, least = k, d
		}
	}
	return nearest
}

// distance returns how many letters must be changed, added, dropped or swapped with the next one to turn a into b
// (optimal string alignment), or 3 if the lengths alone show that there are more than two.
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

func isEnvironment(s string) bool { return s == "sandbox" || s == "production" }

// urlFault says what is wrong with an address that secrets will be sent to, or "".
func urlFault(value, environment string, allowQuery bool) string {
	u, err := url.Parse(value)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return "must be a whole address such as https://api.example.com"
	case u.User != nil:
		return "must not hold a user or password"
	case u.Fragment != "" || !allowQuery && (u.RawQuery != "" || u.ForceQuery):
		return "must not hold a query or a fragment"
	case !maySendSecrets(u, environment):
		return "must begin with https (http is for this machine and for sandboxes)"
	}
	return ""
}

// maySendSecrets says whether secrets may be sent to an address: by https, or by http to this machine or in a sandbox.
func maySendSecrets(u *url.URL, environment string) bool {
	if u.Scheme == "https" {
		return true
	}
	host := strings.ToLower(u.Hostname())
	address, err := netip.ParseAddr(host)
	local := host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && address.IsLoopback()
	return u.Scheme == "http" && (local || environment == "sandbox")
}

// sameAddress compares two addresses without scheme, query and trailing slash.
func sameAddress(u *url.URL, address string) bool {
	other, err := url.Parse(address)
	return err == nil && strings.EqualFold(u.Hostname(), other.Hostname()) && port(u) == port(other) &&
		strings.TrimRight(u.Path, "/") == strings.TrimRight(other.Path, "/")
}

// port returns an address's port, or "" if it is the scheme's own.
func port(u *url.URL) string {
	if u.Port() == "443" || u.Port() == "80" {
		return ""
	}
	return u.Port()
}

// withQuery sets parameters in an address and keeps the query that it has.
func withQuery(address string, set url.Values) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	q := u.Query()
	for key := range set {
		q.Set(key, set.Get(key))
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// dropQuery returns an address without user, query and fragment.
func dropQuery(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// origin returns the scheme and host of an address.
func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Scheme + "://" + u.Host + "/"
}
