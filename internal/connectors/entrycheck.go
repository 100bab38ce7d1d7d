package connectors

import (
	"cmp"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"patchbay/internal/text"
)

// defaultKeepAlive is how often an unused grant of a standard provider is refreshed.
const defaultKeepAlive = 7 * 24 * time.Hour

var entryName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// loadStandard reads CONNECTORS_FILE. taken are the names of the built-in providers. It returns a connector for each
// entry that is right, and all that is wrong with the others.
func loadStandard(getenv func(string) string, raw []byte, taken []string, client *Client) ([]Connector, Errors) {
	if raw == nil {
		return nil, nil
	}
	entries, faults, err := ReadEntries(raw)
	if err != nil {
		return nil, Errors{"CONNECTORS_FILE " + err.Error()}
	}
	var out []Connector
	var errs Errors
	for i, e := range entries {
		wrong := faults[i]
		where := fmt.Sprintf("CONNECTORS_FILE entry %d: ", i+1)
		if entryName.MatchString(e.Name) {
			where = fmt.Sprintf("CONNECTORS_FILE entry %s: ", e.Name)
			if slices.Contains(taken, e.Name) {
				wrong = append(wrong, "name is taken already")
			}
			taken = append(taken, e.Name)
		} else {
			wrong = append(wrong, "name must be lower-case letters, digits and hyphens, at most 32")
		}
		wrong = append(wrong, e.faults(getenv)...)
		for _, w := range wrong {
			errs = append(errs, where+w)
		}
		if len(wrong) == 0 {
			out = append(out, e.connector(strings.TrimSpace(getenv(e.ClientSecretEnv)), client))
		}
	}
	return out, errs
}

// unbuilt are the keys that nothing reads yet.
var unbuilt = []string{
	"kind", "description", "category", "color", "logo_file", "portal_url", "help_url", "refresh_url", "client_key_env",
	"scope_separator", "response_type", "prompt", "pkce", "authorize_params", "token_params", "refresh_params", "body", "inputs", "send", "check",
	"code_param", "answer", "account", "revoke", "refresh_life", "grant_life",
}

// faults returns all that is wrong with the values of an entry.
func (e Entry) faults(getenv func(string) string) (wrong []string) {
	keys := keysOf(reflect.TypeFor[Entry]())
	for _, key := range unbuilt {
		if !reflect.ValueOf(e).FieldByIndex(keys[key].Index).IsZero() {
			wrong = append(wrong, key+" is not built yet")
		}
	}
	for _, a := range []struct {
		key, value string
		required   bool
	}{
		{"issuer", e.Issuer, false},
		{"authorize_url", e.AuthorizeURL, e.Issuer == ""},
		{"token_url", e.TokenURL, e.Issuer == ""},
		{"revoke_url", e.RevokeURL, false},
		{"userinfo_url", e.UserinfoURL, false},
	} {
		if a.value == "" && a.required {
			wrong = append(wrong, a.key+" is missing, and there is no issuer to ask for it")
		} else if a.value != "" {
			if w := urlFault(a.value, e.Environment, a.key != "issuer"); w != "" {
				wrong = append(wrong, a.key+" "+w)
			}
		}
	}
	if e.ClientID == "" {
		wrong = append(wrong, "client_id is missing")
	}
	switch {
	case e.ClientSecretEnv == "":
		wrong = append(wrong, "client_secret_env is missing")
	case getenv(e.ClientSecretEnv) == "":
		wrong = append(wrong, "client_secret_env names "+text.Clean(e.ClientSecretEnv)+", which is not set")
	}
	if e.ClientAuth == "none" || e.ClientAuth == "private_key_jwt" {
		wrong = append(wrong, "client_auth "+e.ClientAuth+" is not built yet")
	}
	if e.Environment == "" {
		wrong = append(wrong, "environment must be sandbox or production")
	}
	if slices.ContainsFunc(e.Scopes, func(scope string) bool { return !scopeToken.MatchString(scope) }) {
		wrong = append(wrong, "scopes must be one scope each")
	}
	return wrong
}

// scopeToken is RFC 6749 appendix A.4.
var scopeToken = regexp.MustCompile(`^[!#-\[\]-~]+$`)

// markColors are given to standard providers by their names.
var markColors = []string{"#1f5f8b", "#8a3b12", "#3d6b21", "#7a2e6e", "#4a4e9e", "#8c2f39", "#0f6466", "#5b4a1f"}

// connector returns the connector of an entry that has been checked.
func (e Entry) connector(secret string, client *Client) Connector {
	s := &standard{client: client, entry: e, secret: secret, discovering: make(chan struct{}, 1), info: Info{
		Name: e.Name, Title: cmp.Or(text.Name(e.Title), e.Name), Environment: e.Environment, ReplaySafe: e.ReplaySafe,
		KeepAlive: cmp.Or(time.Duration(e.KeepAlive), defaultKeepAlive),
	}}
	if e.Issuer != "" {
		s.info.HomeURL = origin(e.Issuer)
	}
	sum := 0
	for _, b := range []byte(e.Name) {
		sum = sum*31 + int(b)
	}
	s.info.Color = markColors[uint(sum)%uint(len(markColors))]
	if e.RevokeURL != "" || e.Issuer != "" {
		return standardRevoker{s}
	}
	return s
}
