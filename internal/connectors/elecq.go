package connectors

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// elecq speaks ELECQ's (EV charging) OAuth: JSON bodies, camelCase, an envelope with a status code of its own, and an
// authorization address that wants Basic authentication. Who calls that address is not documented, hence three ways:
// elecqBrowser sends the browser there, elecqServer calls it first, elecqTyped does without a browser.
type elecq struct {
	client                           *Client
	info                             Info
	authorizeURL, tokenURL, renewURL string
}

// elecqClient is a registration with ELECQ: the operator's own, or with elecqTyped the merchant's.
type elecqClient struct{ id, secret string }

type elecqBrowser struct {
	elecq
	own elecqClient
}

type elecqServer struct{ elecqBrowser }

type elecqTyped struct{ elecq }

var (
	_ Redirector          = (*elecqBrowser)(nil)
	_ Redirector          = (*elecqServer)(nil)
	_ CredentialConnector = (*elecqTyped)(nil)
	_ Checker             = (*elecqTyped)(nil)
)

// elecqCallback is the input under which the callback address is kept with typed credentials: authorizing again needs it.
const elecqCallback = "callback_url"

func elecqDefinition() Definition {
	return Definition{Name: "elecq", Title: "ELECQ", New: func(s *Settings, client *Client) Connector {
		e := elecq{client: client, info: Info{
			Name: "elecq", Title: "ELECQ", Environment: s.Environment("ELECQ_ENVIRONMENT"), Color: "#04724d",
			NoState: true, KeepAlive: 24 * time.Hour,
		}}
		e.authorizeURL = s.URL("ELECQ_AUTHORIZE_URL", Required|AllowQuery)
		e.tokenURL = s.URL("ELECQ_TOKEN_URL", Required|AllowQuery)
		e.renewURL = s.URL("ELECQ_REFRESH_URL", Required|AllowQuery)
		e.info.HomeURL = s.URL("ELECQ_PORTAL_URL", AllowQuery)
		how := cmp.Or(s.Text("ELECQ_AUTHORIZE", 0), "browser")
		if how == "credentials" {
			for _, unused := range []string{"ELECQ_CLIENT_ID", "ELECQ_CLIENT_SECRET"} { // declared, so that they may stay set
				s.Text(unused, Secret)
			}
			e.info.NoState, e.info.Mints = false, true
			e.info.ReplaySafe = true // if the refresh token was spent, it authorizes again
			return &elecqTyped{e}
		}
		b := elecqBrowser{e, elecqClient{s.Text("ELECQ_CLIENT_ID", Required), s.Text("ELECQ_CLIENT_SECRET", Required|Secret)}}
		switch how {
		case "browser":
			return &b
		case "server":
			return &elecqServer{b}
		}
		s.Invalid("ELECQ_AUTHORIZE", "must be browser, server or credentials")
		return nil
	}}
}

func (e *elecq) Info() Info { return e.info }

// Check sends the refresh address an empty object.
func (e *elecq) Check(ctx context.Context) (CheckResult, error) {
	return e.client.check(ctx, request{name: "check", method: http.MethodPost, address: e.renewURL, json: map[string]any{}})
}

func (b *elecqBrowser) AuthorizationURL(_ context.Context, f Flow) (string, error) {
	return b.authorizeAddress(b.own, f), nil
}

// AuthorizationURL calls the authorization address and returns where it redirects: ELECQ's sign-in page. A redirect
// straight back to us would connect every merchant to the operator's own account.
func (s *elecqServer) AuthorizationURL(ctx context.Context, f Flow) (string, error) {
	location := ""
	err := s.client.do(ctx, s.authorizeRequest(s.own, f), func(r response) error {
		to, err := r.location(s.authorizeURL)
		switch {
		case err != nil:
			return elecqError(r, false)
		case sameAddress(to, f.CallbackURL):
			return &RejectedError{Reason: ReasonNoMerchant, ClientFault: true}
		case !maySendSecrets(to, s.info.Environment):
			return &TemporaryError{Reason: "redirected"}
		}
		location = to.String()
		return nil
	})
	return location, err
}

// Code prefers the name in ELECQ's later README to the one in the earlier.
func (b *elecqBrowser) Code(callback url.Values) string {
	callback = FixDoubledQuery(callback)
	return cmp.Or(callback.Get("code"), callback.Get("authorizationCode"))
}

func (b *elecqBrowser) Exchange(ctx context.Context, _ Flow, callback url.Values) (Grant, error) {
	if err := callbackError(FixDoubledQuery(callback)); err != nil {
		return Grant{}, err
	}
	code := b.Code(callback)
	if code == "" {
		return Grant{}, &UnreadableError{Reason: ReasonNoCode, Detail: "callback: code is missing"}
	}
	t, err := b.exchange(ctx, b.own, code)
	if err != nil {
		return Grant{}, err
	}
	return Grant{Token: t, Account: elecqAccount(t)}, nil
}

