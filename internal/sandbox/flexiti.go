package sandbox

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// referenceShape is x-reference-id: a GUID that fits 32 characters, so without hyphens.
var referenceShape = regexp.MustCompile(`^[0-9A-Fa-f]{32}$`)

// flexiti imitates Flexiti's POS API v2.5 at /flexiti/pos-api.
type flexiti struct {
	*Sandbox
	o FlexitiOptions
}

func serveFlexiti(s *Sandbox) {
	p := &flexiti{s, s.o.Flexiti}
	const at = "/flexiti/pos-api/"
	s.serve("POST "+at+"v2.5/oauth/token", Flexiti, "token", false, p.token)
	s.serve("POST "+at+"v2.5/client-id/{client_id}/merchants/login", Flexiti, "login", false, p.login)
	s.serve("GET "+at+"v2.5/client-id/{client_id}/terms-and-conditions", Flexiti, "terms", false, p.terms)
	s.serve("GET "+at+"v2.5.1/client-id/{client_id}/authorizations", Flexiti, "authorizations", false, p.authorizations)
}

type fieldError struct {
	Param string `json:"param"`
	Msg   string `json:"msg"`
	Value string `json:"value"`
}

// fail answers in Flexiti's error shape. 409 is its word for a bad request.
func (p *flexiti) fail(c *call, status int, code, words string, fields ...fieldError) {
	c.json(status, map[string]any{
		"url": c.r.URL.Path, "message": words, "error": code, "field_errors": append([]fieldError{}, fields...),
	})
}

// referenced checks x-reference-id.
func (p *flexiti) referenced(c *call) bool {
	if id := c.r.Header.Get("x-reference-id"); !referenceShape.MatchString(id) {
		p.fail(c, http.StatusConflict, "wrong_inputs", "x-reference-id must be a GUID of 32 characters",
			fieldError{"x-reference-id", "required", id})
		return false
	}
	return true
}

// token mints and refreshes. The payload must be form-encoded and never in the query.
func (p *flexiti) token(c *call) {
	if !p.referenced(c) {
		return
	}
	for _, name := range []string{"client_id", "client_secret", "grant_type", "refresh_token", "scope"} {
		if c.r.URL.Query().Has(name) {
			p.fail(c, http.StatusConflict, "wrong_inputs", "parameters must not be passed as query string", fieldError{name, "in query", ""})
			return
		}
	}
	if c.mediaType() != "application/x-www-form-urlencoded" || c.r.ParseForm() != nil {
		p.fail(c, http.StatusConflict, "wrong_inputs", "an application/x-www-form-urlencoded payload is expected")
		return
	}
	f := c.r.PostForm
	m := p.merchant(f.Get("client_id"))
	if m == nil || !same(m.ClientSecret, f.Get("client_secret")) || c.clientRefused() || p.revoked(m.ClientID) {
		p.fail(c, http.StatusBadRequest, "invalid_client", "Client credentials are invalid")
		return
	}
	if m.NoRole {
		p.fail(c, http.StatusConflict, "invalid_role", "The account is not provisioned for this API")
		return
	}
	scope := cmp.Or(f.Get("scope"), "merchant")
	if scope != "merchant" && scope != "customer" {
		p.fail(c, http.StatusConflict, "wrong_inputs", "scope is not valid", fieldError{"scope", "invalid", scope})
		return
	}
	switch cmp.Or(f.Get("grant_type"), "client_credentials") {
	case "client_credentials":
		p.mint(c, m, scope)
	case "refresh_token":
		p.refresh(c, m, f)
	default:
		p.fail(c, http.StatusBadRequest, "invalid_request", "grant_type is not valid")
	}
}

func (p *flexiti) mint(c *call, m *FlexitiMerchant, scope string) {
	if c.refused() {
		p.fail(c, http.StatusUnauthorized, "invalid_token", "The token is invalid or has expired")
		return
	}
	p.mu.Lock()
	answer := p.issue(c, p.credentialGrant(c.now, Flexiti, m.ClientID), scope, "")
	p.mu.Unlock()
	c.json(http.StatusOK, answer)
}

// refresh works before the access token has lapsed, and not after: the current page of Flexiti's documents. What a
// late or used refresh token is answered with is not documented. An older page names 401 invalid_token here.
func (p *flexiti) refresh(c *call, m *FlexitiMerchant, f url.Values) {
	value := f.Get("refresh_token")
	p.mu.Lock()
	g, t, err := p.present(c, Flexiti, m.ClientID, value, !p.o.KeepRefreshToken && !c.refused())
	var answer map[string]any
	if err == nil && !c.refused() && (f.Get("scope") == "" || f.Get("scope") == t.Scope) {
		keep := ""
		if p.o.KeepRefreshToken {
			keep = value
		}
		answer = p.issue(c, g, t.Scope, keep)
	}
	p.mu.Unlock()
	if answer == nil {
		p.fail(c, http.StatusUnauthorized, "invalid_token", "The token is invalid or has expired")
		return
	}
	c.json(http.StatusOK, answer)
}

