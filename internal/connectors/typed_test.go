package connectors_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"patchbay/internal/connectors"
)

func TestFlexitiOpen(t *testing.T) {
	s := httptest.NewServer(flexitiGood())
	t.Cleanup(s.Close)
	c := connector(t, s.URL, "flexiti", "", flexitiSettings).(connectors.CredentialConnector)
	for locale, name := range map[string]string{"fr": "Bijoutiers ACME", "fr-CA": "Bijoutiers ACME", "km": "ACME Jewellers", "": "ACME Jewellers"} {
		ctx, calls := connectors.WithCalls(t.Context())
		g, err := c.Authenticate(ctx, connectors.Flow{Locale: locale}, flexitiInputs())
		if err != nil {
			t.Fatal(err)
		}
		a := g.Account
		if a.ID != "flexitidemo:customer" || a.Name != name || a.Detail("merchant_id") != "123456" ||
			a.Detail("form_values") != `{"province":{"options":{"QC":"Québec"}}}` || a.Detail("occupation_id") == "" {
			t.Errorf("%s: %+v", locale, a)
		}
		if len(calls.All) != 2 || len(calls.All[0].Reference) != 32 || calls.All[0].Reference == calls.All[1].Reference {
			t.Errorf("references: %+v", calls.All)
		}
		for name := range g.Inputs {
			if strings.HasPrefix(name, "merchant_") {
				t.Errorf("%s is kept", name)
			}
		}
		if len(g.Scope) != 1 || g.Scope[0] != "customer" || g.Type != "Bearer" || g.RefreshLifetime != g.Lifetime {
			t.Errorf("scope %v, type %s, %s, %s", g.Scope, g.Type, g.Lifetime, g.RefreshLifetime)
		}
	}
}

// TestFlexitiReferences: each call is recorded with the reference that was sent with it.
func TestFlexitiReferences(t *testing.T) {
	var sent []string
	good := flexitiGood()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent = append(sent, r.Header.Get("x-reference-id"))
		good.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	c := connector(t, s.URL, "flexiti", "", flexitiSettings).(connectors.CredentialConnector)
	ctx, calls := connectors.WithCalls(t.Context())
	g, err := c.Authenticate(ctx, connectors.Flow{}, flexitiInputs())
	if err != nil {
		t.Fatal(err)
	}
	for _, spent := range []string{g.Refresh, "spent already", ""} { // the second is refused and minted anew, the third minted at once
		g.Refresh = spent
		if _, err := c.Refresh(ctx, g); err != nil {
			t.Errorf("refresh: %v", err)
		}
	}
	var kept []string
	for _, call := range calls.All {
		kept = append(kept, call.Reference)
	}
	if !slices.Equal(sent, kept) || len(kept) != 6 || len(slices.Compact(slices.Sorted(slices.Values(kept)))) != 6 {
		t.Errorf("sent %v, kept %v", sent, kept)
	}
}

func TestTypedMistakes(t *testing.T) {
	asked := 0
	count := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked++; h.ServeHTTP(w, r) })
	}
	flexiti, bookings := httptest.NewServer(count(flexitiGood())), httptest.NewServer(count(bookingsGood(true)()))
	t.Cleanup(flexiti.Close)
	t.Cleanup(bookings.Close)
	f := connector(t, flexiti.URL, "flexiti", "", flexitiSettings).(connectors.CredentialConnector)
	b := connector(t, bookings.URL, "bookings", "", bookingsSettings).(connectors.CredentialConnector)
	for name, c := range map[string]struct {
		to     connectors.CredentialConnector
		inputs map[string]string
		want   string
		asked  int
	}{
		"flexiti, wrong secret":            {f, map[string]string{"client_id": "flexitidemo", "client_secret": "x"}, "client_secret: refused", 1},
		"flexiti, mistyped secret":         {f, map[string]string{"client_id": "flexitidemo", "client_secret": "77xde15a-9d33-4c15-930a-000000000000"}, "client_secret: refused", 1},
		"flexiti, swapped":                 {f, map[string]string{"client_id": "77xde15a-9d33-4c15-930a-000000000000", "client_secret": "flexitidemo"}, "client_id: swapped", 1},
		"flexiti, no role":                 {f, map[string]string{"client_id": "unprovisioned", "client_secret": "x"}, "client_id: not-allowed", 1},
		"flexiti, unknown scope":           {f, map[string]string{"client_id": "a", "client_secret": "b", "scope": "admin"}, "scope: not-offered", 0},
		"flexiti, too long":                {f, map[string]string{"client_id": strings.Repeat("a", 101), "client_secret": "b"}, "client_id: too-long", 0},
		"flexiti, Khmer":                   {f, map[string]string{"client_id": "ក្រុម", "client_secret": "b"}, "client_id: not-ascii", 0},
		"the same twice":                   {f, map[string]string{"client_id": "a", "client_secret": "a"}, "client_id: swapped", 0},
		"named secret":                     {f, map[string]string{"client_id": "secret_67890", "client_secret": "client_12345"}, "client_id: swapped", 0},
		"a name that holds the word":       {f, map[string]string{"client_id": "secretgarden", "client_secret": "x"}, "client_secret: refused", 1},
		"flexiti, sandbox key refused":     {f, map[string]string{"client_id": "live-shop", "client_secret": "b"}, "client_id: environment", 1},
		"bookings, swapped":                {b, map[string]string{"client_id": bookingsSecret, "client_secret": bookingsID}, "client_id: swapped", 0},
		"bookings, swapped and short":      {b, map[string]string{"client_id": "short", "client_secret": bookingsID}, "client_id: swapped", 1},
		"bookings, wrong secret":           {b, map[string]string{"client_id": bookingsID, "client_secret": "x"}, "client_secret: refused", 1},
		"bookings, test key in production": {b, map[string]string{"client_id": bookingsID, "client_secret": bookingsSecret}, "client_id: environment", 1},
	} {
		asked = 0
		g, err := c.to.Authenticate(t.Context(), connectors.Flow{}, c.inputs)
		var input *connectors.InputError
		if !errors.As(err, &input) || err.Error() != c.want || asked != c.asked || g.Access != "" {
			t.Errorf("%s: %v after %d calls", name, err, asked)
		}
	}
}

