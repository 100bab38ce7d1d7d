package connectors

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// entry is one standard provider in CONNECTORS_FILE.
type entry struct {
	Name            string   `json:"name"`
	Title           string   `json:"title"`
	Issuer          string   `json:"issuer"`
	AuthorizeURL    string   `json:"authorize_url"`
	TokenURL        string   `json:"token_url"`
	RevokeURL       string   `json:"revoke_url"`
	UserinfoURL     string   `json:"userinfo_url"`
	ClientID        string   `json:"client_id"`
	ClientSecretEnv string   `json:"client_secret_env"`
	ClientAuth      string   `json:"client_auth"`
	Scopes          []string `json:"scopes"`
	Environment     string   `json:"environment"`
	KeepAlive       string   `json:"keep_alive"`
	ReplaySafe      bool     `json:"replay_safe"`
}

const metadataLife = 24 * time.Hour

// metadata returns the provider's addresses, discovering them when first needed: a provider that is down at start
// stops nothing. What is known is kept when asking again fails.
func (s *standard) metadata(ctx context.Context) (*metadata, error) {
	if m := s.fresh(); m != nil {
		return m, nil
	}
	select {
	case s.gate <- struct{}{}:
		defer func() { <-s.gate }()
	case <-ctx.Done():
		return nil, &TemporaryError{Reason: "cancelled", cause: ctx.Err()}
	}
	if m := s.fresh(); m != nil {
		return m, nil
	}
	m, err := s.discover(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if s.known != nil && ctx.Err() == nil {
			s.known.found = s.wire.now().Add(time.Minute - metadataLife)
			return s.known, nil
		}
		return nil, err
	}
	s.known = m
	return m, nil
}

func (s *standard) fresh() *metadata {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil || s.entry.Issuer != "" && s.wire.now().Sub(s.known.found) > metadataLife {
		return nil
	}
	return s.known
}

func (s *standard) discover(ctx context.Context) (*metadata, error) {
	m := &metadata{found: s.wire.now()}
	if s.entry.Issuer != "" {
		var err error
		for _, address := range discoveryAddresses(s.entry.Issuer) {
			absent := false
			err = s.wire.do(ctx, request{name: "discover", method: http.MethodGet, address: address}, func(a answer) error {
				absent = a.status >= 400 && a.status < 500
				if !a.ok() || a.object() == nil {
					return a.unusable()
				}
				if err := m.read(a.object(), s.entry.Issuer, s.info.Environment); err != nil {
					return err
				}
				// OpenID Connect Discovery section 3: openid is known even where scopes are not listed.
				m.connect = m.connect || strings.HasSuffix(address, "/openid-configuration") && a.object()["scopes_supported"] == nil
				return nil
			})
			if !absent {
				break
			}
		}
		if err != nil {
			return nil, err
		}
	}
	for own, given := range map[*string]string{
		&m.authorize: s.entry.AuthorizeURL, &m.token: s.entry.TokenURL, &m.revoke: s.entry.RevokeURL, &m.userinfo: s.entry.UserinfoURL,
	} {
		if given != "" {
			*own = given
		}
	}
	if m.authorize == "" || m.token == "" {
		return nil, &TemporaryError{Reason: "unreadable"}
	}
	if m.jwks != "" {
		// go-oidc keeps the context for good and fetches with it later, whoever waits.
		bag := oidc.ClientContext(context.Background(), &http.Client{Transport: s.wire, Timeout: callLimit})
		m.keys = oidc.NewRemoteKeySet(bag, m.jwks)
	}
	return m, nil
}

// discoveryAddresses are OpenID Connect's, after the issuer's path, and RFC 8414's, before it (section 3.1).
func discoveryAddresses(issuer string) []string {
	u, err := url.Parse(issuer)
	if err != nil {
		return nil
	}
	path := strings.TrimRight(u.Path, "/")
	connect, plain := *u, *u
	connect.Path = path + "/.well-known/openid-configuration"
	plain.Path = "/.well-known/oauth-authorization-server" + path
	return []string{connect.String(), plain.String()}
}

// read takes metadata over. The issuer must be the one asked (RFC 8414 section 3.3), give or take a final slash, and
// no address may be weaker than the entry's own could be.
func (m *metadata) read(o object, issuer, environment string) error {
	m.issuer = o.text("issuer")
	if strings.TrimSuffix(m.issuer, "/") != strings.TrimSuffix(issuer, "/") {
		return &TemporaryError{Reason: ReasonWrongIssuer}
	}
	for own, key := range map[*string]string{
		&m.authorize: "authorization_endpoint", &m.token: "token_endpoint", &m.revoke: "revocation_endpoint",
		&m.userinfo: "userinfo_endpoint", &m.jwks: "jwks_uri",
	} {
		*own = o.text(key)
		if *own != "" && addressFault(*own, environment, true) != "" {
			return &TemporaryError{Reason: "unreadable"}
		}
	}
	m.connect = slices.Contains(o.words("scopes_supported"), "openid")
	m.sendsIssuer = o.label("authorization_response_iss_parameter_supported") == "true"
	ways := o.words("token_endpoint_auth_methods_supported")
	m.postOnly = slices.Contains(ways, "client_secret_post") && !slices.Contains(ways, "client_secret_basic")
	for _, name := range o.words("id_token_signing_alg_values_supported") {
		// Only what a public key proves: no "none", and no HMAC.
		if slices.Contains([]string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA}, name) {
			m.algorithms = append(m.algorithms, name)
		}
	}
	return nil
}

