package connectors

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// AuthorizationURL makes the authorization request (RFC 6749 section 4.1.1).
func (s *standard) AuthorizationURL(ctx context.Context, f Flow) (string, error) {
	p, err := s.profileWith(ctx, f.Inputs)
	if err != nil {
		return "", err
	}
	q := p.authorizationRequest(f)
	if p.pushURL != "" {
		return s.push(ctx, p, q)
	}
	return withQuery(p.authorizeURL, q), nil
}

// authorizationRequest returns the request's parameters.
func (p *profile) authorizationRequest(f Flow) url.Values {
	q := url.Values{"response_type": {cmp.Or(p.ResponseType, "code")}}
	for name, value := range p.AuthorizeParams {
		q.Set(name, value)
	}
	q.Set("client_id", p.own.id)
	q.Set("redirect_uri", f.CallbackURL)
	q.Set("state", f.State)
	if p.pkce() {
		q.Set("code_challenge", s256(f.Verifier))
		q.Set("code_challenge_method", "S256")
	}
	if len(p.scopes) > 0 {
		q.Set("scope", strings.Join(p.scopes, cmp.Or(p.ScopeSeparator, " ")))
	}
	if p.issuer != "" {
		q.Set("nonce", nonce(f))
	}
	if prompt := p.prompt(f); prompt != "" {
		q.Set("prompt", prompt)
	}
	return q
}

func (p *profile) pkce() bool { return p.PKCE == nil || *p.PKCE }

// prompt says what the provider shall ask the person (OpenID Connect Core section 3.1.2.1); "" leaves it to the provider. An entry's own
// prompt goes before ours, but for a further account: a session there would answer at once with the account that is connected already.
func (p *profile) prompt(f Flow) string {
	own := p.ownPrompt()
	consent := p.openid && slices.Contains(p.scopes, "offline_access") // section 11: without it there may be no refresh token
	switch another := f.Another && p.selects; {
	case another && own == "" && consent:
		return "select_account consent"
	case another:
		return "select_account"
	case own == "" && consent:
		return "consent"
	}
	return own
}

// ownPrompt returns the prompt that the entry names, as a key, as a parameter or in its address.
func (p *profile) ownPrompt() string {
	written, _ := url.Parse(p.authorizeURL) // it was checked, like any address
	return cmp.Or(p.Prompt, p.AuthorizeParams["prompt"], written.Query().Get("prompt"))
}

// push sends the authorization request to the provider and returns the address that stands for it (RFC 9126 sections 2 and 4).
func (s *standard) push(ctx context.Context, p *profile, params url.Values) (location string, err error) {
	params = maps.Clone(params)
	written, _ := url.Parse(p.authorizeURL)
	for name := range written.Query() {
		if !params.Has(name) {
			params.Set(name, written.Query().Get(name))
		}
	}
	user, password, err := p.own.authenticate(params, p.tokenURL)
	if err != nil {
		return "", err
	}
	q := request{name: "push", method: "POST", address: p.pushURL, source: p.source(p.pushURL), form: params, user: user, password: password}
	err = s.client.do(ctx, q, func(r response) error {
		uri := r.object().str("request_uri")
		if !r.ok() || uri == "" {
			if err := standardError(r, true); !r.ok() {
				return err
			}
			return r.unexpected("request_uri")
		}
		location = withQuery(p.authorizeURL, url.Values{"client_id": {p.own.id}, "request_uri": {uri}})
		return nil
	})
	return location, err
}

// s256 is a code challenge of RFC 7636 section 4.2.
func s256(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// nonce binds an ID token to a flow (OpenID Connect Core section 3.1.2.1).
func nonce(f Flow) string { return s256("nonce:" + f.Verifier) }
