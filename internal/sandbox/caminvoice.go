package sandbox

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// camInvoice imitates CamInvoice at /caminvoice: a connect page, an exchange, refresh, revoke, whitelist and webhooks.
type camInvoice struct {
	*Sandbox
	o      CamInvoiceOptions
	client http.Client // delivers webhooks
}

func serveCamInvoice(s *Sandbox) *camInvoice {
	p := &camInvoice{Sandbox: s, o: s.o.CamInvoice, client: http.Client{
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	s.allow(CamInvoice, p.o.Callbacks...)
	refreshPath := "/caminvoice/api/v1/auth/token"
	if p.o.RefreshAtSeedPath {
		refreshPath = "/caminvoice/api/v1/token"
	}
	s.serve("POST /caminvoice/api/v1/configure/configure-redirect-url", CamInvoice, "configure-redirect-url", false, p.configureRedirects)
	s.serve("GET /caminvoice/connect", CamInvoice, "connect", true, p.connect)
	s.serve("POST /caminvoice/connect", CamInvoice, "consent", true, p.consent)
	s.serve("POST /caminvoice/api/v1/auth/authorize/connect", CamInvoice, "exchange", false, p.exchange)
	s.serve("POST "+refreshPath, CamInvoice, "refresh", false, p.refresh)
	s.serve("POST /caminvoice/api/v1/auth/revoke", CamInvoice, "revoke", false, p.revoke)
	s.serve("POST /caminvoice/api/v1/configure/configure-webhook", CamInvoice, "configure-webhook", false, p.configureWebhook)
	s.serve("DELETE /caminvoice/api/v1/configure/configure-webhook/{endpoint_id}", CamInvoice, "remove-webhook", false, p.removeWebhook)
	s.serve("GET /caminvoice/api/v1/business/{endpoint_id}", CamInvoice, "business", false, p.business)
	s.serve("GET /caminvoice/businesses", CamInvoice, "businesses", true, p.businesses)
	s.serve("POST /caminvoice/businesses", CamInvoice, "businesses-revoke", true, p.businessesRevoke)
	return p
}

// unauthorized answers 401. about is "client" or "grant".
func (p *camInvoice) unauthorized(c *call, about string) {
	code, words := "invalid_client", "Invalid client credentials"
	if about == "grant" {
		code, words = "invalid_grant", "Invalid refresh token"
	}
	switch p.o.Errors {
	case ErrorsMessage:
		c.json(http.StatusUnauthorized, map[string]string{"message": words})
	case ErrorsBare:
		c.json(http.StatusUnauthorized, map[string]string{"message": "Unauthorized"})
	default:
		c.json(http.StatusUnauthorized, map[string]string{"error": code, "error_description": words})
	}
}

// authorized checks the service provider's Basic credentials and reads the JSON body.
func (p *camInvoice) authorized(c *call, body any) bool {
	if !c.basic(p.o.ClientID, p.o.ClientSecret) {
		p.unauthorized(c, "client")
		return false
	}
	if body != nil && !c.readJSON(body) {
		p.invalid(c, "The body must be a JSON object")
		return false
	}
	return true
}

// invalid answers a malformed request: 422 is on CamInvoice's list of statuses, its body is the sandbox's guess.
func (p *camInvoice) invalid(c *call, words string) {
	c.json(http.StatusUnprocessableEntity, map[string]string{"message": words})
}

// configureRedirects replaces the whitelist. Replacing rather than adding is the sandbox's guess, the harsher one.
func (p *camInvoice) configureRedirects(c *call) {
	var body struct {
		List []string `json:"white_list_redirect_urls"`
	}
	if !p.authorized(c, &body) {
		return
	}
	if len(body.List) == 0 {
		p.invalid(c, "white_list_redirect_urls is required")
		return
	}
	p.mu.Lock()
	p.state.Callbacks[CamInvoice] = body.List
	p.changed()
	p.mu.Unlock()
	c.json(http.StatusOK, map[string]string{"message": "successful"})
}

// connect is step 1: the business signs in and says whether the service provider may act for it.
func (p *camInvoice) connect(c *call) {
	q := c.r.URL.Query()
	if !p.known(c, q.Get("client_id"), q.Get("redirect_url")) {
		return
	}
	page := consent{
		Title: "CamInvoice", Question: "Let this app act for your business?", Action: "/caminvoice/connect",
		Params: params(q), Legend: "Sign in as",
	}
	for _, b := range p.o.Businesses {
		page.Choices = append(page.Choices, choice{b.EndpointID, b.CompanyNameEN, b.CompanyNameKH, "km", b.EndpointID + ", TIN " + b.TIN})
	}
	if account, ok := c.ask(page, q.Get("redirect_url")); ok {
		p.answer(c, http.StatusFound, q.Get("redirect_url"), q.Get("state"), account)
	}
}

// known says whether the parameters of a connect link match exactly what was registered.
func (p *camInvoice) known(c *call, clientID, callback string) bool {
	switch {
	case clientID != p.o.ClientID || c.clientRefused():
		c.errorPage("CamInvoice", "The client_id is not known.")
	case !p.allowed(CamInvoice, callback):
		c.errorPage("CamInvoice", "The redirect_url is not on the whitelist. It is set with POST /api/v1/configure/configure-redirect-url.")
	default:
		return true
	}
	return false
}

func (p *camInvoice) consent(c *call) {
	callback, state := c.r.PostFormValue("redirect_url"), c.r.PostFormValue("state")
	if !p.known(c, c.r.PostFormValue("client_id"), callback) {
		return
	}
	if c.r.PostFormValue("decision") != "allow" {
		// What CamInvoice sends back on a denial is not documented: this is RFC 6749's wording.
		c.redirect(http.StatusSeeOther, p.back(callback, state, "error", "access_denied"))
		return
	}
	account := c.r.PostFormValue("account")
	if p.find(account) == nil {
		c.errorPage("CamInvoice", "There is no such business.")
		return
	}
	p.answer(c, http.StatusSeeOther, callback, state, account)
}

func (p *camInvoice) answer(c *call, status int, callback, state, account string) {
	authToken := p.signHS(plainHeader(), map[string]any{
		"endpoint_id": account, "service_provider_id": p.o.ClientID, "iat": c.now.Unix(),
		"exp": c.now.Add(p.o.AuthTokenLifetime).Unix(), "nonce": token(8),
	})
	p.newCode(authToken, code{
		provider: CamInvoice, client: p.o.ClientID, account: account, expires: c.now.Add(p.o.AuthTokenLifetime),
	})
	c.redirect(status, p.back(callback, state, "authToken", authToken))
}

// back returns the callback with one parameter, and with state if the options say so.
func (p *camInvoice) back(callback, state, name, value string) string {
	if !p.o.EchoState {
		state = ""
	}
	if p.o.SecondQuestionMark {
		if state != "" {
			state = "&state=" + state
		}
		return callback + "?" + name + "=" + value + state
	}
	return withQuery(callback, name, value, "state", state)
}

// exchange is step 3. An authToken works once: that is the sandbox's reading of "temporary token".
func (p *camInvoice) exchange(c *call) {
	var body struct {
		AuthToken string `json:"auth_token"`
	}
	if !p.authorized(c, &body) {
		return
	}
	if body.AuthToken == "" {
		p.invalid(c, "auth_token is required")
		return
	}
	p.mu.Lock()
	one := p.codes[body.AuthToken]
	good := one != nil && one.provider == CamInvoice && one.grant == "" && c.now.Before(one.expires) && !c.refused()
	var g *grant
	var refresh string
	if good {
		g = p.newGrant(c.now, CamInvoice, p.o.ClientID, one.account, "")
		one.grant = g.ID
		refresh = token(32)
		p.newRefresh(c.now, g, refresh, "", p.o.RefreshLifetime)
	}
	p.mu.Unlock()
	if !good {
		p.unauthorized(c, "grant")
		return
	}
	answer := map[string]any{"access_token": p.access(c.now, g), "refresh_token": refresh}
	p.describe(c, answer, p.find(g.Account))
	c.json(http.StatusOK, answer)
}

// describe adds business_info and expiry in the wording of the options.
func (p *camInvoice) describe(c *call, answer map[string]any, b *Business) {
	raw, _ := json.Marshal(b)
	info := map[string]any{}
	json.Unmarshal(raw, &info)
	into := answer
	for _, wording := range strings.Split(string(p.o.Exchange), ",") {
		switch ExchangeWording(wording) {
		case ExchangeDays:
			answer["expires_in"] = c.lifetime(short(p.o.AccessLifetime))
		case ExchangeNumber:
			answer["expires_in"] = c.lifetime(seconds(p.o.AccessLifetime))
		case ExchangeUserProfile, ExchangeData:
			into = map[string]any{}
			answer[wording] = into
		case ExchangeNoEndpoint:
			delete(info, "endpoint_id")
		case ExchangeNoDate:
			delete(info, "date_of_incorporation")
		case ExchangeExtra:
			info["vat_registered"], info["branches"] = true, []string{"Head office", "Siem Reap"}
			info["api_token"] = "not-for-anybody-" + token(8)
			p.mu.Lock()
			p.remember(info["api_token"].(string))
			p.mu.Unlock()
		case ExchangeNoInfo:
			info = nil
		case ExchangeAnonymous:
			info, answer["access_token"] = nil, token(32)
		}
	}
	if info != nil {
		into["business_info"] = info
	}
}

// access makes an access token, which carries its own expiry. Its last claims are the sandbox's own, to end it early.
func (p *camInvoice) access(now time.Time, g *grant) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	jwt := p.signHS(plainHeader(), map[string]any{
		"endpoint_id": g.Account, "service_provider_id": p.o.ClientID, "expire_in": short(p.o.AccessLifetime),
		"iat": now.Unix(), "exp": now.Add(p.o.AccessLifetime).Unix(), "nonce": token(6), "sandbox_grant": g.ID, "sandbox_era": g.Era,
	})
	p.remember(jwt)
	return jwt
}

// refresh renews access. There is no grant_type; the refresh token stays the same unless the options say otherwise.
func (p *camInvoice) refresh(c *call) {
	var body struct {
		RefreshToken string `json:"refresh_token"`
	}
	if !p.authorized(c, &body) {
		return
	}
	p.mu.Lock()
	g, _, err := p.present(c, CamInvoice, p.o.ClientID, body.RefreshToken, p.o.Rotate && !c.refused())
	refresh := body.RefreshToken
	if err == nil && p.o.Rotate && !c.refused() {
		refresh = token(32)
		p.newRefresh(c.now, g, refresh, "", p.o.RefreshLifetime)
	}
	p.mu.Unlock()
	if err != nil || c.refused() {
		p.unauthorized(c, "grant")
		return
	}
	access, life := p.access(c.now, g), p.o.AccessLifetime
	if p.o.Refresh == RefreshOpaque {
		access = token(32)
	}
	until := c.now.Add(life).UTC().Format("2006-01-02T15:04:05.000Z")
	answer := map[string]any{"access_token": access}
	switch p.o.Refresh {
	case RefreshActual:
		answer["expireIn"], answer["expire_at"], answer["expired_at"] = c.lifetime(short(life)), c.lifetime(until), c.lifetime(until)
	case RefreshSample:
		answer["expire_at"] = c.lifetime(until)
	case RefreshExpiresAt:
		answer["expires_at"] = c.lifetime(until)
	case RefreshExpiresIn:
		answer["expires_in"] = c.lifetime(seconds(life))
	case RefreshNumeric:
		answer["expires_in"] = c.lifetime(strconv.Itoa(seconds(life)))
	case RefreshDuration:
		answer["expire_in"] = c.lifetime(short(life))
	case RefreshBare, RefreshOpaque:
	default:
		answer = map[string]any{"token": access, "token_type": "Bearer", "expire_in": c.lifetime(seconds(life))}
	}
	if p.o.Rotate || p.o.Refresh == RefreshWithToken {
		answer["refresh_token"] = refresh
	}
	c.json(http.StatusOK, answer)
}

// revoke ends a business's whole connection to this service provider.
func (p *camInvoice) revoke(c *call) {
	var body struct {
		EndpointID string `json:"endpoint_id"`
	}
	if !p.authorized(c, &body) {
		return
	}
	ofSample := strings.HasPrefix(body.EndpointID, "KHUID9") && !slices.ContainsFunc(p.Grants(CamInvoice), func(g GrantInfo) bool { return g.Account == body.EndpointID })
	if p.find(body.EndpointID) == nil || len(p.endGrants(CamInvoice, body.EndpointID, p.o.ClientID)) == 0 && !ofSample {
		c.json(http.StatusForbidden, map[string]string{"message": "This member is not connected to your service"})
		return
	}
	if p.o.OwnRevokeHooks {
		go p.deliver(map[string]any{"type": "ENTITY.REVOKED", "endpoint_id": body.EndpointID})
	}
	c.json(http.StatusOK, map[string]string{"message": "successful"})
}

func (p *camInvoice) configureWebhook(c *call) {
	var body struct {
		EndpointID string `json:"endpoint_id"`
		WebhookURL string `json:"webhook_url"`
	}
	if !p.authorized(c, &body) {
		return
	}
	if !strings.HasPrefix(body.WebhookURL, "http://") && !strings.HasPrefix(body.WebhookURL, "https://") {
		p.invalid(c, "webhook_url is required")
		return
	}
	p.mu.Lock()
	p.state.Hooks[body.EndpointID] = body.WebhookURL
	p.changed()
	p.mu.Unlock()
	c.json(http.StatusOK, map[string]string{"message": "successful"})
}

// removeWebhook ends what was configured for one endpoint. Whether it stops a webhook that is set for all is unknown:
// here it does not.
func (p *camInvoice) removeWebhook(c *call) {
	if !p.authorized(c, nil) {
		return
	}
	p.mu.Lock()
	delete(p.state.Hooks, c.r.PathValue("endpoint_id"))
	p.changed()
	p.mu.Unlock()
	c.json(http.StatusOK, map[string]string{"message": "successful"})
}

// business looks up any member with any good access token.
func (p *camInvoice) business(c *call) {
	var claims struct {
		Exp   int64  `json:"exp"`
		Grant string `json:"sandbox_grant"`
		Era   int    `json:"sandbox_era"`
	}
	if c.refused() || c.clientRefused() || !p.openHS(c.bearer(), &claims) || c.now.Unix() >= claims.Exp || p.dead(claims.Grant, claims.Era) {
		c.json(http.StatusUnauthorized, map[string]string{"message": "Unauthorized"})
		return
	}
	b := p.find(c.r.PathValue("endpoint_id"))
	if b == nil {
		c.json(http.StatusNotFound, map[string]string{"message": "Not found"})
		return
	}
	c.json(http.StatusOK, map[string]string{
		"endpoint_id": b.EndpointID, "company_name_en": b.CompanyNameEN, "company_name_kh": b.CompanyNameKH,
		"entity_type": "PRIVATE_SECTOR", "entity_id": b.MocID, "tin": b.TIN, "country": b.Country,
	})
}

// dead says whether a grant's access tokens were ended before they expired.
func (p *camInvoice) dead(id string, era int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.state.Grants[id]
	return g == nil || era < g.Era || g.Revoked && p.o.RevokeKillsAccess
}

// find returns a business, or one made up for an id that was only given to Issue.
func (p *camInvoice) find(endpointID string) *Business {
	for i := range p.o.Businesses {
		if p.o.Businesses[i].EndpointID == endpointID {
			return &p.o.Businesses[i]
		}
	}
	if digits, ok := strings.CutPrefix(endpointID, "KHUID9"); ok {
		return &Business{
			EndpointID: endpointID, MocID: digits, CompanyNameEN: "Sample Company " + digits, CompanyNameKH: "ក្រុមហ៊ុនគំរូ " + digits,
			TIN: "K009-" + digits, DateOfIncorporation: "2020-01-01", BusinessType: "Private Limited Company", City: "Phnom Penh",
			Country: "KH", PhoneNumber: "+85500000000", Email: "company" + digits + "@sample.example",
		}
	}
	return nil
}

type businessRow struct {
	Business
	Connected bool
}

func (p *camInvoice) businesses(c *call) { p.businessesPage(c, "") }

func (p *camInvoice) businessesPage(c *call, done string) {
	live := map[string]bool{}
	for _, g := range p.Grants(CamInvoice) {
		live[g.Account] = live[g.Account] || !g.Revoked
	}
	var rows []businessRow
	for _, b := range p.o.Businesses {
		rows = append(rows, businessRow{b, live[b.EndpointID]})
	}
	c.page(http.StatusOK, "businesses.html", struct {
		Done       string
		Businesses []businessRow
	}{done, rows})
}

// businessesRevoke is the business itself withdrawing access.
func (p *camInvoice) businessesRevoke(c *call) {
	endpoint := c.r.PostFormValue("endpoint_id")
	if endpoint == "" || p.Revoke(CamInvoice, endpoint) == 0 {
		p.businessesPage(c, "Nobody had access.")
		return
	}
	p.businessesPage(c, "Access to "+endpoint+" has been revoked.")
}

// Delivery is one webhook that was sent.
type Delivery struct {
	At       time.Time `json:"at"`
	Type     string    `json:"type"`
	Endpoint string    `json:"endpoint_id"`
	Status   int       `json:"status"` // 0: no answer
}

// Deliveries returns the webhooks sent so far.
func (s *Sandbox) Deliveries() []Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Delivery{}, s.deliveries...)
}

