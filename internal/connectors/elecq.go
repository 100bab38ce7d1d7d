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

// elecq speaks ELECQ's (EV charging) OAuth: JSON bodies, camelCase, an envelope that judges itself, and an authorize
// address that wants Basic authentication. Who calls that address is undocumented, hence three ways: elecqBrowser
// sends the browser there, elecqServer calls it first, elecqKeyed does without a browser.
type elecq struct {
	wire                      *Client
	info                      Info
	authorize, token, renewal string
}

// elecqClient is one registration with ELECQ: the operator's, or in elecqKeyed the merchant's own.
type elecqClient struct{ id, secret string }

type elecqBrowser struct {
	elecq
	client elecqClient
}

type elecqServer struct{ elecqBrowser }

type elecqKeyed struct{ elecq }

var (
	_ Redirector          = (*elecqBrowser)(nil)
	_ Redirector          = (*elecqServer)(nil)
	_ CredentialConnector = (*elecqKeyed)(nil)
	_ Checker             = (*elecqKeyed)(nil)
)

// The callback address is kept with the typed credentials: authorising again needs it.
const elecqCallback = "callback_url"

func elecqProvider() Definition {
	return Definition{Name: "elecq", Title: "ELECQ", New: func(s *Settings, w *Client) Connector {
		e := elecq{wire: w, info: Info{
			Name: "elecq", Title: "ELECQ", Environment: s.Environment("ELECQ_ENVIRONMENT"), Color: "#04724d",
			NoState: true, KeepAlive: 24 * time.Hour,
		}}
		e.authorize = s.URL("ELECQ_AUTHORIZE_URL", Required|AllowQuery)
		e.token = s.URL("ELECQ_TOKEN_URL", Required|AllowQuery)
		e.renewal = s.URL("ELECQ_REFRESH_URL", Required|AllowQuery)
		how := cmp.Or(s.Text("ELECQ_AUTHORIZE", 0), "browser")
		if how == "credentials" {
			for _, unused := range []string{"ELECQ_CLIENT_ID", "ELECQ_CLIENT_SECRET"} { // known, so that they may stay set
				s.Text(unused, Secret)
			}
			e.info.NoState = false
			e.info.ReplaySafe = true // whatever became of the refresh token, it can authorise again
			return &elecqKeyed{e}
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

func (e *elecq) Check(ctx context.Context) (CheckResult, error) {
	return e.wire.check(ctx, request{name: "check", method: http.MethodPost, address: e.renewal, json: map[string]any{}})
}

func (b *elecqBrowser) AuthorizationURL(_ context.Context, f Flow) (string, error) {
	return b.authorizeAddress(b.client, f), nil
}

// Begin has our server knock first and sends the browser to where ELECQ points: its sign-in page. A pointer straight
// back to us would connect every merchant to the operator's own account.
func (s *elecqServer) AuthorizationURL(ctx context.Context, f Flow) (string, error) {
	location := ""
	err := s.wire.do(ctx, s.authorizeRequest(s.client, f), func(a answer) error {
		to, err := a.location(s.authorize)
		switch {
		case err != nil:
			return elecqRefusal(a, false)
		case sameAddress(to, f.CallbackURL):
			return &RejectedError{Reason: ReasonNoMerchant, ClientFault: true}
		case !permitted(to, s.info.Environment):
			return &TemporaryError{Reason: "redirected"}
		}
		location = to.String()
		return nil
	})
	return location, err
}

// Answer prefers the later README's name over the seed's.
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
		return Grant{}, &TemporaryError{Reason: "no-answer"}
	}
	t, err := b.exchange(ctx, b.client, code)
	if err != nil {
		return Grant{}, err
	}
	return Grant{Token: t, Account: elecqAccount(t)}, nil
}

func (b *elecqBrowser) Refresh(ctx context.Context, g Grant) (Token, error) {
	return b.renew(ctx, b.client, g.Token)
}

func (k *elecqKeyed) Fields() []Field {
	return []Field{{Name: "client_id"}, {Name: "client_secret", Secret: true}}
}

func (k *elecqKeyed) Authenticate(ctx context.Context, f Flow, inputs map[string]string) (Grant, error) {
	values, err := typed(k.Fields(), inputs)
	if err != nil {
		return Grant{}, err
	}
	g := Grant{Inputs: maps.Clone(values)}
	g.Inputs[elecqCallback] = f.CallbackURL
	var refusal *RejectedError
	g.Token, err = k.open(ctx, g.Inputs, f.State)
	switch {
	case errors.As(err, &refusal) && !refusal.ClientFault:
		return Grant{}, unknownCredentials(values, k.info.Environment)
	case err != nil:
		return Grant{}, err
	}
	g.Account = elecqAccount(g.Token)
	g.Account.ID = cmp.Or(g.Account.ID, values["client_id"])
	g.Account.Details = append(g.Account.Details, Detail{"client_id", values["client_id"]})
	return g, nil
}

// Refresh authorises again by itself once the refresh token has lapsed: nobody needs to be asked.
func (k *elecqKeyed) Refresh(ctx context.Context, g Grant) (Token, error) {
	if g.Refresh != "" {
		t, err := k.renew(ctx, elecqClient{g.Inputs["client_id"], g.Inputs["client_secret"]}, g.Token)
		var refusal *RejectedError
		if !errors.As(err, &refusal) {
			return t, err
		}
	}
	return k.open(ctx, g.Inputs, "")
}

// open does both steps with typed credentials. There is no client of ours in it: a refusal is the merchant's.
func (k *elecqKeyed) open(ctx context.Context, inputs map[string]string, state string) (Token, error) {
	c := elecqClient{inputs["client_id"], inputs["client_secret"]}
	if c.id == "" || c.secret == "" {
		return Token{}, &RejectedError{Reason: "no-credentials"}
	}
	code := ""
	err := k.wire.do(ctx, k.authorizeRequest(c, Flow{State: state, CallbackURL: inputs[elecqCallback]}), func(a answer) (err error) {
		code, err = elecqCode(a, k.authorize)
		return err
	})
	if err != nil {
		return Token{}, theirs(err)
	}
	t, err := k.exchange(ctx, c, code)
	return t, theirs(err)
}

func theirs(err error) error {
	var refusal *RejectedError
	if errors.As(err, &refusal) && refusal.ClientFault && refusal.Reason != "sign-in-wanted" {
		return &RejectedError{Reason: refusal.Reason}
	}
	return err
}

// elecqCode finds the code in the redirect that answers authorize, or in the body of its "directly" twin.
func elecqCode(a answer, base string) (string, error) {
	to, err := a.location(base)
	if err != nil {
		o := a.object()
		data := o.object("data")
		if !a.ok() || !elecqSuccess(o) {
			return "", elecqRefusal(a, false)
		}
		if code := cmp.Or(data.text("code", "authorizationCode"), o.text("authorizationCode")); code != "" {
			return code, nil
		}
		return "", a.unusable()
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
	// It points at a page for people: this deployment wants a browser, which is for the operator to set.
	return "", &RejectedError{Reason: "sign-in-wanted", ClientFault: true}
}

func (e *elecq) authorizeAddress(c elecqClient, f Flow) string {
	// No state is documented. A server that does not know it ignores it; one that echoes it proves the flow.
	return withQuery(e.authorize, url.Values{
		"clientId": {c.id}, "redirectUri": {f.CallbackURL}, "responseType": {"code"}, "state": {f.State},
	})
}

func (e *elecq) authorizeRequest(c elecqClient, f Flow) request {
	return request{name: "authorize", method: http.MethodGet, address: e.authorizeAddress(c, f), user: c.id, password: c.secret}
}

// exchange sends the code and nothing else.
func (e *elecq) exchange(ctx context.Context, c elecqClient, code string) (t Token, err error) {
	q := request{
		name: "exchange", method: http.MethodPost, address: e.token, user: c.id, password: c.secret,
		json: map[string]any{"authorizationCode": code},
	}
	err = e.wire.do(ctx, q, func(a answer) (err error) {
		t, err = elecqToken(a, Token{})
		return err
	})
	return t, err
}

func (e *elecq) renew(ctx context.Context, c elecqClient, old Token) (t Token, err error) {
	if old.Refresh == "" {
		return Token{}, &RejectedError{Reason: "no-refresh-token", Unsent: true}
	}
	q := request{
		name: "refresh", method: http.MethodPost, address: e.renewal, user: c.id, password: c.secret,
		json: map[string]any{"refreshToken": old.Refresh},
	}
	err = e.wire.do(ctx, q, func(a answer) (err error) {
		t, err = elecqToken(a, old)
		return err
	})
	return t, err
}

// elecqToken reads the envelope of exchange (no old token) and refresh.
func elecqToken(a answer, old Token) (Token, error) {
	o := a.object()
	if !a.ok() || !elecqSuccess(o) {
		return Token{}, elecqRefusal(a, old.Refresh != "")
	}
	data := o.object("data")
	if data == nil {
		data = o
	}
	access := data.accessToken("accessToken", "access_token")
	if access == "" {
		return Token{}, a.unusable()
	}
	t := Token{
		Access: access, Type: data.tokenType("tokenType", "token_type"), Refresh: data.text("refreshToken", "refresh_token"),
		Lifetime: a.lifetime(data, access, 86400*time.Second, "accessTokenExpiresIn", "expiresIn", "expires_in"),
	}
	// Whether a refresh extends the seven days is unknown, so the token's own exp is believed first, and a token that
	// merely came back is not given another seven days.
	said := claims(t.Refresh)
	issued, _ := moment(said["iat"])
	if d, ok := a.span(said["exp"], issued); ok {
		t.RefreshLifetime = d
	} else if t.Refresh != "" && t.Refresh != old.Refresh {
		t.RefreshLifetime = a.lifetime(data, "", 604800*time.Second, "refreshTokenExpiresIn", "refreshExpiresIn", "refresh_expires_in")
	}
	return t, nil
}

// elecqSuccess judges the envelope: "200" and "000000" are both documented as success, as text; an answer without a
// respCode is judged by what it holds.
func elecqSuccess(o object) bool {
	code := o.label("respCode")
	if code == "" {
		return o != nil && o["respCode"] == nil
	}
	n, err := strconv.Atoi(code)
	return err == nil && (n == 0 || n == 200)
}

// elecqRefusal judges by respCode, which may come inside HTTP 200, else by the status. 401 is the merchant's grant
// on refresh and our own client on exchange.
func elecqRefusal(a answer, refreshing bool) error {
	o := a.object()
	code := o.label("respCode")
	if code == "" && !a.ok() {
		code = strconv.Itoa(a.status)
	}
	if a.status >= 500 {
		return a.unusable()
	}
	blamed := blameOf(o.text("error"), o.prose("respMsg", "error_description", "message"))
	switch strings.TrimLeft(code, "0") {
	case "401":
		switch {
		case refreshing && blamed != client:
			return &RejectedError{Reason: "invalid_grant"}
		case !refreshing && blamed == grant:
			return &RejectedError{Reason: "invalid_grant"}
		}
		return &RejectedError{Reason: "invalid_client", ClientFault: true}
	case "429":
		return &RateLimitedError{RetryAfter: laterDefault}
	}
	if a.status == http.StatusBadRequest || o.label("respCode") != "" && !strings.HasPrefix(code, "5") {
		switch blamed {
		case grant:
			return &RejectedError{Reason: "invalid_grant"}
		case client:
			return &RejectedError{Reason: "invalid_client", ClientFault: true}
		}
	}
	if a.ok() && o != nil {
		return &TemporaryError{Reason: "status"}
	}
	return a.unusable()
}

// elecqAccount names the account by the only identifier ever seen, a claim of the tokens. Unproven: it labels.
func elecqAccount(t Token) Account {
	id := cmp.Or(accountID(claims(t.Access).label("USER_ID")), accountID(claims(t.Refresh).label("USER_ID")))
	if id == "" {
		return Account{}
	}
	return Account{ID: id, Details: []Detail{{"USER_ID", id}}}
}
