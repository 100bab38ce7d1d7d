package sandbox

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// standard is an OAuth 2.0 / OpenID Connect provider as the current best practice has it (RFC 6749, 7636, 9207, 9700).
type standard struct {
	*Sandbox
	o      StandardOptions
	issuer string
}

func serveStandard(s *Sandbox) *standard {
	p := &standard{s, s.o.Standard, s.o.BaseURL + "/" + s.o.Standard.Name}
	name, at := p.o.Name, "/"+p.o.Name
	s.allow(name, p.o.Callbacks...)
	s.allow(name, s.appCallbacks(name)...)
	s.serve("GET "+at+"/.well-known/openid-configuration", name, "discovery", false, p.discovery)
	s.serve("GET "+at+"/.well-known/oauth-authorization-server", name, "discovery", false, p.discovery)
	s.serve("GET /.well-known/oauth-authorization-server"+at, name, "discovery", false, p.discovery)
	s.serve("GET "+at+"/jwks", name, "jwks", false, p.jwks)
	s.serve("GET "+at+"/authorize", name, "authorize", true, p.authorize)
	s.serve("POST "+at+"/authorize", name, "consent", true, p.consent)
	s.serve("POST "+at+"/token", name, "token", false, p.token)
	s.serve("GET "+at+"/userinfo", name, "userinfo", false, p.userinfo)
	s.serve("POST "+at+"/revoke", name, "revoke", false, p.revoke)
	return p
}

func (p *standard) discovery(c *call) {
	m := map[string]any{
		"issuer": p.issuer, "authorization_endpoint": p.issuer + "/authorize", "token_endpoint": p.issuer + "/token",
		"jwks_uri":                                       p.issuer + "/jwks",
		"scopes_supported":                               []string{"openid", "profile", "email", "orders.read", "offline_access"},
		"response_types_supported":                       []string{"code"},
		"grant_types_supported":                          []string{"authorization_code", "refresh_token"},
		"subject_types_supported":                        []string{"public"},
		"id_token_signing_alg_values_supported":          []string{"RS256"},
		"code_challenge_methods_supported":               []string{"S256"},
		"token_endpoint_auth_methods_supported":          []string{"client_secret_basic", "client_secret_post"},
		"authorization_response_iss_parameter_supported": !p.o.NoIss,
	}
	if !p.o.NoUserinfo {
		m["userinfo_endpoint"] = p.issuer + "/userinfo"
	}
	if !p.o.NoRevoke {
		m["revocation_endpoint"] = p.issuer + "/revoke"
	}
	c.json(http.StatusOK, m)
}

func (p *standard) jwks(c *call) {
	key, err := p.keys.get(p.o.Name, 2048)
	if err != nil {
		c.fail(http.StatusInternalServerError, "server_error", "no key")
		return
	}
	c.json(http.StatusOK, map[string]any{"keys": []any{jwk(&key.PublicKey)}})
}

// authorize shows the sign-in page. Faults of client or callback end here; every other goes to the callback.
func (p *standard) authorize(c *call) {
	q := c.r.URL.Query()
	if !p.acceptable(c, q) {
		return
	}
	page := consent{
		Title: p.o.Title, Question: "Let this app use your account?", Action: "/" + p.o.Name + "/authorize", Params: params(q),
		Legend: "Sign in as", Asked: strings.Fields(q.Get("scope")),
	}
	for _, u := range p.o.Users {
		page.Choices = append(page.Choices, choice{ID: u.Sub, Name: u.Name, Note: u.Email})
	}
	if account, ok := c.ask(page, q.Get("redirect_uri")); ok {
		p.answer(c, http.StatusFound, q, account)
	}
}

func (p *standard) acceptable(c *call, q url.Values) bool {
	switch {
	case q.Get("client_id") != p.o.ClientID || c.clientRefused():
		c.errorPage(p.o.Title, "The client_id is not known.")
	case !p.allowed(p.o.Name, q.Get("redirect_uri")):
		c.errorPage(p.o.Title, "The redirect_uri is not one that was registered.")
	case q.Get("response_type") != "code":
		p.back(c, q, "error", "unsupported_response_type")
	case q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43:
		p.back(c, q, "error", "invalid_request", "error_description", "PKCE with S256 is required")
	case !p.scopesKnown(q.Get("scope")):
		p.back(c, q, "error", "invalid_scope")
	default:
		return true
	}
	return false
}

func (p *standard) scopesKnown(scope string) bool {
	for _, one := range strings.Fields(scope) {
		if !slices.Contains([]string{"openid", "profile", "email", "orders.read", "offline_access"}, one) && !slices.Contains(p.o.Scopes, one) {
			return false
		}
	}
	return true
}

