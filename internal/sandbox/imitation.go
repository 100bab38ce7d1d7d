package sandbox

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// rules say what a well-known provider insists on, as its public documents have it. docs/providers has a page for each, with the
// sources. An address is the provider's own without its scheme: "GET api.xero.com/connections" is served at /at/api.xero.com/connections,
// and what a merchant chooses of a host, {shop}.myshopify.com, as a segment: /at/myshopify.com/{shop}. A template is JSON, or text,
// with names in braces: see fill.
type rules struct {
	name, title string
	places      []place

	// The authorization request (RFC 6749 section 4.1.1).
	authorize string            // address, without the method
	wants     map[string]string // what it must hold; "*" is any value
	noClient  bool              // it carries neither client_id nor redirect_uri: both are registered with wants
	pkce      pkce
	separator string // between scopes; "" if the provider has no scopes
	unticks   bool   // a person may grant fewer scopes than were asked for
	placeFrom string // the wildcard of the address, or the parameter, that names the place in place of the person's choice

	// The callback (section 4.1.2).
	code string            // its name there; "" is code
	adds map[string]string // what it carries besides

	// The token request (sections 4.1.3 and 6).
	token, refresh string // addresses; without refresh it is token
	client         clientAuth
	json           bool              // a form is refused
	tokenWants     map[string]string // what an exchange must hold
	bareRefresh    bool              // a refresh carries the client's id and no secret
	offline        string            // the parameter, with its value, without which there is no refresh token
	once           bool              // a second consent gives one with prompt=consent only

	// The answer (section 5).
	answer, renewed string        // templates; without renewed it is answer
	lives           time.Duration // of an access token; 0 if it does not end
	refreshLives    time.Duration // of a refresh token; 0 if it does not end, negative if there is none
	rotates         bool          // a refresh token is good once
	replaces        bool          // a refresh ends the access tokens of before
	signed          bool          // the access token is a JWT
	no              map[fault]refusal

	// Whose account it is, and how the API is asked.
	document string // OpenID Connect Discovery's, at discovery
	discover string // addresses
	keys     string
	issuer   string // template: iss of ID tokens
	claims   string // template of an ID token's claims
	account  string // address that is asked with the token
	identity string // template of what it answers
	listed   bool   // it answers with a list: one of each place that the person has connected
	api      string // address of any other call
	header   string // what carries the token there, "Authorization: Bearer " if it is ""
	second   string // the header that carries the user of a typed credential, where that is a secret too
	names    string // the header that names the place there

	// Revocation (RFC 7009 or a call of the provider's own).
	revoke      string            // address
	revokeBy    revokeBy          // who asks
	revokeWants map[string]string // template of what it must hold
	endsAccount bool              // every grant of the account ends

	// What a merchant types, at a provider without a browser.
	typed []credential
}

// place is an account that a person can choose. more is what templates may name besides {account}, {name} and {user}.
type place struct {
	id, name, user string
	more           map[string]string
}

// credential is what a merchant types: a key, a user name and a password, or two keys.
type credential struct {
	user, secret string
	place        place
}

type pkce int

const (
	pkceChecked  pkce = iota // a verifier must fit its challenge, and neither need be sent
	pkceRequired             // RFC 9700
	pkceRefused              // a challenge makes the client another kind of client
)

type clientAuth int

const (
	byEither clientAuth = iota
	byBasic
	byBody
)

type revokeBy int

const (
	byClient      revokeBy = iota // the client, as at the token address
	byBasicClient                 // the client, by Basic only
	byToken                       // the access token, as Bearer
	bySecret                      // "Authorization: Client SECRET"
)

// fault is why a provider says no.
type fault int

const (
	wrongClient  fault = iota // unknown, or with a wrong secret
	wrongCode                 // unknown, spent, late, or with another callback or verifier
	wrongRefresh              // a refresh token that is unknown, spent, late or revoked
	wrongToken                // an access token, or key, that is unknown, late or revoked
	wrongRequest              // any other
)

// refusal is how a provider says no: a status and a template.
type refusal struct {
	status int
	body   string
}

// usualRefusals are those of RFC 6749 section 5.2 and RFC 6750 section 3.1.
var usualRefusals = map[fault]refusal{
	wrongClient:  {http.StatusUnauthorized, `{"error":"invalid_client"}`},
	wrongCode:    {http.StatusBadRequest, `{"error":"invalid_grant"}`},
	wrongRefresh: {http.StatusBadRequest, `{"error":"invalid_grant"}`},
	wrongToken:   {http.StatusUnauthorized, `{"error":"invalid_token"}`},
	wrongRequest: {http.StatusBadRequest, `{"error":"invalid_request","error_description":"{why}"}`},
}