func (b *elecqBrowser) Refresh(ctx context.Context, g Grant) (Token, error) {
	return b.renew(ctx, b.own, g.Token)
}

func (e *elecqTyped) Fields() []Field {
	return []Field{{Name: "client_id"}, {Name: "client_secret", Secret: true}}
}

func (e *elecqTyped) Authenticate(ctx context.Context, f Flow, inputs map[string]string) (Grant, error) {
	values, err := checkInputs(e.Fields(), inputs)
	if err != nil {
		return Grant{}, err
	}
	g := Grant{Inputs: maps.Clone(values)}
	g.Inputs[elecqCallback] = f.CallbackURL
	var rejected *RejectedError
	g.Token, err = e.authorize(ctx, g.Inputs, f.State)
	switch {
	case errors.As(err, &rejected) && !rejected.ClientFault:
		return Grant{}, rejectedCredentials(values, e.info.Environment)
	case err != nil:
		return Grant{}, err
	}
	g.Account = elecqAccount(g.Token)
	g.Account.ID = cmp.Or(g.Account.ID, values["client_id"])
	g.Account.Details = append(g.Account.Details, Detail{"client_id", values["client_id"]})
	return g, nil
}

// Refresh authorizes again once the refresh token has expired: the typed credentials are enough for it.
func (e *elecqTyped) Refresh(ctx context.Context, g Grant) (Token, error) {
	if g.Refresh != "" {
		t, err := e.renew(ctx, elecqClient{g.Inputs["client_id"], g.Inputs["client_secret"]}, g.Token)
		var rejected *RejectedError
		if !errors.As(err, &rejected) {
			return t, err
		}
	}
	return e.authorize(ctx, g.Inputs, "")
}

// authorize makes both requests, for a code and for a token, with typed credentials.
func (e *elecqTyped) authorize(ctx context.Context, inputs map[string]string, state string) (Token, error) {
	c := elecqClient{inputs["client_id"], inputs["client_secret"]}
	if c.id == "" || c.secret == "" {
		return Token{}, &RejectedError{Reason: "no-credentials"}
	}
	code := ""
	err := e.client.do(ctx, e.authorizeRequest(c, Flow{State: state, CallbackURL: inputs[elecqCallback]}), func(r response) (err error) {
		code, err = elecqCode(r, e.authorizeURL)
		return err
	})
	if err != nil {
		return Token{}, merchantFault(err)
	}
	t, err := e.exchange(ctx, c, code)
	return t, merchantFault(err)
}

// elecqSignIn is the reason for a deployment that wants a browser, which is a setting of the operator's.
const elecqSignIn = "sign-in-wanted"

// merchantFault makes a rejection of the client the merchant's: with typed credentials the client is theirs.
func merchantFault(err error) error {
	var rejected *RejectedError
	if errors.As(err, &rejected) && rejected.ClientFault && rejected.Reason != elecqSignIn {
		return &RejectedError{Reason: rejected.Reason}
	}
	return err
}

// elecqCode finds the code in the redirect that answers the authorization request, or in the body of its "directly" twin.
func elecqCode(r response, base string) (string, error) {
	to, err := r.location(base)
	if err != nil {
		o := r.object()
		data := o.object("data")
		if !r.ok() || !elecqSuccess(o) {
			return "", elecqError(r, false)
		}
		if code := cmp.Or(data.str("code", "authorizationCode"), o.str("authorizationCode")); code != "" {
			return code, nil
		}
		return "", r.unexpected()
	}
	q := FixDoubledQuery(to.Query())
	if err := callbackError(q); err != nil {
		var denied *AccessDeniedError
		if errors.As(err, &denied) {
			return "", &RejectedError{Reason: "access_denied"}
		}
		return "", err
	}
	if code := cmp.Or(q.Get("code"), q.Get("authorizationCode")); code != "" {
		return code, nil
	}
	return "", &RejectedError{Reason: elecqSignIn, ClientFault: true} // it points at a page for people
}

// authorizeAddress adds a state, though none is documented: a server that does not know it ignores it, and one that
// returns it proves the flow.
func (e *elecq) authorizeAddress(c elecqClient, f Flow) string {
	return withQuery(e.authorizeURL, url.Values{
		"clientId": {c.id}, "redirectUri": {f.CallbackURL}, "responseType": {"code"}, "state": {f.State},
	})
}

func (e *elecq) authorizeRequest(c elecqClient, f Flow) request {
	return request{name: "authorize", method: http.MethodGet, address: e.authorizeAddress(c, f), user: c.id, password: c.secret}
}

