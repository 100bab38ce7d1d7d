package connectors

import (
	"cmp"
	"fmt"
	"maps"
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
	secret := func(name string) string {
		if name == "" {
			return ""
		}
		return strings.TrimSpace(getenv(name))
	}
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
		e.Inputs = e.settled()
		wrong = append(wrong, e.faults(secret)...)
		for _, w := range wrong {
			errs = append(errs, where+w)
		}
		if len(wrong) == 0 {
			key, _ := parseClientKey(secret(e.ClientKeyEnv)) // it was checked
			out = append(out, e.connector(secret(e.ClientSecretEnv), key, client))
		}
	}
	return out, errs
}

// faults returns all that is wrong with the values of an entry.
func (e Entry) faults(secret func(name string) string) (wrong []string) {
	if e.Environment == "" {
		wrong = append(wrong, "environment must be sandbox or production")
	}
	if slices.ContainsFunc(e.Scopes, func(scope string) bool { return !scopeToken.MatchString(scope) }) {
		wrong = append(wrong, "scopes must be one scope each")
	}
	wrong = append(wrong, e.kindFaults()...)
	wrong = append(wrong, e.inputFaults()...)
	wrong = append(wrong, e.addressFaults()...)
	if e.redirects() {
		wrong = append(wrong, e.clientFaults(secret)...)
	}
	wrong = append(wrong, e.paramFaults()...)
	wrong = append(wrong, e.pathFaults()...)
	wrong = append(wrong, e.aboutFaults()...)
	return append(wrong, e.revocationFaults()...)
}

// scopeToken is RFC 6749 appendix A.4.
var scopeToken = regexp.MustCompile(`^[!#-\[\]-~]+$`)

// addressFaults says what is wrong with the addresses.
func (e Entry) addressFaults() (wrong []string) {
	for _, a := range []struct {
		key, value string
		required   bool
	}{
		{"issuer", e.Issuer, false},
		{"authorize_url", e.AuthorizeURL, e.redirects() && e.Issuer == ""},
		{"token_url", e.TokenURL, e.Kind != KeyTyped && e.Issuer == ""},
		{"refresh_url", e.RefreshURL, false},
		{"revoke_url", e.RevokeURL, false},
		{"userinfo_url", e.UserinfoURL, false},
	} {
		if a.value == "" && a.required {
			wrong = append(wrong, a.key+" is missing, and there is no issuer to ask for it")
		} else if a.value != "" {
			w := e.Inputs.placeFault(a.value, e.Environment, func(filled string) string { return urlFault(filled, e.Environment, a.key != "issuer") })
			if w != "" {
				wrong = append(wrong, a.key+" "+w)
			}
		}
	}
	return wrong
}

// clientFaults says what is wrong with our registration: how we prove who we are, and with what.
func (e Entry) clientFaults(secret func(name string) string) (wrong []string) {
	if e.ClientID == "" {
		wrong = append(wrong, "client_id is missing")
	}
	for _, one := range []struct {
		key, name string
		wanted    bool
	}{
		{"client_secret_env", e.ClientSecretEnv, e.ClientAuth != "none" && e.ClientAuth != "private_key_jwt"},
		{"client_key_env", e.ClientKeyEnv, e.ClientAuth == "private_key_jwt"},
	} {
		switch {
		case one.name == "" && one.wanted:
			wrong = append(wrong, one.key+" is missing")
		case one.name != "" && !one.wanted:
			wrong = append(wrong, one.key+" is not used with client_auth "+cmp.Or(e.ClientAuth, "basic"))
		case one.name != "" && secret(one.name) == "":
			wrong = append(wrong, one.key+" names "+text.Clean(one.name)+", which is not set")
		}
	}
	if key := secret(e.ClientKeyEnv); e.ClientAuth == "private_key_jwt" && key != "" {
		if _, err := parseClientKey(key); err != nil {
			wrong = append(wrong, "client_key_env names "+text.Clean(e.ClientKeyEnv)+", which "+err.Error())
		}
	}
	return wrong
}

// ownParams are the parameters that are ours to set: an entry's own would undo what they are for.
var ownParams = []string{
	"client_id", "client_secret", "client_assertion", "client_assertion_type", "redirect_uri", "state", "nonce", "scope", "code", "grant_type",
	"code_challenge", "code_challenge_method", "code_verifier", "refresh_token", "request", "request_uri",
}

// isOurs says whether a parameter is ours to set. A client of the merchant's may be asked for in a grant type and with a scope of the
// provider's own; a refresh may name its scope (RFC 6749 section 6); and without an issuer nonce and request mean what the provider likes.
func (e Entry) isOurs(key, name string) bool {
	switch {
	case key == "token_params" && e.Kind == ClientCredentials && (name == "grant_type" || name == "scope" && len(e.Scopes) == 0),
		key == "refresh_params" && name == "scope", e.Issuer == "" && (name == "nonce" || name == "request"):
		return false
	}
	return slices.Contains(ownParams, name)
}