// forever is how long a token lives that does not end.
const forever = 100 * 365 * 24 * time.Hour

// imitation is a well-known provider at work.
type imitation struct {
	*Sandbox
	r rules
}

func serveImitations(s *Sandbox) {
	for _, r := range wellKnown() {
		p := imitation{s, r}
		s.allow(r.name, s.appCallbacks(r.name)...)
		p.route("GET "+r.discover, "discovery", false, p.discovery)
		p.route("GET "+r.keys, "jwks", false, p.jwks)
		p.route("GET "+r.authorize, "authorize", true, p.ask)
		p.route("POST "+r.authorize, "consent", true, p.consent)
		p.route("POST "+r.token, "token", false, p.exchangeOrRefresh)
		p.route("POST "+r.refresh, "refresh", false, p.refreshAlone)
		p.route(r.revoke, "revoke", false, p.revoked)
		p.route(r.account, "account", false, p.identify)
		p.route(r.api, "api", false, p.call)
	}
}

// route serves one of a provider's addresses, if it has it.
func (p imitation) route(address, name string, page bool, h func(*call)) {
	if method, at, _ := strings.Cut(address, " "); at != "" {
		p.serve(method+" /at/"+at, p.r.name, name, page, h)
	}
}

// clientID and clientSecret are what Local writes into an entry and Settings into the environment.
func (r rules) clientID() string { return r.name + "-sandbox-client" }

func (r rules) clientSecret() string { return r.name + "-sandbox-secret" }

func (r rules) secretSetting() string {
	return strings.ToUpper(strings.ReplaceAll(r.name, "-", "_")) + "_SECRET"
}

// refuse answers with the provider's own no.
func (p imitation) refuse(c *call, why fault, words string) {
	no, ok := p.r.no[why]
	if !ok {
		no = usualRefusals[why]
	}
	c.json(no.status, p.fill(no.body, map[string]any{"why": words}))
}

// fill puts values into a template: a text that is one name in braces becomes the value, of whatever type, or is left out if there is
// none; a name within a text is replaced. {at} is where imitations are.
func (p imitation) fill(template string, values map[string]any) any {
	var v any
	if json.Unmarshal([]byte(template), &v) != nil {
		return nil // not reached: a test holds every template to JSON
	}
	values = maps.Clone(values)
	values["at"] = p.o.BaseURL + "/at"
	filled, _ := fill(v, values)
	return filled
}

func fill(template any, values map[string]any) (any, bool) {
	switch v := template.(type) {
	case string:
		if name, ok := strings.CutPrefix(v, "{"); ok && strings.IndexByte(v, '}') == len(v)-1 {
			value, known := values[strings.TrimSuffix(name, "}")]
			return value, known && value != ""
		}
		for name, value := range values {
			if s, ok := value.(string); ok {
				v = strings.ReplaceAll(v, "{"+name+"}", s)
			}
		}
		return v, true
	case map[string]any:
		for name, one := range v {
			if filled, ok := fill(one, values); ok {
				v[name] = filled
			} else {
				delete(v, name)
			}
		}
	case []any:
		for i := range v {
			v[i], _ = fill(v[i], values)
		}
	}
	return template, true
}

// text is a filled template that is text.
func (p imitation) text(template string, values map[string]any) string {
	values = maps.Clone(values)
	values["at"] = p.o.BaseURL + "/at"
	filled, _ := fill(template, values)
	s, _ := filled.(string)
	return s
}

// of returns what templates may name of an account.
func (p imitation) of(account string) map[string]any {
	one := p.place(account)
	values := map[string]any{"account": one.id, "name": one.name, "user": one.user}
	for name, value := range one.more {
		values[name] = value
	}
	return values
}

// place returns an account by its id. Where the address names the place, any name is one.
func (p imitation) place(id string) place {
	for _, one := range p.r.places {
		if one.id == id {
			return one
		}
	}
	for _, one := range p.r.typed {
		if one.place.id == id {
			return one.place
		}
	}
	return place{id: id, name: id, user: "owner-of-" + id}
}

func (p imitation) knows(account string) bool {
	return p.r.placeFrom != "" || slices.ContainsFunc(p.r.places, func(one place) bool { return one.id == account })
}

func (p imitation) discovery(c *call) {
	c.json(http.StatusOK, p.fill(p.r.document, map[string]any{}))
}

