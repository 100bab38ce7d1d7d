package connectors

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

const (
	metadataLifetime = 24 * time.Hour
	metadataRetry    = time.Minute // after discovery failed and older metadata is still in use
)

// maxIssuers is how many issuers of one entry are remembered whose addresses hold what merchants typed.
const maxIssuers = 1000

// discovery is what is known of one issuer.
type discovery struct {
	running    chan struct{} // a semaphore of one: callers wait for one discovery, and can stop waiting
	known      *profile
	freshUntil time.Time
}

// profile returns what the provider is like for a merchant who typed values, which are in no address yet but the issuer's. It discovers
// when that is first needed: a provider that is down at start stops nothing. If discovery fails later, what is known stays in use.
func (s *standard) profile(ctx context.Context, values map[string]string) (*profile, error) {
	issuer, err := s.entry.Inputs.fill(s.entry.Issuer, values)
	if err != nil {
		return nil, err
	}
	d := s.discovery(issuer)
	if p := s.fresh(d); p != nil {
		return p, nil
	}
	select {
	case d.running <- struct{}{}:
		defer func() { <-d.running }()
	case <-ctx.Done():
		return nil, &TemporaryError{Reason: "cancelled", cause: ctx.Err()}
	}
	if p := s.fresh(d); p != nil {
		return p, nil
	}
	begun := s.client.now()
	p, err := s.discover(ctx, issuer)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		d.known, d.freshUntil = p, begun.Add(metadataLifetime)
	case d.known != nil && ctx.Err() == nil:
		d.freshUntil = s.client.now().Add(metadataRetry)
	default:
		return nil, err
	}
	return d.known, nil
}

// discovery returns what is known of an issuer. Beyond maxIssuers it forgets others, which are then asked again.
func (s *standard) discovery(issuer string) *discovery {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.issuers[issuer]
	if !ok {
		for other := range s.issuers {
			if len(s.issuers) < maxIssuers {
				break
			}
			delete(s.issuers, other)
		}
		d = &discovery{running: make(chan struct{}, 1)}
		s.issuers[issuer] = d
	}
	return d
}

// fresh returns the known profile, or nil if it is time to discover. Without an issuer there is nothing to discover again.
func (s *standard) fresh(d *discovery) *profile {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.known == nil || s.entry.Issuer != "" && s.client.now().After(d.freshUntil) {
		return nil
	}
	return d.known
}

// metadata is what the issuer publishes (RFC 8414 section 2, OpenID Connect Discovery section 3). It is zero for an
// entry without an issuer.
type metadata struct {
	issuer, authorizeURL, tokenURL, revokeURL, userinfoURL, jwksURL, pushURL string

	algorithms       []string // of ID tokens
	clientAlgorithms []string // of client assertions
	prompts          []string // what it may be told to ask the person; none if it does not say
	postOnly         bool     // client_secret_post without client_secret_basic
	requireIss       bool     // RFC 9207
	mustPush         bool     // RFC 9126
	openid           bool     // the scope openid is known
	inside           bool     // the issuer answered from this machine or a private network, and its addresses may be there too
}

// discover merges the entry with the metadata of an issuer, which is "" if the entry has none.
func (s *standard) discover(ctx context.Context, issuer string) (*profile, error) {
	c := s.entry
	from := c.Inputs.sourceOf(c.Issuer, issuer, c.Environment)
	var m metadata
	if issuer != "" {
		var err error
		if m, err = s.fetchMetadata(ctx, issuer, from); err != nil {
			return nil, err
		}
	}
	p := &profile{
		Entry: c, own: s.own, scopes: c.Scopes,
		authorizeURL: cmp.Or(c.AuthorizeURL, m.authorizeURL), tokenURL: cmp.Or(c.TokenURL, m.tokenURL),
		revokeURL: cmp.Or(c.Revoke.URL, c.RevokeURL, m.revokeURL), userinfoURL: cmp.Or(c.UserinfoURL, m.userinfoURL),
		pushURL: m.pushURL, selects: slices.Contains(m.prompts, "select_account") || m.prompts == nil && m.openid, issuer: m.issuer, openid: m.openid || slices.Contains(c.Scopes, "openid"), requireIss: m.requireIss, algorithms: m.algorithms,
	}
	p.refreshURL = cmp.Or(c.RefreshURL, p.tokenURL)
	if p.own.algorithms = m.clientAlgorithms; c.ClientAuth == "" && m.postOnly {
		p.own.method = "post"
	}
	if c.Inputs.typedIn(c.Issuer) {
		for _, at := range []struct{ written, published string }{
			{c.AuthorizeURL, m.authorizeURL},
			{c.TokenURL, m.tokenURL},
			{cmp.Or(c.Revoke.URL, c.RevokeURL), m.revokeURL},
			{"", m.pushURL},
		} {
			if at.written == "" && at.published != "" && !sameOwner(at.published, issuer) {
				return nil, &UnreadableError{Reason: ReasonUnreadable, Detail: "discovery: an address is not below the issuer's domain"}
			}
		}
	}
	switch {
	case from == fromMerchant:
		p.typed = []string{m.authorizeURL, m.tokenURL, m.revokeURL, m.userinfoURL, m.jwksURL, m.pushURL}
	case !m.inside:
		written := []string{c.AuthorizeURL, c.TokenURL, c.RevokeURL, c.UserinfoURL}
		p.discovered = slices.DeleteFunc([]string{m.tokenURL, m.revokeURL, m.userinfoURL, m.jwksURL, m.pushURL}, func(address string) bool { return slices.Contains(written, address) })
	}
	switch {
	case p.authorizeURL == "" && c.Kind != ClientCredentials: // nobody is sent there
		return nil, &UnreadableError{Reason: ReasonUnreadable, Detail: "discovery: authorization_endpoint is missing"}
	case m.mustPush && m.pushURL == "":
		return nil, &UnreadableError{Reason: ReasonUnreadable, Detail: "discovery: pushed_authorization_request_endpoint is missing"}
	case p.tokenURL == "":
		return nil, &UnreadableError{Reason: ReasonUnreadable, Detail: "discovery: token_endpoint is missing"}
	}
	if m.openid && !slices.Contains(p.scopes, "openid") {
		p.scopes = append([]string{"openid"}, p.scopes...) // without it no account is named
	}
	if !m.mustPush {
		p.pushURL = ""
	}
	if m.jwksURL != "" {
		p.keys = remoteKeys(s.client, m.jwksURL, p.source(m.jwksURL))
	}
	return p, nil
}