// back sends the browser to the callback with state and, by RFC 9207, iss.
func (p *standard) back(c *call, q url.Values, pairs ...string) {
	iss, status := p.issuer, http.StatusFound
	if p.o.NoIss {
		iss = ""
	}
	if c.r.Method == http.MethodPost {
		status = http.StatusSeeOther
	}
	c.redirect(status, withQuery(q.Get("redirect_uri"), append(pairs, "state", q.Get("state"), "iss", iss)...))
}

func (p *standard) consent(c *call) {
	if c.r.ParseForm() != nil || !p.acceptable(c, c.r.PostForm) {
		return
	}
	q := c.r.PostForm
	switch {
	case q.Get("decision") != "allow":
		p.back(c, q, "error", "access_denied")
	case p.user(q.Get("account")) == nil:
		c.errorPage(p.o.Title, "There is no such account.")
	default:
		p.answer(c, http.StatusSeeOther, q, q.Get("account"))
	}
}

func (p *standard) answer(c *call, status int, q url.Values, account string) {
	value := token(16)
	p.newCode(value, code{
		provider: p.o.Name, client: p.o.ClientID, callback: q.Get("redirect_uri"), account: account, scopes: strings.Fields(q.Get("scope")),
		nonce: q.Get("nonce"), challenge: q.Get("code_challenge"), expires: c.now.Add(p.o.CodeLifetime),
	})
	p.back(c, q, "code", value)
}

// fail answers as RFC 6749 section 5.2 says.
func (c *call) fail(status int, code, words string) {
	c.json(status, map[string]string{"error": code, "error_description": words})
}

// client authenticates by Basic (form-encoded first, as RFC 6749 section 2.3.1 has it) or by the body, not by both.
func (p *standard) client(c *call) bool {
	f := c.r.PostForm
	user, password, basic := c.r.BasicAuth()
	if basic {
		id, err1 := url.QueryUnescape(user)
		secret, err2 := url.QueryUnescape(password)
		if err1 == nil && err2 == nil && id == p.o.ClientID && same(secret, p.o.ClientSecret) && !f.Has("client_secret") && !c.clientRefused() {
			return true
		}
		c.w.Header().Set("WWW-Authenticate", `Basic realm="sandbox"`)
	} else if f.Get("client_id") == p.o.ClientID && same(f.Get("client_secret"), p.o.ClientSecret) && !c.clientRefused() {
		return true
	}
	c.fail(http.StatusUnauthorized, "invalid_client", "client authentication failed")
	return false
}

func (p *standard) token(c *call) {
	if c.mediaType() != "application/x-www-form-urlencoded" || c.r.ParseForm() != nil {
		c.fail(http.StatusBadRequest, "invalid_request", "the body must be form-encoded")
		return
	}
	if !p.client(c) {
		return
	}
	switch c.r.PostForm.Get("grant_type") {
	case "authorization_code":
		p.exchange(c)
	case "refresh_token":
		p.refresh(c)
	case "":
		c.fail(http.StatusBadRequest, "invalid_request", "grant_type is missing")
	default:
		c.fail(http.StatusBadRequest, "unsupported_grant_type", "not one of ours")
	}
}

// exchange spends a code once. A second try ends what the first one got (RFC 6749 section 4.1.2).
func (p *standard) exchange(c *call) {
	f := c.r.PostForm
	sum := sha256.Sum256([]byte(f.Get("code_verifier")))
	p.mu.Lock()
	one := p.codes[f.Get("code")]
	if one != nil && one.grant != "" {
		p.endFamily(one.grant)
		one = nil
	}
	good := one != nil && one.provider == p.o.Name && c.now.Before(one.expires) && one.callback == f.Get("redirect_uri") &&
		one.challenge == base64.RawURLEncoding.EncodeToString(sum[:]) && !c.refused()
	var g *grant
	var answer map[string]any
	if good {
		g = p.newGrant(c.now, p.o.Name, p.o.ClientID, one.account, strings.Join(one.scopes, " "))
		one.grant = g.ID
		answer = p.issue(c, g, "")
	}
	p.mu.Unlock()
	if !good {
		c.fail(http.StatusBadRequest, "invalid_grant", "the code is wrong, spent or late, or its verifier does not match")
		return
	}
	if slices.Contains(one.scopes, "openid") {
		idToken, err := p.idToken(c, g, one.nonce)
		if err != nil {
			c.fail(http.StatusInternalServerError, "server_error", "no key")
			return
		}
		answer["id_token"] = idToken
	}
	c.json(http.StatusOK, answer)
}