func (p imitation) jwks(c *call) {
	key, err := p.Sandbox.keys.get("well-known", 2048)
	if err != nil {
		c.fail(http.StatusInternalServerError, "server_error", "no key")
		return
	}
	c.json(http.StatusOK, map[string]any{"keys": []any{jwk(&key.PublicKey)}})
}

// ask shows the consent page with the accounts to choose.
func (p imitation) ask(c *call) {
	q := c.r.URL.Query()
	if !p.acceptable(c, q) {
		return
	}
	page := consent{
		Title: p.r.title, Question: "Let this app use your account?", Action: c.r.URL.Path, Params: params(q),
		Legend: "Which account?", Asked: p.scopes(q), Unticks: p.r.unticks,
	}
	for _, one := range p.r.places {
		page.Choices = append(page.Choices, choice{ID: one.id, Name: one.name, Note: one.id})
	}
	if p.r.placeFrom != "" {
		id := p.named(c)
		page.Choices = []choice{{ID: id, Name: p.place(id).name, Note: id}}
	}
	if account, ok := c.ask(page, q.Get("redirect_uri")); ok {
		p.answered(c, http.StatusFound, q, account, p.scopes(q))
	}
}

// named returns the place that a request names, "" if it names none.
func (p imitation) named(c *call) string {
	if in := c.r.PathValue(p.r.placeFrom); in != "" {
		return in
	}
	return c.r.FormValue(p.r.placeFrom)
}

// scopes are those of a request, or none where the provider has none.
func (p imitation) scopes(q url.Values) []string {
	if p.r.separator == "" || q.Get("scope") == "" {
		return nil
	}
	return strings.Split(q.Get("scope"), p.r.separator)
}

// callback is where the answer goes: what the request says, or the one registered if the provider does not ask for it.
func (p imitation) callback(q url.Values) string {
	if p.r.noClient && q.Get("redirect_uri") == "" {
		p.mu.Lock()
		defer p.mu.Unlock()
		if all := p.state.Callbacks[p.r.name]; len(all) > 0 {
			return all[0]
		}
	}
	return q.Get("redirect_uri")
}

func (p imitation) acceptable(c *call, q url.Values) bool {
	if !p.r.noClient && q.Get("client_id") != p.r.clientID() || c.clientRefused() {
		c.errorPage(p.r.title, "The client_id is not known.")
		return false
	}
	if !p.allowed(p.r.name, p.callback(q)) {
		c.errorPage(p.r.title, "The redirect_uri is not one that was registered.")
		return false
	}
	for name, want := range p.r.wants {
		if got := q.Get(name); got == "" || want != "*" && got != want {
			c.errorPage(p.r.title, name+" is missing or wrong.")
			return false
		}
	}
	switch {
	case !p.r.noClient && q.Get("response_type") != "code":
		p.back(c, q, "error", "unsupported_response_type")
	case q.Get("state") == "":
		c.errorPage(p.r.title, "state is missing.")
	case p.r.pkce == pkceRefused && q.Has("code_challenge"):
		p.back(c, q, "error", "invalid_request", "error_description", "PKCE is for public clients")
	case p.r.pkce == pkceRequired && q.Get("code_challenge_method") != "S256":
		p.back(c, q, "error", "invalid_request", "error_description", "PKCE with S256 is required")
	case p.r.separator == "" && q.Has("scope"):
		p.back(c, q, "error", "invalid_scope", "error_description", "there are no scopes")
	case p.r.separator == "," && strings.Contains(q.Get("scope"), " "), p.r.separator == " " && strings.Contains(q.Get("scope"), ","):
		p.back(c, q, "error", "invalid_scope", "error_description", "scopes are separated by "+p.r.separator)
	default:
		return true
	}
	return false
}

func (p imitation) back(c *call, q url.Values, pairs ...string) {
	status := http.StatusFound
	if c.r.Method == http.MethodPost {
		status = http.StatusSeeOther
	}
	c.redirect(status, withQuery(p.callback(q), append(pairs, "state", q.Get("state"))...))
}

func (p imitation) consent(c *call) {
	if c.r.ParseForm() != nil || !p.acceptable(c, c.r.PostForm) {
		return
	}
	q := c.r.PostForm
	granted := p.scopes(q)
	if p.r.unticks && q.Has("ticked") {
		granted = slices.DeleteFunc(granted, func(one string) bool { return !slices.Contains(q["ticked"], one) })
	}
	switch {
	case q.Get("decision") != "allow":
		p.back(c, q, "error", "access_denied")
	case !p.knows(q.Get("account")), p.r.placeFrom != "" && q.Get("account") != p.named(c):
		c.errorPage(p.r.title, "There is no such account.")
	default:
		p.answered(c, http.StatusSeeOther, q, q.Get("account"), granted)
	}
}