// standardProviders reads CONNECTORS_FILE. Names in taken are the odd providers'.
func standardProviders(get func(string) string, raw []byte, taken []string, wire *Client) ([]Connector, Errors) {
	if raw == nil {
		return nil, nil
	}
	var entries []json.RawMessage
	if err := json.Unmarshal(raw, &entries); err != nil {
		return nil, Errors{"CONNECTORS_FILE must hold a JSON list of objects"}
	}
	var out []Connector
	var faults Errors
	for i, one := range entries {
		e, wrong := readEntry(one)
		where := fault("CONNECTORS_FILE", "entry %d", i+1)
		if named := regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`).MatchString(e.Name); named {
			where = fault("CONNECTORS_FILE", "entry %s", e.Name)
			if slices.Contains(taken, e.Name) {
				wrong = append(wrong, "name is taken already")
			}
			taken = append(taken, e.Name)
		} else {
			wrong = append(wrong, "name must be lower-case letters, digits and hyphens, at most 32")
		}
		secret, more := e.check(get)
		for _, w := range append(wrong, more...) {
			faults = append(faults, where+": "+w)
		}
		if len(wrong)+len(more) == 0 {
			out = append(out, e.connector(secret, wire))
		}
	}
	return out, faults
}

func readEntry(raw json.RawMessage) (e entry, wrong []string) {
	var keys map[string]json.RawMessage
	if json.Unmarshal(raw, &keys) != nil || keys == nil {
		return e, []string{"must be an object"}
	}
	known := []string{
		"name", "title", "issuer", "authorize_url", "token_url", "revoke_url", "userinfo_url", "client_id", "client_secret_env",
		"client_auth", "scopes", "environment", "keep_alive", "replay_safe",
	}
	for _, key := range sortedKeys(keys) {
		switch {
		case key == "client_secret":
			wrong = append(wrong, "client_secret does not belong here: name the setting that holds it in client_secret_env")
			delete(keys, key)
		case !slices.Contains(known, key):
			wrong = append(wrong, "has the unknown key "+clean(key))
		}
	}
	var kind *json.UnmarshalTypeError
	if err := json.Unmarshal(raw, &e); errors.As(err, &kind) {
		wrong = append(wrong, kind.Field+" has the wrong type")
	}
	return e, wrong
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// check finds every fault of an entry and returns its secret.
func (e entry) check(get func(string) string) (secret string, wrong []string) {
	for _, a := range []struct {
		key, value string
		needed     bool
	}{
		{"issuer", e.Issuer, false},
		{"authorize_url", e.AuthorizeURL, e.Issuer == ""},
		{"token_url", e.TokenURL, e.Issuer == ""},
		{"revoke_url", e.RevokeURL, false},
		{"userinfo_url", e.UserinfoURL, false},
	} {
		if a.value == "" && a.needed {
			wrong = append(wrong, a.key+" is missing, and there is no issuer to ask for it")
		} else if a.value != "" {
			if f := addressFault(a.value, e.Environment, a.key != "issuer"); f != "" {
				wrong = append(wrong, a.key+" "+f)
			}
		}
	}
	if e.ClientID == "" {
		wrong = append(wrong, "client_id is missing")
	}
	switch {
	case e.ClientSecretEnv == "":
		wrong = append(wrong, "client_secret_env is missing")
	case get(e.ClientSecretEnv) == "":
		wrong = append(wrong, "client_secret_env names "+clean(e.ClientSecretEnv)+", which is not set")
	}
	if e.ClientAuth != "" && e.ClientAuth != "basic" && e.ClientAuth != "post" {
		wrong = append(wrong, "client_auth must be basic or post")
	}
	if !environment(e.Environment) {
		wrong = append(wrong, "environment must be sandbox or production")
	}
	for _, scope := range e.Scopes {
		if scope == "" || strings.ContainsFunc(scope, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
			wrong = append(wrong, "scopes must be one scope each")
			break
		}
	}
	if d, err := time.ParseDuration(e.KeepAlive); e.KeepAlive != "" && (err != nil || d < time.Minute) {
		wrong = append(wrong, "keep_alive must be a duration such as 168h, of a minute or more")
	}
	return strings.TrimSpace(get(e.ClientSecretEnv)), wrong
}

func (e entry) connector(secret string, wire *Client) Connector {
	s := &standard{wire: wire, entry: e, secret: secret, gate: make(chan struct{}, 1), info: Info{
		Name: e.Name, Title: e.Title, Environment: e.Environment, ReplaySafe: e.ReplaySafe, KeepAlive: 7 * 24 * time.Hour,
	}}
	if s.info.Title == "" {
		s.info.Title = e.Name
	}
	if e.Issuer != "" {
		s.info.HomeURL = origin(e.Issuer)
	}
	if d, err := time.ParseDuration(e.KeepAlive); err == nil {
		s.info.KeepAlive = d
	}
	colors := []string{"#1f5f8b", "#8a3b12", "#3d6b21", "#7a2e6e", "#4a4e9e", "#8c2f39", "#0f6466", "#5b4a1f"}
	sum := 0
	for _, b := range []byte(e.Name) {
		sum = sum*31 + int(b)
	}
	s.info.Color = colors[uint(sum)%uint(len(colors))]
	if e.RevokeURL != "" || e.Issuer != "" {
		return standardRevoker{s}
	}
	return s
}
