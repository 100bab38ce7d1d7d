package connectors

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// flexiti speaks Flexiti's POS API 2.5: typed credentials, form-encoded, a reference id on every call, and statuses with
// meanings of their own (400 for a wrong secret, 409 for a bad request).
type flexiti struct {
	client *Client
	info   Info
	apiURL string
}

var _ interface {
	CredentialConnector
	Checker
} = (*flexiti)(nil)

func flexitiDefinition() Definition {
	return Definition{Name: "flexiti", Title: "Flexiti", New: func(s *Settings, client *Client) Connector {
		f := &flexiti{client: client, info: Info{
			Name: "flexiti", Title: "Flexiti", Environment: s.Environment("FLEXITI_ENVIRONMENT"), Color: "#a8380f",
			ReplaySafe: true, Mints: true, KeepAlive: 24 * time.Hour,
		}}
		f.apiURL = strings.TrimRight(s.URL("FLEXITI_API_URL", Required), "/")
		if f.apiURL != "" && !strings.HasSuffix(f.apiURL, "/flexiti/pos-api") {
			s.Invalid("FLEXITI_API_URL", "must end with /flexiti/pos-api")
		}
		f.info.HomeURL = s.URL("FLEXITI_PORTAL_URL", AllowQuery)
		return f
	}}
}

func (f *flexiti) Info() Info { return f.info }

func (f *flexiti) Fields() []Field {
	return []Field{
		{Name: "client_id", MaxLen: 100},
		{Name: "client_secret", Secret: true, MaxLen: 100},
		{Name: "scope", Options: []string{"merchant", "customer"}},
		{Name: "merchant_username", Optional: true},
		{Name: "merchant_password", Optional: true, Secret: true},
	}
}

// Authenticate mints a token. The username and password are used once, to learn the merchant's name, and not kept.
func (f *flexiti) Authenticate(ctx context.Context, flow Flow, inputs map[string]string) (Grant, error) {
	values, err := checkInputs(f.Fields(), inputs)
	if err != nil {
		return Grant{}, err
	}
	id, scope := values["client_id"], values["scope"]
	g := Grant{Inputs: map[string]string{"client_id": id, "client_secret": values["client_secret"], "scope": scope}}
	g.Account = Account{ID: id + ":" + scope, Details: []Detail{{"client_id", id}, {"scope", scope}}}

	var rejected *RejectedError
	g.Token, err = f.mint(ctx, g.Inputs)
	switch {
	case errors.As(err, &rejected) && rejected.Reason == "invalid_role":
		return Grant{}, &InputError{Field: "client_id", Code: InputNotAllowed}
	case errors.As(err, &rejected) && looksLikeGUID(id) && !looksLikeGUID(values["client_secret"]): // here the secret is the GUID
		return Grant{}, &InputError{Field: "client_id", Code: InputSwapped}
	case errors.As(err, &rejected):
		return Grant{}, rejectedCredentials(values, f.info.Environment)
	case err != nil:
		return Grant{}, err
	}
	if values["merchant_username"] != "" && values["merchant_password"] != "" {
		f.fetchMerchant(ctx, flow, values, &g)
	}
	return g, nil
}

// Refresh spends the refresh token while it lasts, else mints: the secret is here, so that a failure of the one need not
// stop the other. Whether an expired refresh token is answered with 400, 401, 409 or 500 is not documented.
func (f *flexiti) Refresh(ctx context.Context, g Grant) (Token, error) {
	if g.Refresh != "" {
		answered := false
		t, err := f.requestToken(ctx, "refresh", g.Inputs, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {g.Refresh}}, &answered)
		var limited *RateLimitedError
		if err == nil || errors.As(err, &limited) || !answered {
			return t, err
		}
	}
	return f.mint(ctx, g.Inputs)
}

// Check sends the token address an empty form.
func (f *flexiti) Check(ctx context.Context) (CheckResult, error) {
	return f.client.check(ctx, f.tokenRequest("check", url.Values{}))
}

