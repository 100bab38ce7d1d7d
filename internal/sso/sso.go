// Package sso speaks OpenID Connect with the platform's provider: the authorization code flow with PKCE (RFC 7636), state, nonce and iss
// (RFC 9207). It knows nothing of users: it says who was authenticated, and what the provider's claims make of them.
package sso

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Options configure a Provider.
type Options struct {
	Issuer         string
	ClientID       string
	ClientSecret   string
	Callback       string           // our address that the provider sends browsers back to
	RoleClaim      string           // holds roles or groups
	Admin, Support []string         // values of RoleClaim
	MerchantClaim  string           // holds the external id of a merchant; "" if none does
	Now            func() time.Time // for nil, time.Now
}

// Provider is the platform's provider. New makes one. It is safe for concurrent use.
type Provider struct {
	o      Options
	client *http.Client

	discovering chan struct{} // holds one while a discovery is under way
	mu          sync.Mutex
	known       *metadata // nil before the first discovery
	freshUntil  time.Time // known need not be discovered again, or the last failure is believed
	failed      error     // of the last discovery
}

// New makes a provider. It sends nothing: discovery is made when it is first needed, so that Patchbay starts when the provider is away.
func New(o Options) *Provider {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Provider{o: o, client: newClient(nil), discovering: make(chan struct{}, 1)}
}

// Errors of a sign-in. Their texts may be logged: they quote nothing that was received.
var (
	ErrAway    = errors.New("the provider does not answer")              // trying again later may help
	ErrDenied  = errors.New("the provider or the person said no")        // RFC 6749 section 4.1.2.1
	ErrStale   = errors.New("the answer belongs to no attempt")          // beginning again helps
	ErrInvalid = errors.New("the provider's answer cannot be relied on") // its settings or ours are wrong, or this is an attack
)

// Attempt is what the browser that began keeps until it comes back.
type Attempt struct {
	State    string
	Nonce    string
	Verifier string // of PKCE
}

// Begin returns where the browser goes to sign in, and the attempt. It returns ErrAway or ErrInvalid if the provider cannot be discovered.
func (p *Provider) Begin(ctx context.Context) (address string, a Attempt, err error) {
	m, err := p.metadata(ctx)
	if err != nil {
		return "", a, err
	}
	a = Attempt{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier()}
	return p.config(m).AuthCodeURL(a.State, oidc.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier)), a, nil
}

func (p *Provider) config(m *metadata) *oauth2.Config {
	return &oauth2.Config{
		ClientID: p.o.ClientID, ClientSecret: p.o.ClientSecret, RedirectURL: p.o.Callback, Scopes: m.scopes(p.o),
		Endpoint: oauth2.Endpoint{AuthURL: m.AuthorizeURL, TokenURL: m.TokenURL, AuthStyle: m.authStyle()},
	}
}

// Finish spends the answer that a browser brought back, and returns whom the provider authenticated. The caller has made sure that the
// attempt is this browser's, and was not finished before. It returns ErrStale, ErrDenied, ErrAway or ErrInvalid.
func (p *Provider) Finish(ctx context.Context, a Attempt, answer url.Values) (Person, error) {
	if a.State == "" || len(answer["state"]) != 1 || answer.Get("state") != a.State {
		return Person{}, fmt.Errorf("%w: state", ErrStale)
	}
	m, err := p.metadata(ctx)
	if err != nil {
		return Person{}, err
	}
	if iss, given := answer["iss"]; given && !slices.Equal(iss, []string{m.Issuer}) || !given && m.SendsIss { // RFC 9207 section 2.4
		return Person{}, fmt.Errorf("%w: iss is another issuer", ErrInvalid)
	}
	switch code := answer.Get("error"); {
	case code == "server_error", code == "temporarily_unavailable":
		return Person{}, fmt.Errorf("%w: an error at the authorization endpoint", ErrAway)
	case code == "access_denied", code == "login_required", code == "interaction_required", code == "consent_required", code == "account_selection_required":
		return Person{}, ErrDenied
	case answer.Has("error"):
		return Person{}, fmt.Errorf("%w: it refuses the request%s", ErrInvalid, shown(code))
	case len(answer["code"]) != 1 || answer.Get("code") == "":
		return Person{}, fmt.Errorf("%w: no code", ErrInvalid)
	}
	// x/oauth2 and go-oidc take the client from the context.
	ctx = oidc.ClientContext(ctx, p.client)
	token, err := p.config(m).Exchange(ctx, answer.Get("code"), oauth2.VerifierOption(a.Verifier))
	if err != nil {
		return Person{}, exchangeError(err)
	}
	claims, err := p.verify(ctx, m, token, a.Nonce)
	if err != nil {
		return Person{}, err
	}
	if claims, err = p.userinfo(ctx, m, token, claims); err != nil {
		return Person{}, err
	}
	return p.judge(m.Issuer, claims), nil
}

