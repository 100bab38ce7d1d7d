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

// flexiti speaks Flexiti's POS API 2.5: typed credentials, form-encoded, a reference id on every call, and errors whose
// statuses mean other things than elsewhere (400 for a wrong secret, 409 for a bad request).
type flexiti struct {
	wire *Client
	info Info
	api  string
}

var _ interface {
	CredentialConnector
	Checker
} = (*flexiti)(nil)

func flexitiProvider() Definition {
	return Definition{Name: "flexiti", Title: "Flexiti", New: func(s *Settings, w *Client) Connector {
		f := &flexiti{wire: w, info: Info{
			Name: "flexiti", Title: "Flexiti", Environment: s.Environment("FLEXITI_ENVIRONMENT"), Color: "#a8380f",
			ReplaySafe: true, KeepAlive: 24 * time.Hour,
		}}
		f.api = strings.TrimRight(s.URL("FLEXITI_API_URL", Required), "/")
		if f.api != "" && !strings.HasSuffix(f.api, "/flexiti/pos-api") {
			s.Invalid("FLEXITI_API_URL", "must end with /flexiti/pos-api")
		}
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

func (f *flexiti) Authenticate(ctx context.Context, flow Flow, inputs map[string]string) (Grant, error) {
	values, err := typed(f.Fields(), inputs)
	if err != nil {
		return Grant{}, err
	}
	id, scope := values["client_id"], values["scope"]
	g := Grant{Inputs: map[string]string{"client_id": id, "client_secret": values["client_secret"], "scope": scope}}
	g.Account = Account{ID: id + ":" + scope, Details: []Detail{{"client_id", id}, {"scope", scope}}}

	var refusal *RejectedError
	g.Token, err = f.mint(ctx, g.Inputs)
	switch {
	case errors.As(err, &refusal) && refusal.Reason == "invalid_role":
		return Grant{}, &InputError{Field: "client_id", Code: InputNotAllowed}
	case errors.As(err, &refusal) && guidShaped(id) && !guidShaped(values["client_secret"]): // here the secret is the GUID
		return Grant{}, &InputError{Field: "client_id", Code: InputSwapped}
	case errors.As(err, &refusal):
		return Grant{}, unknownCredentials(values, f.info.Environment)
	case err != nil:
		return Grant{}, err
	}
	if values["merchant_username"] != "" && values["merchant_password"] != "" {
		f.name(ctx, flow, values, &g)
	}
	return g, nil
}

// Refresh spends the refresh token while it lives, else mints: the secret is here, so no failure of the one needs to
// stop the other. Whether a late refresh token is answered with 400, 401, 409 or 500 is undocumented.
func (f *flexiti) Refresh(ctx context.Context, g Grant) (Token, error) {
	if g.Refresh != "" {
		answered := false
		t, err := f.token(ctx, "refresh", g.Inputs, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {g.Refresh}}, &answered)
		var later *RateLimitedError
		if err == nil || errors.As(err, &later) || !answered {
			return t, err
		}
	}
	return f.mint(ctx, g.Inputs)
}

func (f *flexiti) Check(ctx context.Context) (CheckResult, error) {
	return f.wire.check(ctx, f.ask("check", url.Values{}))
}

func (f *flexiti) ask(name string, form url.Values) request {
	return request{name: name, method: http.MethodPost, address: f.api + "/v2.5/oauth/token", form: form, reference: reference()}
}

func (f *flexiti) mint(ctx context.Context, inputs map[string]string) (Token, error) {
	return f.token(ctx, "mint", inputs, url.Values{"grant_type": {"client_credentials"}}, new(bool))
}

func (f *flexiti) token(ctx context.Context, name string, inputs map[string]string, form url.Values, answered *bool) (t Token, err error) {
	if inputs["client_id"] == "" || inputs["client_secret"] == "" {
		return Token{}, &RejectedError{Reason: "no-credentials"}
	}
	for _, key := range []string{"client_id", "client_secret", "scope"} {
		form.Set(key, inputs[key])
	}
	err = f.wire.do(ctx, f.ask(name, form), func(a answer) (err error) {
		*answered = true
		t, err = flexitiToken(a, inputs["scope"])
		return err
	})
	return t, err
}

func flexitiToken(a answer, scope string) (Token, error) {
	o := a.object()
	access := o.accessToken("access_token")
	if !a.ok() || access == "" || o.text("error") != "" {
		return Token{}, flexitiRefusal(a)
	}
	t := Token{
		Access: access, Type: o.tokenType("token_type"), Refresh: o.text("refresh_token"), Scope: o.words("scope"),
		Lifetime: a.lifetime(o, access, 1200*time.Second, "expires_in"),
	}
	if len(t.Scope) == 0 && scope != "" {
		t.Scope = []string{scope}
	}
	if t.Refresh != "" {
		t.RefreshLifetime = t.Lifetime // it cannot be used once the access token has expired
	}
	return t, nil
}

// flexitiRefusal knows the documented refusals alone; a 401 here has no meaning that could be relied on.
func flexitiRefusal(a answer) error {
	if a.status < 500 {
		switch code := strings.ToLower(a.object().text("error")); code {
		case "invalid_client", "invalid_role", "invalid_credentials":
			return &RejectedError{Reason: code}
		}
	}
	return a.unusable()
}

// name asks the deprecated login for the merchant's name and form values: the only call that ever told them. It may
// be gone or refuse; the connection stands without it, and the username and password are not kept.
func (f *flexiti) name(ctx context.Context, flow Flow, values map[string]string, g *Grant) {
	lang := "en"
	if strings.HasPrefix(strings.ToLower(flow.Locale), "fr") {
		lang = "fr"
	}
	q := request{
		name: "login", method: http.MethodPost, bearer: g.Access, reference: reference(),
		address: f.api + "/v2.5/client-id/" + url.PathEscape(values["client_id"]) + "/merchants/login?lang=" + lang,
		json: map[string]any{
			"merchant_username": values["merchant_username"], "merchant_password": values["merchant_password"],
		},
	}
	_ = f.wire.do(ctx, q, func(a answer) error {
		if !a.ok() || a.object() == nil {
			return a.unusable()
		}
		g.Account = flexitiMerchant(a.object(), g.Account)
		return nil
	})
}

func flexitiMerchant(o object, account Account) Account {
	account.Name = accountName(o.label("merchant_name"))
	for _, key := range []string{"merchant_id", "merchant_name"} {
		if value := o.label(key); value != "" {
			account.Details = append(account.Details, Detail{key, value})
		}
	}
	for _, key := range []string{"form_values", "occupation_id"} {
		if value := display(o[key]); value != "" {
			account.Details = append(account.Details, Detail{key, value})
		}
	}
	return account
}

// reference is a GUID in the 32 characters that x-reference-id has room for.
func reference() string {
	var raw [16]byte
	rand.Read(raw[:]) // never fails since Go 1.24
	return hex.EncodeToString(raw[:])
}