// exchange sends the code and nothing else.
func (e *elecq) exchange(ctx context.Context, c elecqClient, code string) (t Token, err error) {
	q := request{
		name: "exchange", method: http.MethodPost, address: e.tokenURL, user: c.id, password: c.secret,
		json: map[string]any{"authorizationCode": code},
	}
	err = e.client.do(ctx, q, func(r response) (err error) {
		t, err = elecqToken(r, Token{})
		return err
	})
	return t, err
}

func (e *elecq) renew(ctx context.Context, c elecqClient, old Token) (t Token, err error) {
	if old.Refresh == "" {
		return Token{}, &RejectedError{Reason: "no-refresh-token", Unsent: true}
	}
	q := request{
		name: "refresh", method: http.MethodPost, address: e.renewURL, user: c.id, password: c.secret,
		json: map[string]any{"refreshToken": old.Refresh},
	}
	err = e.client.do(ctx, q, func(r response) (err error) {
		t, err = elecqToken(r, old)
		return err
	})
	return t, err
}

// elecqToken reads the envelope of an exchange, for which old is empty, or of a refresh.
func elecqToken(r response, old Token) (Token, error) {
	o := r.object()
	if !r.ok() || !elecqSuccess(o) {
		return Token{}, elecqError(r, old.Refresh != "")
	}
	data := o.object("data")
	if data == nil {
		data = o
	}
	access := data.accessToken("accessToken", "access_token")
	if access == "" {
		return Token{}, r.unexpected("accessToken", "access_token")
	}
	t := Token{
		Access: access, Type: data.tokenType("tokenType", "token_type"), Refresh: data.str("refreshToken", "refresh_token"),
		Lifetime: r.lifetime(data, access, 86400*time.Second, "accessTokenExpiresIn", "expiresIn", "expires_in"),
	}
	// Whether a refresh extends the seven days is not documented. So the token's own exp counts first, and a token that
	// came back unchanged does not get another seven days.
	claims := unverifiedClaims(t.Refresh)
	issued, _ := parseTime(claims["iat"])
	if d, ok := r.duration(claims["exp"], issued); ok {
		t.RefreshLifetime = d
	} else if t.Refresh != "" && t.Refresh != old.Refresh {
		t.RefreshLifetime = r.lifetime(data, "", 604800*time.Second, "refreshTokenExpiresIn", "refreshExpiresIn", "refresh_expires_in")
	}
	return usable(t)
}

// elecqSuccess judges the envelope: "200" and "000000" are both documented as success, as text. An answer without a
// respCode is judged by what it holds.
func elecqSuccess(o object) bool {
	code := o.displayString("respCode")
	if code == "" {
		return o != nil && o["respCode"] == nil
	}
	n, err := strconv.Atoi(code)
	return err == nil && (n == 0 || n == 200)
}

// elecqError judges by respCode, which may come inside HTTP 200, else by the status. 401 is about the merchant's grant
// on refresh, and about the client on exchange.
func elecqError(r response, refreshing bool) error {
	o := r.object()
	code := o.displayString("respCode")
	if code == "" && !r.ok() {
		code = strconv.Itoa(r.status)
	}
	if r.status >= 500 {
		return r.unexpected()
	}
	// With any other status or respCode the message is another machine's as often as ELECQ's.
	about := o.refusal().fault(r.ok() && !strings.HasPrefix(code, "5") || r.status == http.StatusBadRequest || r.status == http.StatusUnauthorized)
	if about == passing {
		return r.passing()
	}
	switch strings.TrimLeft(code, "0") {
	case "401":
		switch {
		case refreshing && about != clientFault:
			return &RejectedError{Reason: "invalid_grant"}
		case !refreshing && about == grantFault:
			return &RejectedError{Reason: "invalid_grant"}
		}
		return &RejectedError{Reason: "invalid_client", ClientFault: true}
	case "429":
		return &RateLimitedError{RetryAfter: defaultRetryAfter}
	}
	switch about {
	case grantFault:
		return &RejectedError{Reason: "invalid_grant"}
	case clientFault:
		return &RejectedError{Reason: "invalid_client", ClientFault: true}
	}
	if r.ok() && o != nil {
		return &TemporaryError{Reason: "status", Detail: r.statusText() + r.codeText()}
	}
	return r.unexpected("accessToken", "access_token")
}

// elecqAccount names the account by the only identifier that ELECQ was seen to send, a claim of the tokens. It is not
// verified, and serves as a label.
func elecqAccount(t Token) Account {
	id := cmp.Or(accountID(unverifiedClaims(t.Access).displayString("USER_ID")), accountID(unverifiedClaims(t.Refresh).displayString("USER_ID")))
	if id == "" {
		return Account{}
	}
	return Account{ID: id, Details: []Detail{{"USER_ID", id}}}
}
