package connectors

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
)

// bookings speaks the bookings partner's API: typed credentials as JSON, a JWT that lasts an hour, and no refresh token.
// The client credentials grant (RFC 6749 section 4.4) serves to authenticate, to refresh and to probe.
type bookings struct {
	client *Client
	info   Info
	apiURL string
}

var _ interface {
	CredentialConnector
	Prober
	Checker
} = (*bookings)(nil)

func bookingsDefinition() Definition {
	return Definition{Name: "bookings", Title: "Bookings", New: func(s *Settings, client *Client) Connector {
		b := &bookings{client: client, info: Info{
			Name: "bookings", Title: "Bookings", Environment: s.Environment("BOOKINGS_ENVIRONMENT"), Color: "#6b2fa0",
			ReplaySafe: true, Mints: true, KeepAlive: 24 * time.Hour,
		}}
		b.apiURL = strings.TrimRight(s.URL("BOOKINGS_API_URL", Required), "/")
		if strings.HasSuffix(b.apiURL, "/api/oauth/token") {
			s.Invalid("BOOKINGS_API_URL", "must not hold /api/oauth/token: it is added")
		}
		b.info.Title = cmp.Or(s.Text("BOOKINGS_TITLE", 0), b.info.Title)
		b.info.HomeURL = s.URL("BOOKINGS_PORTAL_URL", AllowQuery)
		return b
	}}
}

func (b *bookings) Info() Info { return b.info }

func (b *bookings) Fields() []Field {
	return []Field{{Name: "client_id"}, {Name: "client_secret", Secret: true}}
}

func (b *bookings) Authenticate(ctx context.Context, _ Flow, inputs map[string]string) (Grant, error) {
	values, err := checkInputs(b.Fields(), inputs)
	if err != nil {
		return Grant{}, err
	}
	id, secret := values["client_id"], values["client_secret"]
	if looksLikeGUID(secret) && !looksLikeGUID(id) && len(id) >= 32 {
		return Grant{}, &InputError{Field: "client_id", Code: InputSwapped}
	}
	g := Grant{Inputs: values}
	var rejected *RejectedError
	g.Token, err = b.mint(ctx, values)
	switch {
	case errors.As(err, &rejected) && rejected.Reason == "unauthorized_client":
		return Grant{}, &InputError{Field: "client_id", Code: InputNotAllowed}
	case errors.As(err, &rejected) && looksLikeGUID(secret) && !looksLikeGUID(id):
		return Grant{}, &InputError{Field: "client_id", Code: InputSwapped}
	case errors.As(err, &rejected):
		return Grant{}, rejectedCredentials(values, b.info.Environment)
	case err != nil:
		return Grant{}, err
	}
	// The token says whether it is for tests. A live one at an address declared sandbox is let through: the partner's own
	// sample of a token is live.
	claims := unverifiedClaims(g.Access)
	if b.info.Environment == "production" && claims.displayString("is_test") == "true" {
		return Grant{}, &InputError{Field: "client_id", Code: InputEnvironment}
	}
	g.Account.ID = cmp.Or(accountID(claims.displayString("partner_id")), id)
	for _, key := range []string{"partner_id", "user_id", "is_test", "scopes"} {
		if claims[key] != nil {
			g.Account.Details = append(g.Account.Details, Detail{key, displayText(claims[key])})
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

// Check sends the token address an empty object.
func (b *bookings) Check(ctx context.Context) (CheckResult, error) {
	return b.client.check(ctx, b.tokenRequest("check", map[string]any{}))
}

func (b *bookings) tokenRequest(name string, body map[string]any) request {
	return request{name: name, method: http.MethodPost, address: b.apiURL + "/api/oauth/token", json: body}
}

func (b *bookings) mint(ctx context.Context, inputs map[string]string) (t Token, err error) {
	if inputs["client_id"] == "" || inputs["client_secret"] == "" {
		return Token{}, &RejectedError{Reason: "no-credentials"}
	}
	q := b.tokenRequest("mint", map[string]any{
		"grant_type": "client_credentials", "client_id": inputs["client_id"], "client_secret": inputs["client_secret"],
	})
	err = b.client.do(ctx, q, func(r response) (err error) {
		t, err = bookingsToken(r)
		return err
	})
	return t, err
}

func bookingsToken(r response) (Token, error) {
	o := r.object()
	access := o.accessToken("access_token")
	if !r.ok() || access == "" || o.str("error") != "" {
		return Token{}, bookingsError(r)
	}
	return usable(Token{
		Access: access, Type: o.tokenType("token_type"), Scope: unverifiedClaims(access).scopes("scopes"),
		Lifetime: r.lifetime(o, access, 3600*time.Second, "expires_in"),
	})
}

// bookingsError judges as the likely server (Laravel Passport) answers. The request holds nothing but the typed
// credentials, so that a 401 in JSON can only be about them. Any other 401 is a proxy's.
func bookingsError(r response) error {
	o := r.object()
	code := strings.ToLower(o.str("error"))
	switch {
	case r.status >= 500 || o == nil:
	case code == "invalid_client", code == "unauthorized_client":
		return &RejectedError{Reason: code}
	case r.status == http.StatusUnauthorized:
		return &RejectedError{Reason: "invalid_client"}
	}
	return r.unexpected("access_token")
}