// Deliver sends a CamInvoice webhook about event["endpoint_id"] to where it is configured and returns the answer's
// status, or 0 without an answer or a webhook. CamInvoice neither signs nor repeats it.
func (s *Sandbox) Deliver(event map[string]any) int { return s.cam.deliver(event) }

func (p *camInvoice) deliver(event map[string]any) int {
	endpoint, kind := fmt.Sprint(event["endpoint_id"]), fmt.Sprint(event["type"])
	p.mu.Lock()
	address := cmp.Or(p.state.Hooks[endpoint], p.state.Hooks[""])
	p.mu.Unlock()
	if address == "" {
		return 0
	}
	body, err := json.Marshal(event)
	if err != nil {
		return 0
	}
	status := 0
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, address, bytes.NewReader(body))
	if err == nil {
		req.Header.Set("Content-Type", "application/json")
		if resp, err := p.client.Do(req); err == nil {
			resp.Body.Close()
			status = resp.StatusCode
		}
	}
	p.mu.Lock()
	p.deliveries = append(p.deliveries, Delivery{p.Sandbox.o.Now(), kind, endpoint, status})
	p.mu.Unlock()
	return status
}

func plainHeader() any {
	return struct {
		Alg string `json:"alg"`
		Typ string `json:"typ"`
	}{"HS256", "JWT"}
}

func seconds(d time.Duration) int { return int(d / time.Second) }

// short writes a duration as CamInvoice does: "1d", "15m", else seconds.
func short(d time.Duration) string {
	switch {
	case d >= 24*time.Hour && d%(24*time.Hour) == 0:
		return strconv.Itoa(int(d/(24*time.Hour))) + "d"
	case d >= time.Minute && d%time.Minute == 0:
		return strconv.Itoa(int(d/time.Minute)) + "m"
	}
	return strconv.Itoa(seconds(d)) + "s"
}
