package connectors

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
)

// bookings speaks the bookings partner's API: typed credentials as JSON, a JWT for an hour, and no refresh at all.
// Minting is opening, refreshing and probing in one.
type bookings struct {
	wire *Client
	info Info
	api  string
}

var _ interface {
	CredentialConnector
	Prober
	Checker
} = (*bookings)(nil)

func bookingsProvider() Definition {
	return Definition{Name: "bookings", Title: "Bookings", New: func(s *Settings, w *Client) Connector {
		b := &bookings{wire: w, info: Info{
			Name: "bookings", Title: "Bookings", Environment: s.Environment("BOOKINGS_ENVIRONMENT"), Color: "#6b2fa0",
			ReplaySafe: true, KeepAlive: 24 * time.Hour,
		}}
		b.api = strings.TrimRight(s.URL("BOOKINGS_API_URL", Required), "/")
		if strings.HasSuffix(b.api, "/api/oauth/token") {
			s.Invalid("BOOKINGS_API_URL", "must not hold /api/oauth/token: it is added")
		}
		b.info.Title = cmp.Or(s.Text("BOOKINGS_TITLE", 0), b.info.Title)
		return b
	}}
}

func (b *bookings) Info() Info { return b.info }

func (b *bookings) Fields() []Field {
	return []Field{{Name: "client_id"}, {Name: "client_secret", Secret: true}}
}

func (b *bookings) Authenticate(ctx context.Context, _ Flow, inputs map[string]string) (Grant, error) {
	values, err := typed(b.Fields(), inputs)
	if err != nil {
		return Grant{}, err
	}
	id, secret := values["client_id"], values["client_secret"]
	if guidShaped(secret) && !guidShaped(id) && len(id) >= 32 {
		return Grant{}, &InputError{Field: "client_id", Code: InputSwapped}
	}
	g := Grant{Inputs: values}
	var refusal *RejectedError
	g.Token, err = b.mint(ctx, values)
	switch {
	case errors.As(err, &refusal) && refusal.Reason == "unauthorized_client":
		return Grant{}, &InputError{Field: "client_id", Code: InputNotAllowed}
	case errors.As(err, &refusal) && guidShaped(secret) && !guidShaped(id):
		return Grant{}, &InputError{Field: "client_id", Code: InputSwapped}
	case errors.As(err, &refusal):
		return Grant{}, unknownCredentials(values, b.info.Environment)
	case err != nil:
		return Grant{}, err
	}
	// The token says whether it is for tests. The reverse, a live one at an address declared sandbox, is let through:
	// the partner's own sample of a token is live.
	said := claims(g.Access)
	if b.info.Environment == "production" && said.label("is_test") == "true" {
		return Grant{}, &InputError{Field: "client_id", Code: InputEnvironment}
	}
	g.Account.ID = cmp.Or(accountID(said.label("partner_id")), id)
	for _, key := range []string{"partner_id", "user_id", "is_test", "scopes"} {
		if said[key] != nil {
			g.Account.Details = append(g.Account.Details, Detail{key, display(said[key])})
		}
	}
	g.Account.Details = append(g.Account.Details, Detail{"client_id", id})
	return g, nil
}

func (b *bookings) Refresh(ctx context.Context, g Grant) (Token, error) { return b.mint(ctx, g.Inputs) }

func (b *bookings) Probe(ctx context.Context, g Grant) error {
	_, err := b.mint(ctx, g.Inputs)
	return err
}

func (b *bookings) Check(ctx context.Context) (CheckResult, error) {
	return b.wire.check(ctx, b.ask("check", map[string]any{}))
}

func (b *bookings) ask(name string, body map[string]any) request {
	return request{name: name, method: http.MethodPost, address: b.api + "/api/oauth/token", json: body}
}

func (b *bookings) mint(ctx context.Context, inputs map[string]string) (t Token, err error) {
	if inputs["client_id"] == "" || inputs["client_secret"] == "" {
		return Token{}, &RejectedError{Reason: "no-credentials"}
	}
	q := b.ask("mint", map[string]any{
		"grant_type": "client_credentials", "client_id": inputs["client_id"], "client_secret": inputs["client_secret"],
	})
	err = b.wire.do(ctx, q, func(a answer) (err error) {
		t, err = bookingsToken(a)
		return err
	})
	return t, err
}

func bookingsToken(a answer) (Token, error) {
	o := a.object()
	access := o.accessToken("access_token")
	if !a.ok() || access == "" || o.text("error") != "" {
		return Token{}, bookingsRefusal(a)
	}
	return Token{
		Access: access, Type: o.tokenType("token_type"), Scope: claims(access).words("scopes"),
		Lifetime: a.lifetime(o, access, 3600*time.Second, "expires_in"),
	}, nil
}

// bookingsRefusal judges as the likely server (Laravel Passport) answers. Nothing but the typed credentials goes into
// the request, so a 401 that is JSON can only mean them; any other is a proxy's.
func bookingsRefusal(a answer) error {
	o := a.object()
	code := strings.ToLower(o.text("error"))
	switch {
	case a.status >= 500 || o == nil:
	case code == "invalid_client", code == "unauthorized_client":
		return &RejectedError{Reason: code}
	case a.status == http.StatusUnauthorized:
		return &RejectedError{Reason: "invalid_client"}
	}
	return a.unusable()
}
