package connectors

import (
	"cmp"
	"context"
	"maps"
	"net/url"
	"time"
)

// tokenResponse is what the token endpoint answered (RFC 6749 section 5.1, OpenID Connect Core section 3.1.3.3).
type tokenResponse struct {
	Token
	idToken string
	root    object    // the whole answer
	beside  object    // the object that holds the token, with what is at the top besides
	at      time.Time // when it was made, by the provider's clock if it said
}

// Code returns the authorization code.
func (s *standard) Code(callback url.Values) string {
	return callback.Get(cmp.Or(s.entry.CodeParam, "code"))
}

// Exchange makes the token request (RFC 6749 section 4.1.3) and finds out whose account it is.
func (s *standard) Exchange(ctx context.Context, f Flow, callback url.Values) (Grant, error) {
	p, err := s.profile(ctx, f.Inputs)
	if err != nil {
		return Grant{}, err
	}
	// RFC 9207: another server's answer must not reach our token endpoint, nor count as this one's rejection.
	iss := callback.Get("iss")
	if p.issuer != "" && (iss != "" && !p.isIssuer(iss) || iss == "" && p.requireIss) {
		return Grant{}, &TemporaryError{Reason: ReasonWrongIssuer, Detail: "iss of the callback"}
	}
	if err := callbackError(callback); err != nil {
		return Grant{}, err
	}
	if f.Inputs, err = s.entry.Inputs.answered(f.Inputs, callback); err != nil {
		return Grant{}, err
	}
	if p, err = p.with(f.Inputs); err != nil {
		return Grant{}, err
	}
	code := s.Code(callback)
	if code == "" {
		return Grant{}, &UnreadableError{Reason: ReasonNoCode, Detail: "callback: code is missing"}
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {f.CallbackURL}}
	if p.pkce() {
		form.Set("code_verifier", f.Verifier)
	}
	t, err := s.requestToken(ctx, p, "exchange", p.tokenURL, form, p.TokenParams)
	if err != nil {
		return Grant{}, err
	}
	missing := missingScopes(p.scopes, t.Scope)
	if len(t.Scope) == 0 {
		t.Scope = p.scopes // RFC 6749 section 5.1: a missing scope means as asked
	}
	g := Grant{Token: t.Token, Inputs: f.Inputs, Missing: missing}
	g.Account, g.Beside, err = s.identify(ctx, p, f, callback, t)
	if err != nil {
		return Grant{}, err
	}
	g.Account.Input = s.entry.Inputs.shown(f.Inputs)
	return g, nil
}

// Refresh makes the request of RFC 6749 section 6.
func (s *standard) Refresh(ctx context.Context, g Grant) (Token, error) {
	if g.Refresh == "" {
		return Token{}, &RejectedError{Reason: "no-refresh-token", Unsent: true}
	}
	p, err := s.profileWith(ctx, g.Inputs)
	if err != nil {
		return Token{}, err
	}
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {g.Refresh}}
	t, err := s.requestToken(ctx, p, "refresh", p.refreshURL, form, p.RefreshParams)
	return t.Token, err
}

// requestToken sends a token request, with the entry's own parameters.
func (s *standard) requestToken(ctx context.Context, p *profile, name, address string, form url.Values, own map[string]string) (t tokenResponse, err error) {
	for key, value := range own {
		form.Set(key, value)
	}
	q, err := p.authenticated(name, address, form)
	if err != nil {
		return t, err
	}
	err = s.client.do(ctx, q, func(r response) (err error) {
		t.root = r.object()
		t.beside = p.aroundToken(t.root, name == "refresh")
		t.Token, err = p.token(r, t.root, t.beside, name == "exchange")
		t.idToken, t.at = cmp.Or(t.beside.str("id_token", "idToken"), t.root.str("id_token")), r.receivedAt
		if !r.date.IsZero() {
			t.at = r.date
		}
		return err
	})
	return t, err
}

// tokenNests are where some providers put the token endpoint's answer instead of at the top.
var tokenNests = []string{"data", "result", "response", "token", "tokens", "oauth", "authed_user"}

// aroundToken returns the object that holds the access token: the one that the entry names, else the answer itself or one of
// tokenNests with what is beside it. The answer to a refresh may hold at the top what an exchange nests, as Slack's does.
func (p *profile) aroundToken(root object, refresh bool) object {
	if p.Answer != "" {
		inner, _ := walk(map[string]any(root), p.Answer).(map[string]any)
		if refresh && object(inner).str("access_token", "accessToken") == "" {
			return root
		}
		return inner
	}
	if root.str("access_token", "accessToken") != "" {
		return root
	}
	for _, key := range tokenNests {
		if inner := root.object(key); inner.str("access_token", "accessToken") != "" {
			all := maps.Clone(root)
			maps.Copy(all, inner)
			return all
		}
	}
	return root
}

// token reads the token endpoint's response: root is its object, of which o holds the token. Without a lifetime in it none is known.
func (p *profile) token(r response, root, o object, exchange bool) (Token, error) {
	access := o.accessToken("access_token", "accessToken")
	if access == "" || !r.ok() || root.saysNo() || o.str("error") != "" {
		return Token{}, p.tokenError(r, exchange)
	}
	t := Token{
		Access: access, Type: o.tokenType("token_type", "tokenType"), Refresh: o.str("refresh_token", "refreshToken"), Scope: o.scopes("scope"),
		Lifetime: r.lifetime(o, access, 0, "expires_in", "expiresIn", "expires_at", "expiresAt", "expires", "access_token_expiration"),
	}
	if t.Refresh != "" {
		t.RefreshLifetime = r.lifetime(o, t.Refresh, time.Duration(p.RefreshLife),
			"refresh_expires_in", "refresh_token_expires_in", "x_refresh_token_expires_in", "refreshTokenExpiresIn", "refresh_token_expires_at", "refresh_token_expiration")
	} else if !exchange {
		t.RefreshLifetime = time.Duration(p.RefreshLife) // the one that was used lasts as long again
	}
	return usable(t)
}

// standardError judges by RFC 6749 section 5.2, also inside a 200, as some providers send it. A 401 that says nothing is
// a proxy's as often as the provider's. At an exchange invalid_request is about our own request, which is the same for
// every merchant.
func standardError(r response, exchange bool) error {
	if r.status >= 500 || r.status >= 300 && r.status < 400 {
		return r.unexpected()
	}
	switch faultOf(r) {
	case passing:
		return r.passing()
	case grantFault:
		return &RejectedError{Reason: "invalid_grant"}
	case clientFault:
		return &RejectedError{Reason: "invalid_client", ClientFault: true}
	}
	said := r.object().refusal()
	if code := said.has(requestCodes...); code != "" {
		return &RejectedError{Reason: code, ClientFault: true}
	}
	if code := said.has("access_denied"); code != "" {
		return &RejectedError{Reason: code}
	}
	if code := said.has("invalid_request"); exchange && code != "" {
		return &RejectedError{Reason: code, ClientFault: true}
	}
	return r.unexpected("access_token", "accessToken")
}