// issue makes a token answer. The caller holds the lock.
func (p *flexiti) issue(c *call, g *grant, scope, keep string) map[string]any {
	refresh := keep
	if keep == "" {
		refresh = token(20)
		p.newRefresh(c.now, g, refresh, scope, p.o.RefreshLifetime)
	}
	return map[string]any{
		"token_type": "bearer", "access_token": p.newAccess(c.now, g, scope, p.o.AccessLifetime),
		"expires_in": c.lifetime(seconds(p.o.AccessLifetime)), "refresh_token": refresh, "scope": scope,
	}
}

// bearing checks the reference, the Bearer token and the client id in the path. A token of scope customer counts as
// invalid where that scope may not go. What another client's id in the path leads to is not documented: 403 here.
func (p *flexiti) bearing(c *call, customer bool) *FlexitiMerchant {
	if !p.referenced(c) {
		return nil
	}
	p.mu.Lock()
	t := p.state.Access[c.bearer()]
	var g *grant
	if t != nil && c.now.Before(t.Expires) && (t.Scope == "merchant" || customer) {
		g = p.state.Grants[t.Grant]
	}
	p.mu.Unlock()
	if g == nil || g.Revoked || g.Provider != Flexiti || c.refused() || c.clientRefused() {
		p.fail(c, http.StatusUnauthorized, "invalid_token", "The token is invalid or has expired")
		return nil
	}
	m := p.merchant(g.Account)
	if m == nil || c.r.PathValue("client_id") != m.ClientID {
		p.fail(c, http.StatusForbidden, "forbidden", "Your access level does not allow this")
		return nil
	}
	return m
}

// login is the deprecated POST merchants/login, the only call that ever names the merchant.
func (p *flexiti) login(c *call) {
	m := p.bearing(c, true)
	if m == nil {
		return
	}
	lang := cmp.Or(c.r.URL.Query().Get("lang"), "en")
	if lang != "en" && lang != "fr" {
		p.fail(c, http.StatusConflict, "wrong_inputs", "lang is not valid", fieldError{"lang", "invalid", lang})
		return
	}
	var body struct {
		Username string `json:"merchant_username"`
		Password string `json:"merchant_password"`
	}
	if c.mediaType() == "application/x-www-form-urlencoded" {
		body.Username, body.Password = c.r.PostFormValue("merchant_username"), c.r.PostFormValue("merchant_password")
	} else if c.r.ContentLength != 0 && !c.readJSON(&body) {
		p.fail(c, http.StatusConflict, "wrong_inputs", "the body is not valid")
		return
	}
	if (body.Username != "" || body.Password != "") && (body.Username != m.Username || !same(body.Password, m.Password)) {
		p.fail(c, http.StatusUnauthorized, "invalid_credentials", "Username or password is wrong")
		return
	}
	answer := map[string]any{}
	raw, err := files.ReadFile("pages/flexiti_" + lang + ".json")
	if err == nil {
		err = json.Unmarshal(raw, &answer)
	}
	if err != nil {
		p.fail(c, http.StatusInternalServerError, "internal_error", "the sandbox could not read its sample")
		return
	}
	answer["merchant_name"], answer["merchant_id"] = m.MerchantName, m.MerchantID
	c.json(http.StatusOK, answer)
}

func (p *flexiti) terms(c *call) {
	if p.bearing(c, true) != nil {
		c.json(http.StatusOK, map[string]string{"terms_and_conditions": "Sample terms. Nothing here is real."})
	}
}

// authorizations is the cheapest read of scope merchant. Its answer's fields are the sandbox's guess.
func (p *flexiti) authorizations(c *call) {
	if p.bearing(c, false) == nil {
		return
	}
	q := c.r.URL.Query()
	for _, name := range []string{"creation_date_from", "creation_date_to"} {
		if _, err := time.Parse("2006-01-02", q.Get(name)[:min(10, len(q.Get(name)))]); err != nil {
			p.fail(c, http.StatusConflict, "wrong_inputs", name+" is required", fieldError{name, "required", q.Get(name)})
			return
		}
	}
	page, _ := strconv.Atoi(q.Get("page_number"))
	c.json(http.StatusOK, map[string]any{"page_number": page, "total_records": 0, "authorizations": []any{}})
}

// revoked says whether a client's credentials were ended with Revoke.
func (p *flexiti) revoked(clientID string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.state.Grants[Flexiti+" "+clientID]
	return g != nil && g.Revoked
}

func (p *flexiti) merchant(clientID string) *FlexitiMerchant {
	for i := range p.o.Merchants {
		if p.o.Merchants[i].ClientID == clientID {
			return &p.o.Merchants[i]
		}
	}
	if strings.HasPrefix(clientID, madeUpMark) {
		return &FlexitiMerchant{ClientID: clientID, ClientSecret: madeUpMark + "secret-of-" + clientID}
	}
	return nil
}
