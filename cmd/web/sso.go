package main

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"patchbay/internal/sso"
	"patchbay/internal/text"
)

const (
	maxSSOTitle      = 60 // characters
	defaultRoleClaim = "groups"
)

// readSSO reads sign-in through the platform, and what the platform's provider is called. It returns nil if none of its settings is set.
func readSSO(e *env, publicURL *url.URL, brand string) (o *sso.Options, title string) {
	o = &sso.Options{
		Issuer: e.get("SSO_ISSUER"), ClientID: e.get("SSO_CLIENT_ID"), ClientSecret: e.secret("SSO_CLIENT_SECRET"),
		RoleClaim: e.get("SSO_ROLE_CLAIM"), Admin: list(e.get("SSO_ADMIN")), Support: list(e.get("SSO_SUPPORT")), MerchantClaim: e.get("SSO_MERCHANT_CLAIM"),
	}
	title = text.Name(e.get("SSO_TITLE"))
	if cmp.Or(o.Issuer, o.ClientID, o.ClientSecret, o.RoleClaim, o.MerchantClaim, title) == "" && len(o.Admin)+len(o.Support) == 0 {
		return nil, ""
	}
	o.RoleClaim = cmp.Or(o.RoleClaim, defaultRoleClaim)
	for _, one := range []struct{ value, name, what string }{
		{o.Issuer, "SSO_ISSUER", "the issuer of the platform's OpenID Connect provider, as https://id.platform.example is"},
		{o.ClientID, "SSO_CLIENT_ID", "how the provider knows Patchbay"},
		{o.ClientSecret, "SSO_CLIENT_SECRET or SSO_CLIENT_SECRET_FILE", "the provider gave it with the client's id"},
	} {
		if one.value == "" {
			e.fault("%s is missing, while other SSO_ settings are set: %s", one.name, one.what)
		}
	}
	var issuer *url.URL
	if o.Issuer != "" {
		issuer = parseIssuer(e, o.Issuer)
	}
	if len(o.Admin)+len(o.Support) == 0 && o.MerchantClaim == "" {
		e.fault("SSO_ADMIN, SSO_SUPPORT and SSO_MERCHANT_CLAIM are all missing: everybody who signs in through the platform would be turned away")
	}
	for _, value := range o.Admin {
		if slices.Contains(o.Support, value) {
			e.fault("SSO_ADMIN and SSO_SUPPORT both have %s: which of the two does it make?", value)
		}
	}
	if len(o.Admin)+len(o.Support) > 0 && o.MerchantClaim == o.RoleClaim {
		e.fault("SSO_MERCHANT_CLAIM and SSO_ROLE_CLAIM are both %s: a merchant's id could be a role", o.RoleClaim)
	}
	if text.Length(title) > maxSSOTitle {
		e.fault("SSO_TITLE has over %d characters", maxSSOTitle)
	}
	if title == "" {
		title = brand
	}
	if title == "" && issuer != nil {
		title = issuer.Hostname()
	}
	if publicURL != nil {
		o.Callback = publicURL.String() + "/login/sso/callback"
	}
	return o, title
}

// parseIssuer returns nil, and adds a fault, for an address that is no issuer's (OpenID Connect Discovery section 3).
func parseIssuer(e *env, address string) *url.URL {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" || strings.Contains(u.Path, "/.well-known/"):
		e.fault("SSO_ISSUER is not an address like https://id.platform.example: without a query, and without /.well-known/openid-configuration, which is found by itself")
	case u.Scheme == "http" && !isHere(u.Hostname()):
		e.fault("SSO_ISSUER is http and not on this machine: who is signed in could be changed on the way. It must be https")
	default:
		return u
	}
	return nil
}

// isHere says whether a host is this machine.
func isHere(host string) bool {
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback() || host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// signIn checks whether the platform's provider can be used.
func (x *examination) signIn(ctx context.Context, s settings) {
	if s.sso == nil || s.sso.Issuer == "" {
		x.note("sso", "SSO_ISSUER is not set: everybody signs in with a password")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err := sso.New(*s.sso).Check(ctx)
	switch {
	case errors.Is(err, sso.ErrAway):
		x.wrong("sso", s.sso.Issuer+" does not answer: is SSO_ISSUER right, does this host believe its certificate, and may this host reach it? Until it does, people sign in with passwords only")
		return
	case err != nil:
		x.wrong("sso", err.Error()+": is SSO_ISSUER the issuer exactly as the provider publishes it?")
		return
	}
	x.fine("sso", s.sso.Issuer+" publishes what a sign-in needs")
	x.note("sso", "its people must know the callback address "+s.sso.Callback)
}
