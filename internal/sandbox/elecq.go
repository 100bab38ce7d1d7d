package sandbox

import (
	"cmp"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// elecq imitates ELECQ at /elecq. Its real paths are not published: these are the sandbox's.
type elecq struct {
	*Sandbox
	o ELECQOptions
}

func serveELECQ(s *Sandbox) {
	p := &elecq{s, s.o.ELECQ}
	s.allow(ELECQ, p.o.Callbacks...)
	s.allow(ELECQ, s.appCallbacks(ELECQ)...)
	s.serve("GET /elecq/authorize", ELECQ, "authorize", false, p.authorize)
	s.serve("GET /elecq/authorize/direct", ELECQ, "authorize-direct", false, p.authorizeDirect)
	s.serve("GET /elecq/sign-in", ELECQ, "sign-in", true, p.signIn)
	s.serve("POST /elecq/sign-in", ELECQ, "consent", true, p.consent)
	s.serve("POST /elecq/token", ELECQ, "token", false, p.token)
	s.serve("POST /elecq/refresh", ELECQ, "refresh", false, p.refresh)
}

// envelope answers as all of ELECQ's endpoints but authorize do. The HTTP status of a failure is not documented.
func (p *elecq) envelope(c *call, code, words string, data any) {
	status := http.StatusOK
	if n, err := strconv.Atoi(code); err == nil && n >= 400 && p.o.HTTPErrors {
		status = n
	}
	c.json(status, map[string]any{"respCode": code, "respMsg": words, "data": data})
}

func (p *elecq) unauthorized(c *call) { p.envelope(c, "401", "Unauthorized", nil) }

// client finds the owner of a Basic header: the operator (account "") or a merchant with credentials of its own.
func (p *elecq) client(c *call) (id, account string, ok bool) {
	if c.basic(p.o.ClientID, p.o.ClientSecret) {
		return p.o.ClientID, "", true
	}
	for _, m := range p.o.Merchants {
		if m.ClientID != "" && c.basic(m.ClientID, m.ClientSecret) {
			return m.ClientID, m.UserID, true
		}
	}
	return "", "", false
}

// authorize speaks both readings of ELECQ's documents. Without an Authorization header a browser is there: it gets the
// sign-in page. With the operator's credentials the caller is a server: it learns where to send the browser, or, with
// Options.ELECQ.Direct, is answered with the callback at once. A merchant's own credentials select its account: the
// callback at once. The shape of a failure is not documented: 401 or 400, in the envelope, is the sandbox's guess.
func (p *elecq) authorize(c *call) {
	q := c.r.URL.Query()
	if c.r.Header.Get("Authorization") == "" {
		p.signIn(c)
		return
	}
	id, account, ok := p.client(c)
	if !ok || q.Get("clientId") != id {
		c.json(http.StatusUnauthorized, map[string]any{"respCode": "401", "respMsg": "Unauthorized", "data": nil})
		return
	}
	if q.Get("responseType") != "code" || !p.allowed(ELECQ, q.Get("redirectUri")) || c.refused() {
		c.json(http.StatusBadRequest, map[string]any{"respCode": "400", "respMsg": "Bad Request", "data": nil})
		return
	}
	if account == "" && !p.o.Direct {
		c.redirect(http.StatusFound, p.BaseURL()+"/elecq/sign-in?"+q.Encode())
		return
	}
	p.answer(c, http.StatusFound, q, id, cmp.Or(account, p.o.Merchants[0].UserID))
}

// authorizeDirect is the twin for partners without a callback: the code comes in the body. Path and shape are guesses.
func (p *elecq) authorizeDirect(c *call) {
	id, account, ok := p.client(c)
	if !ok || c.r.URL.Query().Get("clientId") != id {
		p.unauthorized(c)
		return
	}
	p.envelope(c, p.o.SuccessCode, "success", map[string]string{
		"authorizationCode": p.code(c, id, cmp.Or(account, p.o.Merchants[0].UserID), ""),
	})
}

func (p *elecq) signIn(c *call) {
	q := c.r.URL.Query()
	if !p.known(c, q) {
		return
	}
	page := consent{
		Title: "ELECQ", Question: "Let this app see your charging account?", Action: "/elecq/sign-in",
		Params: params(q), Legend: "Sign in as",
	}
	for _, m := range p.o.Merchants {
		page.Choices = append(page.Choices, choice{ID: m.UserID, Name: m.Name, Note: "User " + m.UserID})
	}
	if account, ok := c.ask(page, q.Get("redirectUri")); ok {
		p.answer(c, http.StatusFound, q, p.o.ClientID, account)
	}
}

func (p *elecq) known(c *call, q url.Values) bool {
	switch {
	case q.Get("clientId") != p.o.ClientID || c.clientRefused():
		c.errorPage("ELECQ", "The clientId is not known.")
	case q.Get("responseType") != "code":
		c.errorPage("ELECQ", "responseType must be code.")
	case !p.allowed(ELECQ, q.Get("redirectUri")):
		c.errorPage("ELECQ", "The redirectUri is not the one that was registered.")
	default:
		return true
	}
	return false
}

func (p *elecq) consent(c *call) {
	if c.r.ParseForm() != nil || !p.known(c, c.r.PostForm) {
		return
	}
	q, account := c.r.PostForm, c.r.PostForm.Get("account")
	if q.Get("decision") != "allow" {
		// A denial is not documented: this is RFC 6749's wording.
		c.redirect(http.StatusSeeOther, withQuery(q.Get("redirectUri"), "error", "access_denied", "state", p.echo(q)))
		return
	}
	for _, m := range p.o.Merchants {
		if m.UserID == account {
			p.answer(c, http.StatusSeeOther, q, p.o.ClientID, account)
			return
		}
	}
	c.errorPage("ELECQ", "There is no such account.")
}

func (p *elecq) echo(q url.Values) string {
	if !p.o.EchoState {
		return ""
	}
	return q.Get("state")
}

func (p *elecq) answer(c *call, status int, q url.Values, client, account string) {
	value := p.code(c, client, account, q.Get("redirectUri"))
	c.redirect(status, withQuery(q.Get("redirectUri"), p.o.CodeParam, value, "state", p.echo(q)))
}

func (p *elecq) code(c *call, client, account, callback string) string {
	value := token(16)
	p.newCode(value, code{
		provider: ELECQ, client: client, account: account, callback: callback, expires: c.now.Add(p.o.CodeLifetime),
	})
	return value
}

// token exchanges a code, once. The body has exactly one field; neither grant_type nor redirectUri nor clientId.
func (p *elecq) token(c *call) {
	client, _, ok := p.client(c)
	if !ok {
		p.unauthorized(c)
		return
	}
	var body map[string]any
	value := ""
	if c.readJSON(&body) && len(body) == 1 {
		value, _ = body["authorizationCode"].(string)
	}
	if value == "" {
		p.envelope(c, "400", "authorizationCode is required", nil)
		return
	}
	p.mu.Lock()
	one := p.codes[value]
	good := one != nil && one.provider == ELECQ && one.client == client && one.grant == "" && c.now.Before(one.expires) && !c.refused()
	var data map[string]any
	if good {
		g := p.newGrant(c.now, ELECQ, client, one.account, "")
		if p.o.FixedDeadline {
			g.Deadline = c.now.Add(p.o.RefreshLifetime)
		}
		one.grant = g.ID
		data = p.issue(c, g, "")
	}
	p.mu.Unlock()
	if !good {
		p.unauthorized(c)
		return
	}
	p.envelope(c, p.o.SuccessCode, "success", data)
}

// refresh renews access: POST {"refreshToken"}, answered like an exchange. Both are deduced, not documented.
func (p *elecq) refresh(c *call) {
	client, _, ok := p.client(c)
	if !ok {
		p.unauthorized(c)
		return
	}
	var body struct {
		RefreshToken string `json:"refreshToken"`
	}
	if !c.readJSON(&body) || body.RefreshToken == "" {
		p.envelope(c, "400", "refreshToken is required", nil)
		return
	}
	p.mu.Lock()
	g, _, err := p.present(c, ELECQ, client, body.RefreshToken, !p.o.KeepRefreshToken && !c.refused())
	var data map[string]any
	if err == nil && !c.refused() {
		keep := ""
		if p.o.KeepRefreshToken {
			keep = body.RefreshToken
		}
		data = p.issue(c, g, keep)
	}
	p.mu.Unlock()
	if data == nil {
		p.unauthorized(c)
		return
	}
	p.envelope(c, p.o.SuccessCode, "success", data)
}

// issue makes the data of a token answer. The refresh token is new unless one is kept. The caller holds the lock.
func (p *elecq) issue(c *call, g *grant, keep string) map[string]any {
	access := p.jwt(c.now, "token", g.Account, c.now.Add(p.o.AccessLifetime))
	until := c.now.Add(p.o.RefreshLifetime)
	if !g.Deadline.IsZero() {
		until = g.Deadline
	}
	refresh := keep
	if keep == "" {
		refresh = p.jwt(c.now, "refreshToken", g.Account, until)
		p.newRefresh(c.now, g, refresh, "", p.o.RefreshLifetime)
	}
	p.remember(access)
	data := map[string]any{
		"accessToken": access, "refreshToken": refresh, "tokenType": "Bearer",
		"accessTokenExpiresIn":  c.lifetime(seconds(p.o.AccessLifetime)),
		"refreshTokenExpiresIn": c.lifetime(seconds(until.Sub(c.now))),
	}
	if keep != "" && p.o.OmitRefreshToken {
		delete(data, "refreshToken")
		delete(data, "refreshTokenExpiresIn")
	}
	return data
}

func (p *elecq) jwt(now time.Time, audience, account string, until time.Time) string {
	if p.o.AnonymousTokens {
		return token(24)
	}
	header := struct {
		Typ    string `json:"typ"`
		Random string `json:"random"`
		Alg    string `json:"alg"`
	}{"JWT", strconv.Itoa(10_000_000 + rand.IntN(90_000_000)), "HS256"}
	return p.signHS(header, map[string]any{
		"iss": "elecq", "aud": audience, "USER_ID": account, "iat": now.Unix(), "nbf": now.Unix(), "exp": until.Unix(),
		"jti": json.Number(strconv.FormatInt(rand.Int64N(1<<53), 10)),
	})
}
