package connectors

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Revoke ends access at the provider. By RFC 7009 it ends the refresh token, which ends its access tokens too (section 2.1), then the
// access token for servers that leave it alive: if the second fails, that is no failure.
func (s standardRevoker) Revoke(ctx context.Context, g Grant) error {
	p, err := s.profileWith(ctx, g.Inputs)
	if err != nil {
		return err
	}
	if p.revokeURL == "" {
		return ErrNotOffered
	}
	return s.revokeWith(ctx, p, g)
}

// revokeWith ends access at a provider that is like p.
func (s standardRevoker) revokeWith(ctx context.Context, p *profile, g Grant) error {
	if g.Refresh == "" || !p.revokesToken() {
		return s.revoke(ctx, p, g, "access_token", g.Access)
	}
	if err := s.revoke(ctx, p, g, "refresh_token", g.Refresh); err != nil {
		return err
	}
	_ = s.revoke(ctx, p, g, "access_token", g.Access)
	return nil
}

// revokesToken says whether the request names a token as in RFC 7009, so that there is one for each token.
func (p *profile) revokesToken() bool {
	return p.Entry.Revoke.Params == nil && p.Entry.Revoke.As != "token" && p.Entry.Revoke.Method != http.MethodDelete
}

// revoke sends one request that ends a token, or what the entry says it ends.
func (s standardRevoker) revoke(ctx context.Context, p *profile, g Grant, hint, token string) error {
	q, err := p.revocation(g, hint, token)
	if err != nil {
		return err
	}
	return s.client.do(ctx, q, func(r response) error {
		if r.saysNo() {
			return standardError(r, false)
		}
		return nil // RFC 7009 section 2.2: what the body says else means nothing
	})
}

// revocation makes the request. It returns *UnreadableError if a value that it needs is not known of this account.
func (p *profile) revocation(g Grant, hint, token string) (request, error) {
	how := p.Entry.Revoke
	params := url.Values{}
	if p.revokesToken() {
		params = url.Values{"token": {token}, "token_type_hint": {hint}}
	}
	lacks := ""
	value := func(name string) string {
		value := p.revocationValue(g, name)
		if value == "" {
			lacks = cmp.Or(lacks, name)
		}
		return value
	}
	for key, template := range how.Params {
		if template == "{token}" && key == "access_token" {
			params.Set(key, g.Access)
			continue
		}
		params.Set(key, fillText(template, value))
	}
	address := p.revokeURL
	if how.URL != "" {
		address = fillAddress(address, value)
	}
	if lacks != "" || address == "" {
		return request{}, &UnreadableError{Reason: ReasonNoAccount, Detail: "revoke: " + cmp.Or(lacks, "a value of its address") + " is not known of this account"}
	}
	var q request
	var err error
	switch how.As {
	case "token":
		q = p.request("revoke", address, params)
		q.bearer = g.Access
	case "secret":
		q = p.request("revoke", address, params)
		q.scheme, q.bearer = "Client", p.own.secret
	default:
		q, err = p.authenticated("revoke", address, params)
	}
	q.source = p.source(p.revokeURL)
	if q.method = cmp.Or(how.Method, http.MethodPost); q.method == http.MethodDelete && len(q.form)+len(q.json) == 0 {
		q.form, q.json = nil, nil
	}
	return q, err
}

// revocationValue returns what a name in braces stands for, "" if that is not known.
func (p *profile) revocationValue(g Grant, name string) string {
	switch name {
	case "token":
		return cmp.Or(g.Refresh, g.Access)
	case "account":
		return g.Account.ID
	case "client":
		return p.own.id
	}
	if value, ok := g.Account.Values[name]; ok {
		return displayText(value)
	}
	return cmp.Or(g.Inputs[name], g.Beside[name])
}

// byID says whether access can be ended by the account's id alone, when no token is left.
func (r Revocation) byID() bool {
	if r.Ends != "account" || r.As == "token" || r.Params == nil {
		return false
	}
	for _, template := range append(slices.Collect(maps.Values(r.Params)), r.URL) {
		for _, name := range namesIn(template) {
			if name != "account" && name != "client" {
				return false
			}
		}
	}
	return true
}

// saysNo says whether a response is no success, by its status or, as some providers answer with 200, by what it says.
func (r response) saysNo() bool { return !r.ok() || r.object().saysNo() }

// saysNo says whether the answer of a 200 says that it is no success.
func (o object) saysNo() bool {
	return o["ok"] == false || o["success"] == false || strings.TrimSpace(o.displayString("error")) != "" && o["error"] != false || len(o.object("error")) > 0
}