func TestFlexitiRefresh(t *testing.T) {
	inputs := map[string]string{"client_id": "i", "client_secret": "s", "scope": "merchant"}
	for name, c := range map[string]struct {
		refresh, mint http.HandlerFunc
		want          string // class, then the grants asked for
	}{
		"in time":          {says(200, `{"access_token":"T","refresh_token":"R2"}`), nil, "ok [refresh_token]"},
		"late, 400":        {says(400, `{"error":"invalid_request"}`), says(200, `{"access_token":"T"}`), "ok [refresh_token client_credentials]"},
		"late, 401":        {says(401, `{"error":"invalid_token"}`), says(200, `{"access_token":"T"}`), "ok [refresh_token client_credentials]"},
		"late, 500":        {says(500, ``), says(200, `{"access_token":"T"}`), "ok [refresh_token client_credentials]"},
		"late, no token":   {says(200, `{"error":"x"}`), says(200, `{"access_token":"T"}`), "ok [refresh_token client_credentials]"},
		"secret rotated":   {says(400, `{"error":"invalid_client"}`), says(400, `{"error":"invalid_client"}`), "refused [refresh_token client_credentials]"},
		"role taken":       {says(409, `{"error":"invalid_role"}`), says(409, `{"error":"invalid_role"}`), "refused [refresh_token client_credentials]"},
		"bad request":      {says(409, `{"error":"wrong_inputs"}`), says(409, `{"error":"wrong_inputs"}`), "trouble [refresh_token client_credentials]"},
		"asked to wait":    {says(429, ``), nil, "later [refresh_token]"},
		"maintenance, 503": {says(503, ``), nil, "trouble [refresh_token]"},
	} {
		var grants []string
		base := serve(t, map[string]http.HandlerFunc{"POST /flexiti/pos-api/v2.5/oauth/token": func(w http.ResponseWriter, r *http.Request) {
			grants = append(grants, r.PostFormValue("grant_type"))
			if r.PostFormValue("scope") != "merchant" || r.PostFormValue("client_secret") != "s" {
				t.Error("scope or secret is missing")
			}
			if r.PostFormValue("grant_type") == "refresh_token" {
				c.refresh(w, r)
				return
			}
			c.mint(w, r)
		}})
		_, err := connector(t, base, "flexiti", "", flexitiSettings).Refresh(t.Context(), connectors.Grant{Token: connectors.Token{Refresh: "R"}, Inputs: maps.Clone(inputs)})
		if got := fmt.Sprint(connectors.OutcomeOf(err), " ", grants); got != c.want {
			t.Errorf("%s: %s, want %s (%v)", name, got, c.want, err)
		}
	}
}

func TestBookingsAccount(t *testing.T) {
	s := httptest.NewServer(bookingsGood(false)())
	t.Cleanup(s.Close)
	c := connector(t, s.URL, "bookings", "", bookingsSettings).(connectors.CredentialConnector)
	g, err := c.Authenticate(t.Context(), connectors.Flow{}, map[string]string{"client_id": bookingsID, "client_secret": bookingsSecret})
	if err != nil || g.Account.ID != "f31120ee-b5cb-41c4-9529-288d02e91cd6" || strings.Join(g.Scope, " ") != "bookings:create bookings:delete" ||
		g.Lifetime.Seconds() != 3600 || g.Refresh != "" || c.Info().Title != "Stay Here" {
		t.Errorf("%+v, %v, %s, %v", g.Account, g.Token.Scope, g.Lifetime, err)
	}
	// An opaque token names no account: then the client id takes its place.
	base := serve(t, map[string]http.HandlerFunc{"POST /api/oauth/token": says(200, `{"access_token":"opaque"}`)})
	g, err = connector(t, base, "bookings", "", bookingsSettings).(connectors.CredentialConnector).Authenticate(t.Context(), connectors.Flow{},
		map[string]string{"client_id": bookingsID, "client_secret": bookingsSecret})
	if err != nil || g.Account.ID != bookingsID {
		t.Errorf("%+v, %v", g.Account, err)
	}
}