// answered sends the browser back with a code.
func (p imitation) answered(c *call, status int, q url.Values, account string, scopes []string) {
	name, want, _ := strings.Cut(p.r.offline, "=")
	offline := p.r.offline == "" || q.Get(name) == want || name == "scope" && slices.Contains(scopes, want)
	if p.r.once && q.Get("prompt") != "consent" && slices.ContainsFunc(p.Grants(p.r.name), func(g GrantInfo) bool { return g.Account == account && !g.Revoked }) {
		offline = false
	}
	value := token(16)
	p.newCode(value, code{
		provider: p.r.name, client: p.r.clientID(), callback: q.Get("redirect_uri"), account: account, scopes: scopes, nonce: q.Get("nonce"),
		challenge: q.Get("code_challenge"), offline: offline, expires: c.now.Add(time.Minute),
	})
	pairs := []string{p.r.codeName(), value}
	values := p.of(account)
	values["scope"] = strings.Join(scopes, p.r.separator)
	for name, template := range p.r.adds {
		pairs = append(pairs, name, p.text(template, values))
	}
	p.back(c, q, pairs...)
}

func (r rules) codeName() string {
	if r.code == "" {
		return "code"
	}
	return r.code
}

// body reads a form or a JSON object, as the provider takes them.
func (p imitation) body(c *call) (url.Values, bool) {
	switch kind := c.mediaType(); {
	case kind == "application/json":
		var members map[string]any
		if json.NewDecoder(c.r.Body).Decode(&members) != nil {
			return nil, false
		}
		f := url.Values{}
		for name, value := range members {
			if s, ok := value.(string); ok {
				f.Set(name, s)
			}
		}
		return f, true
	case p.r.json:
		return nil, false
	case kind == "application/x-www-form-urlencoded" || kind == "" && c.r.Method == http.MethodDelete:
		return c.r.PostForm, c.r.ParseForm() == nil
	}
	return nil, false
}

// authenticated says whether our client asks, and not in two ways at once (RFC 6749 section 2.3).
func (p imitation) authenticated(c *call, f url.Values) bool {
	if c.clientRefused() {
		return false
	}
	user, password, basic := c.r.BasicAuth()
	id, secret := user, password
	if !basic {
		id, secret = f.Get("client_id"), f.Get("client_secret")
	}
	switch {
	case basic && (p.r.client == byBody || f.Has("client_secret")), !basic && p.r.client == byBasic:
		return false
	}
	return id == p.r.clientID() && same(secret, p.r.clientSecret())
}

func (p imitation) exchangeOrRefresh(c *call) {
	f, ok := p.body(c)
	switch {
	case !ok:
		p.refuse(c, wrongRequest, "the body has the wrong form")
	case !p.authenticated(c, f):
		p.refuse(c, wrongClient, "")
	case f.Get("grant_type") == "authorization_code":
		p.exchange(c, f)
	case f.Get("grant_type") == "refresh_token" && p.r.refresh == "" && p.r.refreshLives >= 0:
		p.renew(c, f)
	default:
		p.refuse(c, wrongRequest, "grant_type is missing or unknown")
	}
}

func (p imitation) refreshAlone(c *call) {
	f, ok := p.body(c)
	switch {
	case !ok:
		p.refuse(c, wrongRequest, "the body has the wrong form")
	case p.r.bareRefresh && f.Get("client_id") != p.r.clientID(), !p.r.bareRefresh && !p.authenticated(c, f):
		p.refuse(c, wrongClient, "")
	default:
		p.renew(c, f)
	}
}

