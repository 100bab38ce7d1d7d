package refresh_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/sandbox"
	"patchbay/internal/status"
)

// Every provider as it is, on good days and bad, with the real connectors and the sandbox's imitations.
func TestEveryProviderThroughItsFaults(t *testing.T) {
	s, err := sandbox.Start("127.0.0.1:0", sandbox.Options{
		AnswerAtOnce: true, AppURLs: []string{callbackSite}, CamInvoice: sandbox.CamInvoiceOptions{Callbacks: []string{callbackSite + "/connect/caminvoice/callback"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	settings := s.Settings()
	setups, err := connectors.Load(func(name string) string { return settings[name] }, s.ConnectorsFile(), connectors.NewClient(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	d := dbtest.New(t)
	merchant, err := d.AddMerchant(t.Context(), audit.System, db.Merchant{Name: "CH168 Shop"})
	if err != nil {
		t.Fatal(err)
	}
	for _, setup := range setups {
		if setup.Connector == nil {
			continue // the sandbox does not imitate it
		}
		t.Run(setup.Name, func(t *testing.T) {
			_, keyed := setup.Connector.(connectors.CredentialConnector)
			g, err := obtain(t, s, setup)
			if err != nil {
				t.Fatal(err)
			}
			id, err := d.AddConnection(t.Context(), merchant.ID, setup.Name, setup.Environment, g, d.Now(), setup.Connector.Info())
			if err != nil {
				t.Fatal(err)
			}
			// Others of the same provider, so that one connection's bad day is not everybody's.
			for range 3 {
				other := g
				other.Account.ID = "other " + pg.NewID().String()
				if _, err := d.AddConnection(t.Context(), merchant.ID, setup.Name, setup.Environment, other, d.Now(), setup.Connector.Info()); err != nil {
					t.Fatal(err)
				}
			}
			e := refresh.New(refresh.Options{DB: d, Connectors: []connectors.Connector{setup.Connector}, Log: slog.New(slog.DiscardHandler), Deadline: 2 * time.Second})
			defer e.Stop(context.Background())
			ours := status.ClientRejected
			if keyed || setup.Name == sandbox.ELECQ { // what the merchant typed; and ELECQ's 401 on refresh says nothing of whose fault it is
				ours = status.Rejected
			}
			for _, c := range []struct {
				fault   sandbox.Fault
				outcome status.Outcome
			}{
				{sandbox.Fault{Kind: sandbox.NoFault}, status.OK},
				{sandbox.Fault{Kind: sandbox.Error500}, status.Temporary},
				{sandbox.Fault{Kind: sandbox.Unavailable}, status.Temporary}, // with Retry-After: 2
				{sandbox.Fault{Kind: sandbox.HTML}, status.Temporary},
				{sandbox.Fault{Kind: sandbox.Empty}, status.Temporary},
				{sandbox.Fault{Kind: sandbox.Forbidden}, status.Temporary},
				{sandbox.Fault{Kind: sandbox.HangUp}, status.Temporary},
				{sandbox.Fault{Kind: sandbox.Redirect}, status.Temporary},
				{sandbox.Fault{Kind: sandbox.TooMany, RetryAfter: time.Second}, status.RateLimited},
				{sandbox.Fault{Kind: sandbox.ClientRefused}, ours},
				{sandbox.Fault{Kind: sandbox.Skewed, Skew: 90 * time.Second}, status.OK},
				{sandbox.Fault{Kind: sandbox.Skewed, Skew: -90 * time.Second}, status.OK},
				{sandbox.Fault{Kind: sandbox.OddLifetimes}, status.OK},
			} {
				if c.fault.Kind != sandbox.NoFault {
					if err := s.SetFault(setup.Name, c.fault); err != nil {
						t.Fatal(err)
					}
				}
				before := d.Now()
				out, err := e.RefreshNow(t.Context(), id, audit.System)
				s.ClearFaults(setup.Name)
				if err != nil || out.Outcome != c.outcome {
					t.Fatalf("with the fault %q: %s (%d %s), %v; want %s", c.fault.Kind, out.Outcome, out.Call.Status, out.Call.Code, err, c.outcome)
				}
				if c.fault.Kind == sandbox.OddLifetimes && setup.Name == "acme" { // documents no lifetime, and its token names none
					if !out.ExpiresAt.IsZero() {
						t.Errorf("a token of unknown lifetime is thought good until %s", out.ExpiresAt)
					}
				} else if c.outcome == status.OK {
					if life := out.ExpiresAt.Sub(before); life < g.Lifetime-30*time.Second || life > g.Lifetime+30*time.Second {
						t.Errorf("with the fault %q a token of %s is thought good for %s", c.fault.Kind, g.Lifetime, life)
					}
				}
			}
			for _, spend := range s.DoubleSpends() {
				if !spend.Unanswered {
					t.Errorf("a token was spent twice: %+v", spend)
				}
			}
		})
	}
}

const callbackSite = "http://127.0.0.1:8080"

// obtain connects as a merchant would.
func obtain(t *testing.T, s *sandbox.Sandbox, setup connectors.Provider) (connectors.Grant, error) {
	t.Helper()
	flow := connectors.Flow{State: "the-state", Verifier: "a-verifier-of-forty-three-characters-or-more-", CallbackURL: callbackSite + "/connect/" + setup.Name + "/callback", Locale: "en"}
	if keyed, ok := setup.Connector.(connectors.CredentialConnector); ok {
		return keyed.Authenticate(t.Context(), flow, typed(setup.Name))
	}
	redirector := setup.Connector.(connectors.Redirector)
	location, err := redirector.AuthorizationURL(t.Context(), flow)
	if err != nil {
		return connectors.Grant{}, err
	}
	browser := &http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for range 5 {
		response, err := browser.Get(location)
		if err != nil {
			return connectors.Grant{}, err
		}
		response.Body.Close()
		next, err := response.Location()
		if err != nil {
			return connectors.Grant{}, err
		}
		if next.Path == "/connect/"+setup.Name+"/callback" {
			query, err := url.ParseQuery(next.RawQuery)
			if err != nil {
				return connectors.Grant{}, err
			}
			return redirector.Exchange(t.Context(), flow, query)
		}
		location = next.String()
	}
	t.Fatal("the browser goes round in circles")
	return connectors.Grant{}, nil
}

func typed(provider string) map[string]string {
	if provider == sandbox.Flexiti {
		m := sandbox.SampleFlexitiMerchants()[0]
		return map[string]string{"client_id": m.ClientID, "client_secret": m.ClientSecret, "scope": "merchant"}
	}
	m := sandbox.SampleBookingsMerchants()[0]
	return map[string]string{"client_id": m.ClientID, "client_secret": m.ClientSecret}
}
