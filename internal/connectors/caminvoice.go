package connectors

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// camInvoice speaks Cambodia's e-invoicing: a browser flow with a vocabulary of its own, a refresh token that does
// not rotate, and a revocation by business. ID and secret are the operator's, as service provider.
type camInvoice struct {
	wire                     *Client
	info                     Info
	api, connect, id, secret string
	webhookSecret            string
}

var _ interface {
	Redirector
	CallbackRegistrar
	WebhookReceiver
	Revoker
	Prober
	Checker
} = (*camInvoice)(nil)

func camInvoiceProvider() Definition {
	keys := AccountKeys{OtherName: "company_name_kh", Identifier: "tin", Export: []string{"tin", "email", "phone_number"}}
	return Definition{Name: "caminvoice", Title: "CamInvoice", AccountKeys: keys, New: func(s *Settings, w *Client) Connector {
		c := &camInvoice{wire: w, info: Info{
			Name: "caminvoice", Title: "CamInvoice", Environment: s.Environment("CAMINVOICE_ENVIRONMENT"), Color: "#1d4f91",
			NoState: true, ReplaySafe: true, RevokesAccount: true, KeepAlive: 24 * time.Hour,
		}}
		c.api = s.URL("CAMINVOICE_API_URL", Required)
		switch {
		case strings.HasSuffix(c.api, "/"):
			s.Invalid("CAMINVOICE_API_URL", "must not end with a slash")
		case strings.HasSuffix(c.api, "/api/v1"):
			s.Invalid("CAMINVOICE_API_URL", "must not hold /api/v1: it is added")
		}
		c.connect = strings.TrimRight(s.URL("CAMINVOICE_CONNECT_URL", 0), "/")
		if c.connect == "" {
			c.connect = c.api
		}
		if !strings.HasSuffix(c.connect, "/connect") {
			c.connect += "/connect"
		}
		c.info.HomeURL = origin(c.connect)
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

// Begin sends the browser to /connect, which says redirect_url where the world says redirect_uri.
func (c *camInvoice) AuthorizationURL(_ context.Context, f Flow) (string, error) {
	q := url.Values{"client_id": {c.id}, "redirect_url": {f.CallbackURL}, "state": {f.State}}
	return c.connect + "?" + q.Encode(), nil
}

func (c *camInvoice) Code(callback url.Values) string {
	return FixDoubledQuery(callback).Get("authToken")
}

func (c *camInvoice) Exchange(ctx context.Context, f Flow, callback url.Values) (Grant, error) {
	if err := callbackError(FixDoubledQuery(callback)); err != nil {
		return Grant{}, err
	}
	authToken := c.Code(callback)
	if authToken == "" {
		return Grant{}, &TemporaryError{Reason: "no-answer"}
	}
	var g Grant
	err := c.wire.do(ctx, c.post("exchange", "/api/v1/auth/authorize/connect", map[string]any{"auth_token": authToken}),
		func(a answer) (err error) {
			g, err = camInvoiceGrant(a, authToken)
			return err
		})
	return g, err
}

func camInvoiceRefreshPaths() []string { return []string{"/api/v1/auth/token", "/api/v1/token"} }

// Refresh asks the documented address, and the one that the older guide names where that does not exist.
func (c *camInvoice) Refresh(ctx context.Context, g Grant) (Token, error) {
	if g.Refresh == "" {
		return Token{}, &RejectedError{Reason: "no-refresh-token", Unsent: true}
	}
	var t Token
	var err error
	for _, path := range camInvoiceRefreshPaths() {
		elsewhere := false
		err = c.wire.do(ctx, c.post("refresh", path, map[string]any{"refresh_token": g.Refresh}), func(a answer) (err error) {
			t, err = camInvoiceToken(a)
			elsewhere = a.status == http.StatusMethodNotAllowed || a.status == http.StatusNotFound && Class(err) == "trouble"
			return err
		})
		if !elsewhere {
			break
		}
	}
	return t, err
}

// Revoke ends the business's connection to us altogether, whichever token it had.
func (c *camInvoice) Revoke(ctx context.Context, g Grant) error {
	if g.Account.ID == "" {
		return &TemporaryError{Reason: ReasonNoAccount}
	}
	already := regexp.MustCompile(`already (been )?(revoked|disconnected|removed)`)
	return c.wire.do(ctx, c.post("revoke", "/api/v1/auth/revoke", map[string]any{"endpoint_id": g.Account.ID}), func(a answer) error {
		o := a.object()
		switch {
		case a.ok():
			return a.acknowledged()
		case a.status < 500 && already.MatchString(o.prose("message", "error_description", "error")):
			return nil
		case a.status == http.StatusForbidden && o != nil:
			return &RejectedError{Reason: "revoke-refused"}
		}
		return camInvoiceRefusal(a)
	})
}

// Probe looks the business up. *Refusal speaks of the access token alone: only a refresh tells about the grant.
func (c *camInvoice) Probe(ctx context.Context, g Grant) error {
	q := request{
		name: "probe", method: http.MethodGet, bearer: g.Access,
		address: c.api + "/api/v1/business/" + url.PathEscape(g.Account.ID),
	}
	return c.wire.do(ctx, q, func(a answer) error {
		switch {
		case a.status == http.StatusUnauthorized:
			return &RejectedError{Reason: "token-refused"}
		case a.ok() && a.object() != nil:
			return nil
		}
		return a.unusable()
	})
}

func (c *camInvoice) RegisterCallback(ctx context.Context, callback string) error {
	return c.configure(ctx, c.post("register-callback", "/api/v1/configure/configure-redirect-url",
		map[string]any{"white_list_redirect_urls": []string{callback}}))
}

func (c *camInvoice) WebhookSecret() string { return c.webhookSecret }

// RegisterWebhook names no endpoint_id: then it holds for every business.
func (c *camInvoice) RegisterWebhook(ctx context.Context, address string) error {
	return c.configure(ctx, c.post("register-hook", "/api/v1/configure/configure-webhook", map[string]any{"webhook_url": address}))
}

func (c *camInvoice) RemoveWebhook(ctx context.Context, accountID string) error {
	q := c.post("remove-hook", "/api/v1/configure/configure-webhook/"+url.PathEscape(accountID), nil)
	q.method = http.MethodDelete
	return c.configure(ctx, q)
}

func (c *camInvoice) configure(ctx context.Context, q request) error {
	return c.wire.do(ctx, q, func(a answer) error {
		if a.ok() {
			return a.acknowledged()
		}
		return camInvoiceRefusal(a)
	})
}

// ParseHook reads `type`, or `event_type` as older deliveries call it. Nothing is signed, so it is only ever a hint.
func (c *camInvoice) ParseWebhook(body []byte) (WebhookEvent, error) {
	o := answer{body: body}.object()
	h := WebhookEvent{Type: clean(o.text("type", "event_type")), AccountID: accountID(o.label("endpoint_id", "moc_id"))}
	if h.Type == "" || len(h.Type) > 100 {
		return WebhookEvent{}, &TemporaryError{Reason: "unreadable"}
	}
	h.Revoked = strings.EqualFold(h.Type, "ENTITY.REVOKED")
	return h, nil
}

func (c *camInvoice) Check(ctx context.Context) (CheckResult, error) {
	q := c.post("check", camInvoiceRefreshPaths()[0], map[string]any{})
	q.user, q.password = "", ""
	return c.wire.check(ctx, q)
}

func (c *camInvoice) post(name, path string, body map[string]any) request {
	return request{name: name, method: http.MethodPost, address: c.api + path, user: c.id, password: c.secret, json: body}
}

// camInvoiceGrant reads the exchange: a token and business_info, which some deployments put one level down.
func camInvoiceGrant(a answer, authToken string) (Grant, error) {
	t, err := camInvoiceToken(a)
	if err != nil {
		return Grant{}, err
	}
	o := a.object()
	business := o.object("business_info")
	for _, key := range []string{"userProfile", "data"} {
		if business == nil {
			business = o.object(key).object("business_info")
		}
		if inner := o.object(key); business == nil && inner.label("endpoint_id", "company_name_en", "company_name_kh") != "" {
			business = inner
		}
	}
	g := Grant{Token: t}
	g.Account.ID = accountID(business.label("endpoint_id"))
	for _, token := range []string{t.Access, authToken} {
		if g.Account.ID == "" {
			g.Account.ID = accountID(claims(token).label("endpoint_id", "moc_id"))
		}
	}
	if g.Account.ID == "" {
		return Grant{}, &TemporaryError{Reason: ReasonNoAccount}
	}
	g.Account.Name = accountName(business.label("company_name_en", "company_name_kh"))
	g.Account.Details = business.details("endpoint_id", "moc_id", "company_name_en", "company_name_kh", "tin", "date_of_incorporation",
		"business_type", "city", "country", "phone_number", "email")
	return g, nil
}

// camInvoiceToken reads the answer of exchange and refresh, in the words of the reference page (token, expire_in), of
// the government's own sample (access_token, expire_at) and of what others have seen (expireIn: "15m").
func camInvoiceToken(a answer) (Token, error) {
	o := a.object()
	if !a.ok() {
		return Token{}, camInvoiceRefusal(a)
	}
	if inner := o.object("data"); o.accessToken("access_token", "token", "accessToken") == "" && inner != nil {
		o = inner
	}
	access := o.accessToken("access_token", "token", "accessToken")
	if access == "" {
		return Token{}, camInvoiceRefusal(a)
	}
	return Token{
		Access: access, Type: o.tokenType("token_type", "tokenType"),
		Lifetime: a.lifetime(o, access, 900*time.Second,
			"expire_at", "expired_at", "expires_at", "expires_in", "expire_in", "expireIn", "expiresIn"),
		Refresh: o.text("refresh_token", "refreshToken"),
	}, nil
}

// camInvoiceRefusal judges an answer that is no success. A 401 that names neither grant nor client is ours until
// proved otherwise: better one incident than a thousand merchants blamed.
func camInvoiceRefusal(a answer) error {
	if a.status >= 500 || a.status >= 300 && a.status < 400 {
		return a.unusable()
	}
	o, prose := a.object(), ""
	if a.status == http.StatusBadRequest || a.status == http.StatusUnauthorized {
		// Elsewhere prose is a firewall's as often as CamInvoice's.
		prose = o.prose("error_description", "message", "error")
	}
	switch blameOf(o.text("error"), prose) {
	case grant:
		return &RejectedError{Reason: "invalid_grant"}
	case client:
		return &RejectedError{Reason: "invalid_client", ClientFault: true}
	}
	if a.status == http.StatusUnauthorized {
		return &RejectedError{Reason: "unauthorized", ClientFault: true}
	}
	return a.unusable()
}
