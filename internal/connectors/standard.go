package connectors

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"patchbay/internal/text"
)

// standard speaks OAuth 2.0 (RFC 6749) with PKCE (RFC 7636) to a provider of CONNECTORS_FILE, and OpenID Connect to one
// with an issuer. What the provider is like is in its profile; each step is one method that takes it, in a file of its own:
// authorize.go, token.go, identify.go, revoke.go.
type standard struct {
	client *Client
	info   Info
	entry  Entry
	own    ownClient

	mu      sync.Mutex            // guards issuers and what they point to
	issuers map[string]*discovery // by issuer, of which there is one unless its address holds what merchants typed
}

// standardRevoker is a standard provider that has, or may turn out to have, an endpoint that ends access.
type standardRevoker struct{ *standard }

var (
	_ Asker   = (*standard)(nil)
	_ Checker = (*standard)(nil)
	_ Revoker = standardRevoker{}
)

// profile says what a standard provider is like: its entry of CONNECTORS_FILE first, then what discovery found (RFC 8414,
// OpenID Connect Discovery), then the defaults of the RFCs. It does not change after it is made.
type profile struct {
	Entry
	own    ownClient
	theirs bool     // own is the merchant's client, which they typed
	scopes []string // what is asked for, with openid where the provider knows it

	authorizeURL, tokenURL string
	refreshURL             string
	revokeURL, userinfoURL string   // "" if there is none
	pushURL                string   // where authorization requests must be pushed to (RFC 9126); "" where they need not
	discovered             []string // those of the addresses that only the issuer's metadata names
	typed                  []string // those of the addresses in whose host is what a merchant typed

	issuer     string             // "" without discovery; {tenantid} in it stands for any tenant
	openid     bool               // it speaks OpenID Connect
	selects    bool               // it lets the person select an account (OpenID Connect Core section 3.1.2.1)
	requireIss bool               // each callback carries iss (RFC 9207)
	keys       *oidc.RemoteKeySet // nil if ID tokens cannot be verified
	algorithms []string           // of ID tokens; none means RS256
}

// connector returns the connector of an entry that has been checked. key is nil unless client_auth is private_key_jwt.
func (e Entry) connector(secret string, key *clientKey, client *Client) Connector {
	if e.Kind == KeyTyped {
		return e.keyConnector(client)
	}
	s := e.standard(secret, key, client)
	switch {
	case e.Kind == ClientCredentials:
		return minterOf(s)
	case e.revokes() || !e.Revoke.Never && e.Issuer != "": // whose metadata may name where
		return standardRevoker{s}
	}
	return s
}

func (e Entry) standard(secret string, key *clientKey, client *Client) *standard {
	return &standard{
		client: client, entry: e, issuers: map[string]*discovery{},
		own:  ownClient{id: e.ClientID, secret: secret, key: key, method: e.ClientAuth, now: client.now},
		info: e.info(),
	}
}

// revokes says whether the entry names where access is ended.
func (e Entry) revokes() bool {
	return !e.Revoke.Never && (e.Revoke.URL != "" || e.RevokeURL != "")
}

// info returns what an entry declares about its provider.
func (e Entry) info() Info {
	i := Info{
		Name: e.Name, Title: cmp.Or(text.Name(e.Title), e.Name), Environment: e.Environment, ReplaySafe: e.ReplaySafe,
		KeepAlive: cmp.Or(time.Duration(e.KeepAlive), defaultKeepAlive), GrantLife: time.Duration(e.GrantLife),
		RevokesAccount: e.Revoke.Ends == "account", RevokesByID: e.Revoke.byID(), Color: cmp.Or(e.Color, markColor(e.Name)), About: e.about(),
	}
	if e.Issuer != "" && !strings.Contains(splitAddress(e.Issuer).host, "{") {
		i.HomeURL = origin(e.Issuer)
	}
	return i
}

// markColors are given to standard providers by their names.
var markColors = []string{"#1f5f8b", "#8a3b12", "#3d6b21", "#7a2e6e", "#4a4e9e", "#8c2f39", "#0f6466", "#5b4a1f"}

func markColor(name string) string {
	sum := 0
	for _, b := range []byte(name) {
		sum = sum*31 + int(b)
	}
	return markColors[uint(sum)%uint(len(markColors))]
}

func (s *standard) Info() Info { return s.info }

// Check sends the address where refreshing asks an empty request. It returns ErrNotOffered if part of the address is typed by merchants.
func (s *standard) Check(ctx context.Context) (CheckResult, error) {
	if strings.Contains(s.entry.Issuer, "{") {
		return CheckResult{}, ErrNotOffered
	}
	p, err := s.profile(ctx, nil)
	if err != nil {
		return CheckResult{Address: s.entry.Issuer}, err
	}
	if strings.Contains(p.refreshURL, "{") {
		return CheckResult{}, ErrNotOffered
	}
	return s.client.check(ctx, p.request("check", p.refreshURL, url.Values{}))
}

// source says whose an address of the profile is.
func (p *profile) source(address string) source {
	switch {
	case slices.Contains(p.typed, address):
		return fromMerchant
	case slices.Contains(p.discovered, address):
		return fromProvider
	}
	return fromOperator
}

// request returns one with parameters as its body, in the form that the provider reads.
func (p *profile) request(name, address string, params url.Values) request {
	q := request{name: name, method: http.MethodPost, address: address, source: p.source(address), form: params}
	if p.Body == "json" {
		q.form, q.json = nil, map[string]any{}
		for key := range params {
			q.json[key] = params.Get(key)
		}
	}
	return q
}

// authenticated returns a request with our client's credentials. It returns an error if they cannot be made.
func (p *profile) authenticated(name, address string, params url.Values) (request, error) {
	params = maps.Clone(params)
	user, password, err := p.own.authenticate(params, p.tokenURL)
	q := p.request(name, address, params)
	q.user, q.password = user, password
	return q, err
}