// exchange spends a code once (RFC 6749 section 4.1.3).
func (p imitation) exchange(c *call, f url.Values) {
	sum := sha256.Sum256([]byte(f.Get("code_verifier")))
	p.mu.Lock()
	one := p.codes[f.Get("code")]
	good := one != nil && one.grant == "" && one.provider == p.r.name && c.now.Before(one.expires) && !c.refused() &&
		(one.callback == f.Get("redirect_uri") || one.callback == "" || !f.Has("redirect_uri") && p.r.placeFrom != "") &&
		(one.challenge == "" || one.challenge == base64.RawURLEncoding.EncodeToString(sum[:]))
	p.mu.Unlock()
	if !good {
		p.refuse(c, wrongCode, "")
		return
	}
	values := p.of(one.account)
	for name, want := range p.r.tokenWants {
		if want = p.text(want, values); f.Get(name) == "" || want != "*" && f.Get(name) != want {
			p.refuse(c, wrongRequest, name+" is missing or wrong")
			return
		}
	}
	p.mu.Lock()
	g := p.newGrant(c.now, p.r.name, p.r.clientID(), one.account, strings.Join(one.scopes, " "))
	one.grant = g.ID
	answer := p.issue(c, g, p.r.answer, one.offline && p.r.refreshLives >= 0, one.nonce)
	p.mu.Unlock()
	c.json(http.StatusOK, answer)
}

func (p imitation) renew(c *call, f url.Values) {
	template := p.r.renewed
	if template == "" {
		template = p.r.answer
	}
	p.mu.Lock()
	g, _, err := p.present(c, p.r.name, p.r.clientID(), f.Get("refresh_token"), p.r.rotates && !c.refused())
	var answer any
	if err == nil && !c.refused() {
		if p.r.replaces {
			maps.DeleteFunc(p.state.Access, func(_ string, t *accessToken) bool { return t.Grant == g.ID })
		}
		answer = p.issue(c, g, template, p.r.rotates, "")
	}
	p.mu.Unlock()
	if answer == nil {
		p.refuse(c, wrongRefresh, "")
		return
	}
	c.json(http.StatusOK, answer)
}

// issue makes a token answer, with a refresh token if refresh. The caller holds the lock.
func (p imitation) issue(c *call, g *grant, template string, refresh bool, nonce string) any {
	lives := p.r.lives
	if lives == 0 {
		lives = forever
	}
	values := p.of(g.Account)
	values["grant"], values["client"], values["scope"] = g.ID, p.r.clientID(), strings.ReplaceAll(g.Scope, " ", p.r.separator)
	values["now"], values["ends"] = c.now.Unix(), c.now.Add(lives).Unix()
	values["ends_at"] = c.now.Add(lives).UTC().Format(time.RFC3339)
	if p.r.lives > 0 {
		values["lives"] = c.lifetime(seconds(p.r.lives))
	}
	access := token(20)
	if p.r.signed {
		access = p.sign(p.fill(`{"jti":"`+access+`","sub":"{user}","authentication_event_id":"{grant}","exp":"{ends}"}`, values))
	}
	p.state.Access[access] = &accessToken{Grant: g.ID, Scope: g.Scope, Expires: c.now.Add(lives)}
	p.remember(access)
	p.tidy(c.now)
	values["access"] = access
	if refresh {
		value := token(24)
		p.newRefresh(c.now, g, value, g.Scope, p.r.refreshLives)
		values["refresh"], values["refresh_lives"] = value, seconds(p.r.refreshLives)
		values["refresh_ends"] = c.now.Add(p.r.refreshLives).Unix()
	}
	if p.r.claims != "" && slices.Contains(strings.Fields(g.Scope), "openid") {
		values["nonce"], values["iss"] = nonce, p.text(p.r.issuer, values)
		values["id_token"] = p.sign(p.fill(p.r.claims, values))
	}
	return p.fill(template, values)
}

// sign makes an RS256 JWT, "" if there is no key. The caller holds the lock.
func (p imitation) sign(claims any) string {
	key, err := p.Sandbox.keys.get("well-known", 2048)
	if err != nil {
		return ""
	}
	jwt, _ := signRS(key, map[string]string{"alg": "RS256", "typ": "JWT", "kid": keyID(&key.PublicKey)}, claims)
	p.remember(jwt)
	return jwt
}

// holder returns the grant whose access token a request carries as the API wants it, or as Bearer. A typed credential has a grant of its own.
func (p imitation) holder(c *call) *grant {
	p.mu.Lock()
	defer p.mu.Unlock()
	header, scheme, _ := strings.Cut(p.r.header, ": ")
	var g *grant
	value, ok := strings.CutPrefix(c.r.Header.Get(header), scheme)
	if header == "" || !ok {
		value = c.bearer()
	}
	if t := p.state.Access[value]; value != "" && t != nil && c.now.Before(t.Expires) {
		g = p.state.Grants[t.Grant]
	}
	user, password, basic := c.r.BasicAuth()
	for _, one := range p.r.typed {
		if p.r.second != "" {
			user, password, basic = c.r.Header.Get(p.r.second), value, true
		}
		if basic && same(one.user, user) && same(one.secret, password) || !basic && one.user == "" && same(one.secret, value) {
			g = p.credentialGrant(c.now, p.r.name, one.place.id)
		}
	}
	if g == nil || g.Revoked || g.Provider != p.r.name || c.refused() || c.clientRefused() {
		return nil
	}
	return g
}