// refresh rotates. A refresh token that was spent before ends the whole family (RFC 9700 section 4.14.2).
func (p *standard) refresh(c *call) {
	value := c.r.PostForm.Get("refresh_token")
	p.mu.Lock()
	g, _, err := p.present(c, p.o.Name, p.o.ClientID, value, !p.o.KeepRefreshToken && !c.refused())
	var answer map[string]any
	switch {
	case err == errSpent:
		p.endFamily(g.ID)
	case err == nil && !c.refused():
		keep := ""
		if p.o.KeepRefreshToken {
			keep = value
		}
		answer = p.issue(c, g, keep)
	}
	p.mu.Unlock()
	if answer == nil {
		c.fail(http.StatusBadRequest, "invalid_grant", "the refresh token is not good")
		return
	}
	c.json(http.StatusOK, answer)
}

// issue makes a token answer; a refresh token only where offline_access was asked for. The caller holds the lock.
func (p *standard) issue(c *call, g *grant, keep string) map[string]any {
	answer := map[string]any{
		"access_token": p.newAccess(c.now, g, g.Scope, p.o.AccessLifetime), "token_type": "Bearer",
		"expires_in": c.lifetime(seconds(p.o.AccessLifetime)), "scope": g.Scope,
	}
	if p.o.NoExpiresIn {
		delete(answer, "expires_in")
	}
	if keep == "" && slices.Contains(strings.Fields(g.Scope), "offline_access") {
		refresh := token(24)
		p.newRefresh(c.now, g, refresh, g.Scope, p.o.RefreshLifetime)
		answer["refresh_token"] = refresh
	}
	return answer
}

// endFamily revokes a grant and its access tokens. The caller holds the lock.
func (p *standard) endFamily(id string) {
	if g := p.state.Grants[id]; g != nil {
		g.Revoked = true
		p.changed()
	}
}

func (p *standard) idToken(c *call, g *grant, nonce string) (string, error) {
	key, err := p.keys.get(p.o.Name, 2048)
	if err != nil {
		return "", err
	}
	claims := map[string]any{
		"iss": p.issuer, "sub": g.Account, "aud": p.o.ClientID, "iat": c.now.Unix(), "exp": c.now.Add(p.o.AccessLifetime).Unix(),
		"auth_time": c.now.Unix(),
	}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	p.about(g, claims)
	jwt, err := signRS(key, map[string]string{"alg": "RS256", "typ": "JWT", "kid": keyID(&key.PublicKey)}, claims)
	p.mu.Lock()
	p.remember(jwt)
	p.mu.Unlock()
	return jwt, err
}

// about adds the claims that the grant's scopes allow.
func (p *standard) about(g *grant, claims map[string]any) {
	u, scopes := p.user(g.Account), strings.Fields(g.Scope)
	if u == nil {
		return
	}
	if slices.Contains(scopes, "profile") {
		claims["name"] = u.Name
	}
	if slices.Contains(scopes, "email") {
		claims["email"], claims["email_verified"] = u.Email, true
	}
}

func (p *standard) userinfo(c *call) {
	p.mu.Lock()
	var g *grant
	if t := p.state.Access[c.bearer()]; t != nil && c.now.Before(t.Expires) {
		g = p.state.Grants[t.Grant]
	}
	p.mu.Unlock()
	if g == nil || g.Revoked || g.Provider != p.o.Name || c.refused() || c.clientRefused() {
		c.w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		c.fail(http.StatusUnauthorized, "invalid_token", "the access token is not good")
		return
	}
	claims := map[string]any{"sub": g.Account}
	p.about(g, claims)
	c.json(http.StatusOK, claims)
}

// revoke is RFC 7009: an unknown token is no fault. A refresh token takes its whole grant along.
func (p *standard) revoke(c *call) {
	if c.mediaType() != "application/x-www-form-urlencoded" || c.r.ParseForm() != nil {
		c.fail(http.StatusBadRequest, "invalid_request", "the body must be form-encoded")
		return
	}
	if !p.client(c) {
		return
	}
	value := c.r.PostForm.Get("token")
	if value == "" {
		c.fail(http.StatusBadRequest, "invalid_request", "token is missing")
		return
	}
	p.mu.Lock()
	if t := p.state.Refresh[value]; t != nil {
		if g := p.state.Grants[t.Grant]; g != nil && g.Provider == p.o.Name {
			p.endFamily(g.ID)
		}
	} else if t := p.state.Access[value]; t != nil {
		if g := p.state.Grants[t.Grant]; g != nil && g.Provider == p.o.Name {
			delete(p.state.Access, value)
		}
	}
	p.changed()
	p.mu.Unlock()
	c.status = http.StatusOK
	c.w.WriteHeader(http.StatusOK)
}

func (p *standard) user(sub string) *User {
	for i := range p.o.Users {
		if p.o.Users[i].Sub == sub {
			return &p.o.Users[i]
		}
	}
	return nil
}
