package connectors

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"patchbay/internal/status"
	"patchbay/internal/text"
)

// camInvoice speaks Cambodia's e-invoicing: a browser flow with parameters of its own, a refresh token that does not
// rotate, and a revocation by business. Client id and secret are the operator's, as service provider.
type camInvoice struct {
	client                         *Client
	info                           Info
	apiURL, connectURL, id, secret string
	webhookSecret                  string
}

var _ interface {
	Redirector
	CallbackRegistrar
	CallbackChecker
	WebhookReceiver
	Revoker
	Prober
	Checker
} = (*camInvoice)(nil)

func camInvoiceDefinition() Definition {
	keys := AccountKeys{OtherName: "company_name_kh", Identifier: "tin", Export: []string{"tin", "email", "phone_number"}}
	return Definition{Name: "caminvoice", Title: "CamInvoice", AccountKeys: keys, New: func(s *Settings, client *Client) Connector {
		c := &camInvoice{client: client, info: Info{
			Name: "caminvoice", Title: "CamInvoice", Environment: s.Environment("CAMINVOICE_ENVIRONMENT"), Color: "#1d4f91",
			NoState: true, ReplaySafe: true, RevokesAccount: true, RevokesByID: true, KeepAlive: 24 * time.Hour,
		}}
		c.apiURL = s.URL("CAMINVOICE_API_URL", Required)
		switch {
		case strings.HasSuffix(c.apiURL, "/"):
			s.Invalid("CAMINVOICE_API_URL", "must not end with a slash")
		case strings.HasSuffix(c.apiURL, "/api/v1"):
			s.Invalid("CAMINVOICE_API_URL", "must not hold /api/v1: it is added")
		}
		c.connectURL = strings.TrimRight(s.URL("CAMINVOICE_CONNECT_URL", 0), "/")
		if c.connectURL == "" {
			c.connectURL = c.apiURL
		}
		if !strings.HasSuffix(c.connectURL, "/connect") {
			c.connectURL += "/connect"
		}
		c.info.HomeURL = origin(c.connectURL)
		c.id = s.Text("CAMINVOICE_CLIENT_ID", Required)
		c.secret = s.Text("CAMINVOICE_CLIENT_SECRET", Required|Secret)
		c.webhookSecret = s.Text("CAMINVOICE_HOOK_SECRET", Secret)
		if c.webhookSecret != url.PathEscape(c.webhookSecret) {
			s.Invalid("CAMINVOICE_HOOK_SECRET", "may hold only letters, digits and -._~, as it is part of an address")
		}
		return c
	}}
}

func (c *camInvoice) Info() Info { return c.info }

// AuthorizationURL is /connect, where the parameter is redirect_url and not redirect_uri.
func (c *camInvoice) AuthorizationURL(_ context.Context, f Flow) (string, error) {
	q := url.Values{"client_id": {c.id}, "redirect_url": {f.CallbackURL}, "state": {f.State}}
	return c.connectURL + "?" + q.Encode(), nil
}

// Code returns the authToken.
func (c *camInvoice) Code(callback url.Values) string {
	return FixDoubledQuery(callback).Get("authToken")
}

// Exchange sends the authToken and reads the token and whose business it is.
func (c *camInvoice) Exchange(ctx context.Context, _ Flow, callback url.Values) (Grant, error) {
	if err := callbackError(FixDoubledQuery(callback)); err != nil {
		return Grant{}, err
	}
	authToken := c.Code(callback)
	if authToken == "" {
		return Grant{}, &UnreadableError{Reason: ReasonNoCode, Detail: "callback: authToken is missing"}
	}
	var g Grant
	q := c.post("exchange", "/api/v1/auth/authorize/connect", map[string]any{"auth_token": authToken})
	err := c.client.do(ctx, q, func(r response) (err error) {
		g, err = camInvoiceGrant(r, authToken)
		return err
	})
	return g, err
}

// camInvoiceRefreshPaths are the documented address and the one that the older guide names.
var camInvoiceRefreshPaths = []string{"/api/v1/auth/token", "/api/v1/token"}

// Refresh asks the older address only if the documented one does not exist.
func (c *camInvoice) Refresh(ctx context.Context, g Grant) (Token, error) {
	if g.Refresh == "" {
		return Token{}, &RejectedError{Reason: "no-refresh-token", Unsent: true}
	}
	var t Token
	var err error
	for _, path := range camInvoiceRefreshPaths {
		absent := false
		err = c.client.do(ctx, c.post("refresh", path, map[string]any{"refresh_token": g.Refresh}), func(r response) (err error) {
			t, err = camInvoiceToken(r)
			absent = r.status == http.StatusMethodNotAllowed || r.status == http.StatusNotFound && OutcomeOf(err) == status.Temporary
			return err
		})
		if !absent {
			break
		}
	}
	return t, err
}

