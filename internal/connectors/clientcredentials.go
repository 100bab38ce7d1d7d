package connectors

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// minter speaks the client credentials grant (RFC 6749 section 4.4) with a client that is the merchant's: an entry of the kind
// client_credentials. Its id and secret are typed, and give new access whenever a token ends.
type minter struct{ of *standard }

// mintRevoker is a minter whose provider has an endpoint that ends access.
type mintRevoker struct{ *minter }

var (
	_ CredentialConnector = (*minter)(nil)
	_ Checker             = (*minter)(nil)
	_ Revoker             = mintRevoker{}
)

// typedKeepAlive is how often what a merchant typed is tried when nobody uses it.
const typedKeepAlive = 24 * time.Hour

// minterOf returns the connector of an entry of the kind client_credentials.
func minterOf(of *standard) Connector {
	of.info.Mints, of.info.ReplaySafe, of.info.KeepAlive = true, true, cmp.Or(time.Duration(of.entry.KeepAlive), typedKeepAlive)
	m := &minter{of}
	if of.entry.revokes() {
		return mintRevoker{m}
	}
	return m
}

func (m *minter) Info() Info { return m.of.info }

func (m *minter) Fields() []Field { return m.of.entry.Inputs.fields() }

func (m *minter) Authenticate(ctx context.Context, f Flow, inputs map[string]string) (Grant, error) {
	values, err := m.of.entry.Inputs.read(inputs)
	if err != nil {
		return Grant{}, err
	}
	p, err := m.profile(ctx, values)
	if err != nil {
		return Grant{}, err
	}
	t, err := m.mint(ctx, p)
	var rejected *RejectedError
	switch {
	case errors.As(err, &rejected) && rejected.Reason == "unauthorized_client":
		return Grant{}, &InputError{Field: "client_id", Code: InputNotAllowed}
	case errors.As(err, &rejected) && !rejected.ClientFault:
		return Grant{}, rejectedCredentials(values, m.of.info.Environment)
	case err != nil:
		return Grant{}, err
	}
	g := Grant{Token: t.Token, Inputs: values, Missing: missingScopes(p.scopes, t.Scope)}
	if len(g.Scope) == 0 {
		g.Scope = p.scopes
	}
	f.Inputs = values
	if g.Account, g.Beside, err = m.of.identify(ctx, p, f, nil, t); err != nil {
		return Grant{}, err
	}
	if g.Account.ID == "" {
		g.Account.ID = accountID(values["client_id"])
	}
	g.Account.Name = cmp.Or(g.Account.Name, g.Account.ID)
	g.Account.Input = m.of.entry.Inputs.shown(values)
	return g, nil
}

// Refresh spends the refresh token where there is one, else, or if it is refused, it mints: the secret is here.
func (m *minter) Refresh(ctx context.Context, g Grant) (Token, error) {
	p, err := m.profile(ctx, g.Inputs)
	if err != nil {
		return Token{}, err
	}
	if g.Refresh != "" {
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {g.Refresh}}
		t, err := m.of.requestToken(ctx, p, "refresh", p.refreshURL, form, p.RefreshParams)
		var rejected *RejectedError
		var unreadable *UnreadableError
		if !errors.As(err, &rejected) && !errors.As(err, &unreadable) {
			return t.Token, err
		}
	}
	t, err := m.mint(ctx, p)
	return t.Token, err
}

// Check sends the token address an empty request. It returns ErrNotOffered if part of the address is typed by merchants.
func (m *minter) Check(ctx context.Context) (CheckResult, error) {
	if strings.Contains(m.of.entry.TokenURL, "{") {
		return CheckResult{}, ErrNotOffered
	}
	p, err := m.of.profile(ctx, nil)
	if err != nil {
		return CheckResult{}, err
	}
	return m.of.client.check(ctx, p.request("check", p.tokenURL, url.Values{}))
}

// Revoke ends the access that the typed client has, as the entry says.
func (m mintRevoker) Revoke(ctx context.Context, g Grant) error {
	p, err := m.profile(ctx, g.Inputs)
	if err != nil {
		return err
	}
	return standardRevoker{m.of}.revokeWith(ctx, p, g)
}

// profile returns what the provider is like for the merchant whose client was typed.
func (m *minter) profile(ctx context.Context, values map[string]string) (*profile, error) {
	if values["client_id"] == "" || values["client_secret"] == "" {
		return nil, &RejectedError{Reason: "no-credentials"}
	}
	filled, err := m.of.profileWith(ctx, values)
	if err != nil {
		return nil, err
	}
	p := *filled
	p.own.id, p.own.secret, p.theirs = values["client_id"], values["client_secret"], true
	return &p, nil
}

// mint makes the request of RFC 6749 section 4.4.2.
func (m *minter) mint(ctx context.Context, p *profile) (tokenResponse, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	if len(p.scopes) > 0 {
		form.Set("scope", strings.Join(p.scopes, cmp.Or(p.ScopeSeparator, " ")))
	}
	return m.of.requestToken(ctx, p, "mint", p.tokenURL, form, p.TokenParams)
}

// tokenError judges what is no token. With a client that the merchant typed, a no to the client is a no to what they typed, and so is a
// 401 in JSON without a code, since the request holds nothing else that could be refused.
func (p *profile) tokenError(r response, exchange bool) error {
	err := standardError(r, exchange)
	if !p.theirs || r.status >= 500 {
		return err
	}
	var rejected *RejectedError
	said := r.object().refusal()
	switch {
	case said.has("unauthorized_client") != "":
		return &RejectedError{Reason: "unauthorized_client"}
	case errors.As(err, &rejected) && rejected.Reason == "invalid_client",
		r.status == http.StatusUnauthorized && r.object() != nil && said.fault(true) != passing:
		return &RejectedError{Reason: "invalid_client"}
	}
	return err
}