// paramFaults says which parameters are ours, or said twice.
func (e Entry) paramFaults() (wrong []string) {
	for _, one := range []struct {
		key    string
		params map[string]string
	}{{"authorize_params", e.AuthorizeParams}, {"token_params", e.TokenParams}, {"refresh_params", e.RefreshParams}} {
		for _, name := range slices.Sorted(maps.Keys(one.params)) {
			switch {
			case name == "":
				wrong = append(wrong, one.key+" must not have an empty name")
			case e.isOurs(one.key, strings.ToLower(name)):
				wrong = append(wrong, one.key+"."+text.Clean(name)+" is ours to set")
			case strings.ContainsAny(namePattern.ReplaceAllString(one.params[name], ""), "{}"):
				wrong = append(wrong, one.key+"."+text.Clean(name)+" has a brace without its other")
			}
		}
	}
	for _, one := range []struct{ key, value string }{{"prompt", e.Prompt}, {"response_type", e.ResponseType}} {
		if _, twice := e.AuthorizeParams[one.key]; twice && one.value != "" {
			wrong = append(wrong, one.key+" is in authorize_params too")
		}
	}
	return wrong
}

// keptName is what a value may be called: it is a key in the API, and a name in braces.
var keptName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`)

// pathFaults says what is wrong with answer and account.
func (e Entry) pathFaults() (wrong []string) {
	if e.Answer != "" && slices.Contains(strings.Split(e.Answer, "."), "") {
		wrong = append(wrong, "answer must be the names of members, with dots between them")
	}
	a := e.Account
	if a == nil {
		return wrong
	}
	check := func(key string, p Path) {
		w := p.fault(e.Inputs)
		if w == "" && a.URL == "" && e.Check == nil && strings.HasPrefix(string(p), "account.") {
			w = "reads what account.url answers, and there is none"
		}
		if w != "" {
			wrong = append(wrong, key+" "+w)
		}
	}
	switch {
	case a.ID != "":
		check("account.id", a.ID)
	case len(a.Keep) == 0:
		wrong = append(wrong, "account.id is missing")
	}
	if a.Name != "" {
		check("account.name", a.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Keep)) {
		check("account.keep."+text.Clean(name), a.Keep[name])
		if !keptName.MatchString(name) || slices.Contains([]string{"token", "account", "client"}, name) {
			wrong = append(wrong, "account.keep."+text.Clean(name)+" must be called by letters, digits, _ and -, and not token, account or client")
		}
	}
	if a.URL != "" {
		wrong = append(wrong, e.templateFaults("account.url", a.URL, func(name string) string {
			path := cmp.Or(a.Keep[name], Path(name))
			if strings.HasPrefix(string(path), "account.") {
				return "is in what account.url answers"
			}
			return path.fault(e.Inputs)
		})...)
	}
	return wrong
}

// templateFaults says what is wrong with an address that may hold names in braces. fault says what is wrong with a name.
func (e Entry) templateFaults(key, template string, fault func(name string) string) (wrong []string) {
	w := e.Inputs.placeFault(template, e.Environment, func(filled string) string {
		return cmp.Or(placeFault(filled), urlFault(namePattern.ReplaceAllString(filled, "x"), e.Environment, true))
	})
	if w != "" {
		wrong = append(wrong, key+" "+w)
	}
	template = e.Inputs.samples(template)[0]
	for _, name := range namesIn(template) {
		if w := fault(name); w != "" {
			wrong = append(wrong, key+": {"+text.Clean(name)+"} "+w)
		}
	}
	return wrong
}

// revocationFaults says what is wrong with revoke.
func (e Entry) revocationFaults() (wrong []string) {
	r := e.Revoke
	known := func(name string) string {
		if i, ok := e.Inputs.named(name); ok && !i.Secret {
			return ""
		}
		if e.Account != nil && e.Account.Keep[name] != "" || slices.Contains([]string{"token", "account", "client"}, name) {
			return ""
		}
		if !strings.Contains(name, ".") {
			return "is neither kept by account.keep nor token, account or client"
		}
		return Path(name).fault(e.Inputs)
	}
	switch {
	case r.Never && e.RevokeURL != "":
		wrong = append(wrong, "revoke is false, and there is a revoke_url")
	case r.URL != "" && e.RevokeURL != "":
		wrong = append(wrong, "revoke.url and revoke_url are the same")
	case r.URL == "" && e.RevokeURL == "" && e.Issuer == "" && (r.Method != "" || r.As != "" || r.Ends != "" || r.Params != nil):
		wrong = append(wrong, "revoke.url is missing, and there is no issuer to ask for it")
	}
	if r.URL != "" {
		wrong = append(wrong, e.templateFaults("revoke.url", r.URL, func(name string) string {
			if name == "token" {
				return "is a secret, and no part of an address"
			}
			return known(name)
		})...)
	}
	for _, key := range slices.Sorted(maps.Keys(r.Params)) {
		if strings.ContainsAny(namePattern.ReplaceAllString(r.Params[key], ""), "{}") {
			wrong = append(wrong, "revoke.params."+text.Clean(key)+" has a brace without its other")
		}
		for _, name := range namesIn(r.Params[key]) {
			if w := known(name); w != "" {
				wrong = append(wrong, "revoke.params."+text.Clean(key)+": {"+text.Clean(name)+"} "+w)
			}
		}
	}
	if r.As == "secret" && e.ClientSecretEnv == "" {
		wrong = append(wrong, "revoke.as is secret, and there is no client_secret_env")
	}
	return wrong
}