var alreadyRevoked = regexp.MustCompile(`already (been )?(revoked|disconnected|removed)`)

// Revoke ends the business's whole connection to us, not one token.
func (c *camInvoice) Revoke(ctx context.Context, g Grant) error {
	if g.Account.ID == "" {
		return &TemporaryError{Reason: ReasonNoAccount}
	}
	return c.client.do(ctx, c.post("revoke", "/api/v1/auth/revoke", map[string]any{"endpoint_id": g.Account.ID}), func(r response) error {
		o := r.object()
		switch {
		case r.ok():
			return r.acknowledgement()
		case r.status < 500 && alreadyRevoked.MatchString(o.refusal().prose):
			return nil
		case r.status == http.StatusForbidden && o != nil:
			return &RejectedError{Reason: "revoke-refused"}
		}
		return camInvoiceError(r)
	})
}

// Probe looks the business up. *RejectedError is about the access token alone: only a refresh tells about the grant.
func (c *camInvoice) Probe(ctx context.Context, g Grant) error {
	q := request{
		name: "probe", method: http.MethodGet, bearer: g.Access,
		address: c.apiURL + "/api/v1/business/" + url.PathEscape(g.Account.ID),
	}
	return c.client.do(ctx, q, func(r response) error {
		switch {
		case r.status == http.StatusUnauthorized:
			return &RejectedError{Reason: "token-refused"}
		case r.ok() && r.object() != nil:
			return nil
		}
		return r.unexpected()
	})
}

// RegisterCallback puts the address on CamInvoice's whitelist.
func (c *camInvoice) RegisterCallback(ctx context.Context, callback string) error {
	return c.configure(ctx, c.post("register-callback", "/api/v1/configure/configure-redirect-url",
		map[string]any{"white_list_redirect_urls": []string{callback}}))
}

// callbackUnknown matches what is said of a redirect address that is not on the whitelist. CamInvoice documents no wording.
var callbackUnknown = regexp.MustCompile(`(?i)(redirect[ _-]?(ur[li]|address)|callback[ _-]?(ur[li]|address)?|white[ _-]?list(ed)?)[^.<>{}]{0,80}\b(not|isn.t|invalid|mismatch|unknown|unregistered|forbidden)\b` +
	`|\b(not|isn.t|invalid|mismatch(ed)?|unknown|unregistered|forbidden)\b[^.<>{}]{0,80}(redirect[ _-]?(ur[li]|address)|callback[ _-]?(ur[li]|address)|white[ _-]?list)`)

// words returns an address as words, without our own callback address that it may repeat.
func words(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	all := []string{u.Path}
	for name, values := range u.Query() {
		if value := strings.Join(values, " "); !strings.Contains(value, "://") {
			all = append(all, name+" "+value)
		}
	}
	return strings.NewReplacer("_", " ", "-", " ", "/", " ").Replace(strings.Join(all, ". "))
}

// CheckCallback asks /connect as a browser would, without a session there and without state. A page with a 4xx counts by its words; a
// 2xx only if it is JSON, since the scripts of a sign-in page may hold any words.
func (c *camInvoice) CheckCallback(ctx context.Context, callback string) error {
	q := url.Values{"client_id": {c.id}, "redirect_url": {callback}}
	return c.client.do(ctx, request{name: "check-callback", method: http.MethodGet, address: c.connectURL + "?" + q.Encode()}, func(r response) error {
		said := r.object().refusal()
		switch refused := r.status >= 400 && r.status < 500; {
		case r.status >= 300 && r.status < 400: // to its sign-in page, or to one that says what is wrong
			if callbackUnknown.MatchString(words(r.header.Get("Location"))) {
				return &RejectedError{Reason: ReasonCallback, Detail: r.statusText(), ClientFault: true}
			}
			return nil
		case r.status < 500 && callbackUnknown.MatchString(said.prose), refused && callbackUnknown.Match(r.body), r.status < 500 && said.has("redirect_uri_mismatch", "invalid_redirect_uri", "invalid_redirect_url") != "":
			return &RejectedError{Reason: ReasonCallback, Detail: r.statusText(), ClientFault: true}
		case !r.ok():
			return r.unexpected()
		}
		return nil
	})
}

// WebhookSecret is the setting CAMINVOICE_HOOK_SECRET.
func (c *camInvoice) WebhookSecret() string { return c.webhookSecret }

// RegisterWebhook names no endpoint_id: then it holds for every business.
func (c *camInvoice) RegisterWebhook(ctx context.Context, address string) error {
	return c.configure(ctx, c.post("register-hook", "/api/v1/configure/configure-webhook", map[string]any{"webhook_url": address}))
}