func (f *flexiti) tokenRequest(name string, form url.Values) request {
	return request{name: name, method: http.MethodPost, address: f.apiURL + "/v2.5/oauth/token", form: form, reference: newReference()}
}

func (f *flexiti) mint(ctx context.Context, inputs map[string]string) (Token, error) {
	return f.requestToken(ctx, "mint", inputs, url.Values{"grant_type": {"client_credentials"}}, new(bool))
}

// requestToken sets answered if there was a response to judge.
func (f *flexiti) requestToken(ctx context.Context, name string, inputs map[string]string, form url.Values, answered *bool) (t Token, err error) {
	if inputs["client_id"] == "" || inputs["client_secret"] == "" {
		return Token{}, &RejectedError{Reason: "no-credentials"}
	}
	for _, key := range []string{"client_id", "client_secret", "scope"} {
		form.Set(key, inputs[key])
	}
	err = f.client.do(ctx, f.tokenRequest(name, form), func(r response) (err error) {
		*answered = true
		t, err = flexitiToken(r, inputs["scope"])
		return err
	})
	return t, err
}

func flexitiToken(r response, scope string) (Token, error) {
	o := r.object()
	access := o.accessToken("access_token")
	if !r.ok() || access == "" || o.str("error") != "" {
		return Token{}, flexitiError(r)
	}
	t := Token{
		Access: access, Type: o.tokenType("token_type"), Refresh: o.str("refresh_token"), Scope: o.scopes("scope"),
		Lifetime: r.lifetime(o, access, 1200*time.Second, "expires_in"),
	}
	if len(t.Scope) == 0 && scope != "" {
		t.Scope = []string{scope}
	}
	if t.Refresh != "" {
		t.RefreshLifetime = t.Lifetime // it cannot be used once the access token has expired
	}
	return usable(t)
}

// flexitiError knows the documented rejections alone. A 401 has no meaning here that could be relied on.
func flexitiError(r response) error {
	if r.status < 500 {
		switch code := strings.ToLower(r.object().str("error")); code {
		case "invalid_client", "invalid_role", "invalid_credentials":
			return &RejectedError{Reason: code}
		}
	}
	return r.unexpected("access_token")
}

// fetchMerchant asks the deprecated login, the only call that names the merchant, and adds what it says to the account.
// If it fails, the grant is good without it.
func (f *flexiti) fetchMerchant(ctx context.Context, flow Flow, values map[string]string, g *Grant) {
	lang := "en"
	if strings.HasPrefix(strings.ToLower(flow.Locale), "fr") {
		lang = "fr"
	}
	q := request{
		name: "login", method: http.MethodPost, bearer: g.Access, reference: newReference(),
		address: f.apiURL + "/v2.5/client-id/" + url.PathEscape(values["client_id"]) + "/merchants/login?lang=" + lang,
		json: map[string]any{
			"merchant_username": values["merchant_username"], "merchant_password": values["merchant_password"],
		},
	}
	_ = f.client.do(ctx, q, func(r response) error {
		if !r.ok() || r.object() == nil {
			return r.unexpected()
		}
		g.Account = flexitiMerchant(r.object(), g.Account)
		return nil
	})
}

func flexitiMerchant(o object, account Account) Account {
	account.Name = accountName(o.displayString("merchant_name"))
	for _, key := range []string{"merchant_id", "merchant_name"} {
		if value := o.displayString(key); value != "" {
			account.Details = append(account.Details, Detail{key, value})
		}
	}
	for _, key := range []string{"form_values", "occupation_id"} {
		if value := displayText(o[key]); value != "" {
			account.Details = append(account.Details, Detail{key, value})
		}
	}
	return account
}

// newReference returns a GUID in the 32 characters that x-reference-id has room for.
func newReference() string {
	var raw [16]byte
	rand.Read(raw[:]) // never fails since Go 1.24
	return hex.EncodeToString(raw[:])
}