// errorCodes are those of RFC 6749 that say what is to be mended. No others are repeated.
var errorCodes = []string{"invalid_request", "unauthorized_client", "unsupported_response_type", "invalid_scope", "invalid_client", "invalid_grant", "unsupported_grant_type"}

// shown returns a provider's error code for a message, "" for one that is not known.
func shown(code string) string {
	if slices.Contains(errorCodes, code) {
		return " (" + code + ")"
	}
	return ""
}

func exchangeError(err error) error {
	var refused *oauth2.RetrieveError
	switch {
	case called(err):
		return callError(err, "token endpoint")
	case !errors.As(err, &refused):
		return fmt.Errorf("%w: the token endpoint's answer is not readable", ErrInvalid)
	case mayRecover(refused.Response.StatusCode):
		return fmt.Errorf("%w: HTTP %d of the token endpoint", ErrAway, refused.Response.StatusCode)
	case refused.ErrorCode == "invalid_grant":
		return fmt.Errorf("%w: the code is spent or too old", ErrStale)
	default:
		return fmt.Errorf("%w: HTTP %d of the token endpoint%s", ErrInvalid, refused.Response.StatusCode, shown(refused.ErrorCode))
	}
}

// maxSubject is how many characters a subject has (OpenID Connect Core section 2).
const maxSubject = 255

// verify returns the claims of the ID token (OpenID Connect Core section 3.1.3.7).
func (p *Provider) verify(ctx context.Context, m *metadata, token *oauth2.Token, nonce string) (claims, error) {
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return nil, fmt.Errorf("%w: no ID token", ErrInvalid)
	}
	keys := &keySet{RemoteKeySet: m.keys}
	id, err := oidc.NewVerifier(m.Issuer, keys, &oidc.Config{
		ClientID: p.o.ClientID, SupportedSigningAlgs: m.algorithms(), Now: p.o.Now,
	}).Verify(ctx, raw)
	var expired *oidc.TokenExpiredError
	switch {
	case called(keys.err):
		return nil, callError(keys.err, "jwks_uri")
	case errors.As(err, &expired):
		return nil, fmt.Errorf("%w: the ID token has expired, or this host's clock is wrong", ErrInvalid)
	case err != nil:
		return nil, fmt.Errorf("%w: the ID token's signature, algorithm, issuer or audience", ErrInvalid)
	}
	var all claims
	if err := id.Claims(&all); err != nil {
		return nil, fmt.Errorf("%w: the ID token is not readable", ErrInvalid)
	}
	azp, named := all["azp"]
	switch {
	case id.Nonce != nonce || nonce == "":
		return nil, fmt.Errorf("%w: nonce is another attempt's", ErrInvalid)
	case named && azp != p.o.ClientID, !named && len(id.Audience) > 1:
		return nil, fmt.Errorf("%w: azp is not our client", ErrInvalid)
	case id.AccessTokenHash != "" && id.VerifyAccessToken(token.AccessToken) != nil:
		return nil, fmt.Errorf("%w: at_hash is not the access token's", ErrInvalid)
	case !isSubject(id.Subject):
		return nil, fmt.Errorf("%w: sub", ErrInvalid)
	}
	return all, nil
}

// isSubject says whether a subject is one: printable ASCII, not empty, not too long.
func isSubject(sub string) bool {
	for _, b := range []byte(sub) {
		if b < ' ' || b > '~' {
			return false
		}
	}
	return sub != "" && len(sub) <= maxSubject
}

// userinfo adds the claims that providers leave out of the ID token and have at the userinfo endpoint (OpenID Connect Core section 5.3).
// What the ID token says stands.
func (p *Provider) userinfo(ctx context.Context, m *metadata, token *oauth2.Token, known claims) (claims, error) {
	wanted := []string{"name", "email"}
	if len(p.o.Admin)+len(p.o.Support) > 0 {
		wanted = append(wanted, p.o.RoleClaim)
	}
	if p.o.MerchantClaim != "" {
		wanted = append(wanted, p.o.MerchantClaim)
	}
	missing := slices.ContainsFunc(wanted, func(name string) bool { _, ok := known[name]; return !ok })
	if !missing || m.UserinfoURL == "" || token.AccessToken == "" {
		return known, nil
	}
	more, err := p.fetch(ctx, m.UserinfoURL, "Bearer "+token.AccessToken)
	if err != nil {
		return nil, err
	}
	if more["sub"] != known["sub"] { // section 5.3.2
		return nil, fmt.Errorf("%w: userinfo is of another subject", ErrInvalid)
	}
	for name, value := range known {
		more[name] = value
	}
	return more, nil
}