// identify says whose account a token is for.
func (p imitation) identify(c *call) {
	g := p.holder(c)
	if g == nil {
		p.refuse(c, wrongToken, "")
		return
	}
	if !p.r.listed {
		c.json(http.StatusOK, p.fill(p.r.identity, p.of(g.Account)))
		return
	}
	list := []any{}
	for _, one := range p.Grants(p.r.name) { // of the same person, the newest last
		if event := c.r.URL.Query().Get("authEventId"); !one.Revoked && p.place(one.Account).user == p.place(g.Account).user && (event == "" || event == one.ID) {
			values := p.of(one.Account)
			values["grant"] = one.ID
			list = append(list, p.fill(p.r.identity, values))
		}
	}
	c.json(http.StatusOK, list)
}

// call is any other call of the API: it needs a token of the place that the address or a header names.
func (p imitation) call(c *call) {
	g := p.holder(c)
	if g == nil {
		p.refuse(c, wrongToken, "")
		return
	}
	values := p.of(g.Account)
	values["store"] = g.Account[strings.LastIndexByte(g.Account, '/')+1:]
	wrong := p.r.names != "" && c.r.Header.Get(p.r.names) != g.Account
	for name, value := range values {
		wrong = wrong || c.r.PathValue(name) != "" && c.r.PathValue(name) != value
	}
	if wrong {
		c.json(http.StatusForbidden, map[string]string{"error": "this token is for another account"})
		return
	}
	c.json(http.StatusOK, map[string]string{"account": g.Account})
}

// revoked ends a grant, or all of its account.
func (p imitation) revoked(c *call) {
	f, ok := p.body(c)
	if !ok {
		p.refuse(c, wrongRequest, "the body has the wrong form")
		return
	}
	var g *grant
	switch p.r.revokeBy {
	case byToken:
		if g = p.holder(c); g == nil {
			p.refuse(c, wrongToken, "")
			return
		}
	case bySecret:
		if !same(c.r.Header.Get("Authorization"), "Client "+p.r.clientSecret()) {
			p.refuse(c, wrongClient, "")
			return
		}
	default:
		if _, _, basic := c.r.BasicAuth(); !p.authenticated(c, f) || p.r.revokeBy == byBasicClient && !basic {
			p.refuse(c, wrongClient, "")
			return
		}
	}
	if id := c.r.PathValue("connection"); id != "" && (g == nil || id != g.ID) {
		p.refuse(c, wrongRequest, "there is no such connection")
		return
	}
	p.mu.Lock()
	found := map[string]bool{}
	for name, want := range p.r.revokeWants {
		switch value := f.Get(name); {
		case want == "{client}" && value != p.r.clientID(), value == "":
			g, found[name] = nil, false
		case want == "{account}":
			g, found[name] = p.ofAccount(value), true
		case want == "{token}":
			g, found[name] = p.ofToken(value), true
		}
	}
	missing := slices.Contains(slices.Collect(maps.Values(found)), false)
	p.mu.Unlock()
	switch {
	case missing:
		p.refuse(c, wrongRequest, "something is missing")
		return
	case g == nil: // RFC 7009 section 2.2: an unknown token is no fault
	case p.r.endsAccount:
		p.endGrants(p.r.name, g.Account, "")
	default:
		p.mu.Lock()
		g.Revoked = true
		p.changed()
		p.mu.Unlock()
	}
	c.json(http.StatusOK, map[string]bool{"ok": true})
}

// ofAccount returns a live grant of an account, or nil. The caller holds the lock.
func (p imitation) ofAccount(account string) *grant {
	for _, g := range p.state.Grants {
		if g.Provider == p.r.name && g.Account == account && !g.Revoked {
			return g
		}
	}
	return nil
}

// ofToken returns the grant of a refresh or access token, or nil. The caller holds the lock.
func (p imitation) ofToken(value string) *grant {
	id := ""
	if t := p.state.Refresh[value]; t != nil {
		id = t.Grant
	} else if t := p.state.Access[value]; t != nil {
		id = t.Grant
	}
	if g := p.state.Grants[id]; g != nil && g.Provider == p.r.name {
		return g
	}
	return nil
}