// RemoveWebhook is by business: CamInvoice has no call for all of them.
func (c *camInvoice) RemoveWebhook(ctx context.Context, accountID string) error {
	q := c.post("remove-hook", "/api/v1/configure/configure-webhook/"+url.PathEscape(accountID), nil)
	q.method = http.MethodDelete
	return c.configure(ctx, q)
}

func (c *camInvoice) configure(ctx context.Context, q request) error {
	return c.client.do(ctx, q, func(r response) error {
		if r.ok() {
			return r.acknowledgement()
		}
		return camInvoiceError(r)
	})
}

// ParseWebhook reads type, or event_type as older deliveries call it. Deliveries are not signed.
func (c *camInvoice) ParseWebhook(body []byte) (WebhookEvent, error) {
	o := response{body: body}.object()
	e := WebhookEvent{Type: text.Clean(o.str("type", "event_type")), AccountID: accountID(o.displayString("endpoint_id", "moc_id"))}
	if e.Type == "" || utf8.RuneCountInString(e.Type) > 100 {
		return WebhookEvent{}, &UnreadableError{Reason: ReasonUnreadable}
	}
	e.Revoked = strings.EqualFold(e.Type, "ENTITY.REVOKED")
	return e, nil
}

// Check sends the refresh address an empty object.
func (c *camInvoice) Check(ctx context.Context) (CheckResult, error) {
	q := c.post("check", camInvoiceRefreshPaths[0], map[string]any{})
	q.user, q.password = "", ""
	return c.client.check(ctx, q)
}

func (c *camInvoice) post(name, path string, body map[string]any) request {
	return request{name: name, method: http.MethodPost, address: c.apiURL + path, user: c.id, password: c.secret, json: body}
}

// camInvoiceDetails are the members of business_info that are listed first.
var camInvoiceDetails = []string{
	"endpoint_id", "moc_id", "company_name_en", "company_name_kh", "tin", "date_of_incorporation",
	"business_type", "city", "country", "phone_number", "email",
}

// camInvoiceGrant reads the response to an exchange: a token and business_info, which some deployments nest.
func camInvoiceGrant(r response, authToken string) (Grant, error) {
	t, err := camInvoiceToken(r)
	if err != nil {
		return Grant{}, err
	}
	o := r.object()
	business := o.object("business_info")
	for _, key := range []string{"userProfile", "data"} {
		if business == nil {
			business = o.object(key).object("business_info")
		}
		if inner := o.object(key); business == nil && inner.displayString("endpoint_id", "company_name_en", "company_name_kh") != "" {
			business = inner
		}
	}
	g := Grant{Token: t}
	g.Account.ID = accountID(business.displayString("endpoint_id"))
	for _, token := range []string{t.Access, authToken} {
		if g.Account.ID == "" {
			g.Account.ID = accountID(unverifiedClaims(token).displayString("endpoint_id", "moc_id"))
		}
	}
	if g.Account.ID == "" {
		return Grant{}, &UnreadableError{Reason: ReasonNoAccount, Detail: "endpoint_id is missing"}
	}
	g.Account.Name = accountName(business.displayString("company_name_en", "company_name_kh"))
	g.Account.Details = business.details(camInvoiceDetails...)
	g.Account.Values = besideToken(nil, o, t.Access).values // endpoint_id alone is the account
	return g, nil
}

// camInvoiceToken reads the token of an exchange or refresh, in the words of the reference page (token, expire_in), of
// the government's own sample (access_token, expire_at), and in those that others have seen (expireIn: "15m").
func camInvoiceToken(r response) (Token, error) {
	o := r.object()
	if !r.ok() {
		return Token{}, camInvoiceError(r)
	}
	if inner := o.object("data"); o.accessToken("access_token", "token", "accessToken") == "" && inner != nil {
		o = inner
	}
	access := o.accessToken("access_token", "token", "accessToken")
	if access == "" {
		return Token{}, camInvoiceError(r)
	}
	return usable(Token{
		Access: access, Type: o.tokenType("token_type", "tokenType"),
		Lifetime: r.lifetime(o, access, 900*time.Second,
			"expire_at", "expired_at", "expires_at", "expires_in", "expire_in", "expireIn", "expiresIn"),
		Refresh: o.str("refresh_token", "refreshToken"),
	})
}

// camInvoiceError judges a response that is no success. A 401 that names neither the grant nor the client counts as the
// client's fault: one incident that the platform looks into is better than a thousand merchants who reconnect in vain.
func camInvoiceError(r response) error {
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
	if r.status == http.StatusUnauthorized {
		return &RejectedError{Reason: "unauthorized", ClientFault: true}
	}
	return r.unexpected("access_token", "token", "accessToken")
}