// sameOwner says whether two addresses are below one registered domain, or have one host. What a merchant typed into an issuer must not
// lead the browser and our client's secret to addresses that its metadata names elsewhere.
func sameOwner(address, issuer string) bool {
	one, two := splitAddress(address).host, splitAddress(issuer).host
	return strings.EqualFold(one, two) || registrable(one) != "" && registrable(one) == registrable(two)
}

// fetchMetadata asks each of the addresses where an issuer may publish, until one has something. from says who wrote the issuer.
func (s *standard) fetchMetadata(ctx context.Context, issuer string, from source) (metadata, error) {
	var m metadata
	var err error
	for _, address := range metadataURLs(issuer) {
		var absent bool
		var moved string
		read := func(r response) (err error) {
			absent = r.status >= 400 && r.status < 500
			moved = sameOrigin(r, address)
			if !r.ok() || r.object() == nil {
				return r.unexpected()
			}
			if m, err = parseMetadata(r.object(), issuer, s.info.Environment); err != nil {
				return err
			}
			m.inside = r.inside
			// OpenID Connect Discovery section 3: openid is known even if scopes are not listed.
			m.openid = m.openid || strings.HasSuffix(address, "/openid-configuration") && r.object()["scopes_supported"] == nil
			return nil
		}
		err = s.client.do(ctx, request{name: "discover", method: http.MethodGet, address: address, source: from}, read)
		if moved != "" { // Django OAuth Toolkit redirects to the same path with a slash
			err = s.client.do(ctx, request{name: "discover", method: http.MethodGet, address: moved, source: from}, read)
		}
		if !absent {
			break
		}
	}
	return m, err
}

// sameOrigin returns where a response redirects a GET, if that is another path of the same scheme and host, else "".
func sameOrigin(r response, address string) string {
	to, err := r.location(address)
	if err != nil || origin(to.String()) != origin(address) {
		return ""
	}
	return to.String()
}

// metadataURLs are OpenID Connect's, after the issuer's path, and RFC 8414's, before it (section 3.1).
func metadataURLs(issuer string) []string {
	u, err := url.Parse(issuer)
	if err != nil {
		return nil
	}
	path := strings.TrimRight(u.Path, "/")
	openid, oauth := *u, *u
	openid.Path = path + "/.well-known/openid-configuration"
	oauth.Path = "/.well-known/oauth-authorization-server" + path
	return []string{openid.String(), oauth.String()}
}

func hasScheme(address, scheme string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Scheme == scheme
}

// signingAlgorithms are those of ID tokens that a public key verifies: no "none", and no HMAC.
var signingAlgorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA,
}

// parseMetadata reads what the issuer publishes. The issuer in it must be the one that was asked (RFC 8414 section 3.3)
// but for a final slash. No address in it may be one that an entry could not name, and of an https issuer all are https: the exceptions for
// this machine and for sandboxes are the operator's to make, and not the issuer's.
func parseMetadata(o object, issuer, environment string) (metadata, error) {
	m := metadata{
		issuer: o.str("issuer"), authorizeURL: o.str("authorization_endpoint"), tokenURL: o.str("token_endpoint"),
		revokeURL: o.str("revocation_endpoint"), userinfoURL: o.str("userinfo_endpoint"), jwksURL: o.str("jwks_uri"),
		pushURL:    o.str("pushed_authorization_request_endpoint"),
		mustPush:   o.displayString("require_pushed_authorization_requests") == "true",
		prompts:    o.strings("prompt_values_supported"),
		openid:     slices.Contains(o.strings("scopes_supported"), "openid"),
		requireIss: o.displayString("authorization_response_iss_parameter_supported") == "true",
	}
	if !isIssuerOf(m.issuer, issuer) {
		return metadata{}, &UnreadableError{Reason: ReasonWrongIssuer, Detail: "discovery: issuer is not the one that was asked"}
	}
	for _, name := range []string{"authorization_endpoint", "token_endpoint", "revocation_endpoint", "userinfo_endpoint", "jwks_uri", "pushed_authorization_request_endpoint"} {
		address := o.str(name)
		if address != "" && (urlFault(address, environment, true) != "" || hasScheme(issuer, "https") && !hasScheme(address, "https")) {
			return metadata{}, &UnreadableError{Reason: ReasonUnreadable, Detail: "discovery: " + name + " is no address that secrets may be sent to"}
		}
	}
	m.clientAlgorithms = o.strings("token_endpoint_auth_signing_alg_values_supported")
	methods := o.strings("token_endpoint_auth_methods_supported")
	m.postOnly = slices.Contains(methods, "client_secret_post") && !slices.Contains(methods, "client_secret_basic")
	for _, name := range o.strings("id_token_signing_alg_values_supported") {
		if slices.Contains(signingAlgorithms, name) {
			m.algorithms = append(m.algorithms, name)
		}
	}
	return m, nil
}
