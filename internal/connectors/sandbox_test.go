package connectors_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"patchbay/internal/connectors"
	"patchbay/internal/sandbox"
	"patchbay/internal/status"
)

const appURL = "http://127.0.0.1:4242"

// withSandbox returns a sandbox, and every provider's connector set up against it as an operator would.
func withSandbox(t *testing.T, o sandbox.Options) (*sandbox.Sandbox, map[string]connectors.Connector) {
	t.Helper()
	o.AnswerAtOnce, o.AppURLs = true, []string{appURL}
	s, err := sandbox.Start("127.0.0.1:0", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	settings := s.Settings()
	providers, err := connectors.Load(func(name string) string { return settings[name] }, s.ConnectorsFile(), connectors.NewClient(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]connectors.Connector{}
	for _, p := range providers {
		if p.Connector != nil { // the sandbox imitates it
			all[p.Name] = p.Connector
		}
	}
	return s, all
}

// visited follows the provider's redirects as a browser would, until they lead back to us.
func visited(t *testing.T, location string) url.Values {
	t.Helper()
	browser := http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for range 5 {
		res, err := browser.Get(location)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		to, err := res.Location()
		if err != nil {
			t.Fatalf("%d from the provider: %v", res.StatusCode, err)
		}
		if location = to.String(); "http://"+to.Host == appURL {
			return to.Query()
		}
	}
	t.Fatal("the provider never sent the browser back")
	return nil
}

// connected connects, refreshes twice and probes.
func connected(t *testing.T, c connectors.Connector, inputs map[string]string) connectors.Grant {
	t.Helper()
	f := flow()
	f.CallbackURL = appURL + "/connect/" + c.Info().Name + "/callback"
	if registrar, ok := c.(connectors.CallbackRegistrar); ok {
		if err := registrar.RegisterCallback(t.Context(), f.CallbackURL); err != nil {
			t.Fatalf("registering the callback: %v", err)
		}
	}
	var g connectors.Grant
	var err error
	switch c := c.(type) {
	case connectors.Redirector:
		location, begun := c.AuthorizationURL(t.Context(), f)
		if begun != nil {
			t.Fatalf("authorize: %v", begun)
		}
		g, err = c.Exchange(t.Context(), f, visited(t, location))
	case connectors.CredentialConnector:
		g, err = c.Authenticate(t.Context(), f, inputs)
	}
	if err != nil {
		t.Fatalf("connecting: %v", err)
	}
	for range 2 {
		token, err := c.Refresh(t.Context(), g)
		if err != nil || token.Access == "" || token.Lifetime <= 0 {
			t.Fatalf("refresh: %v", err)
		}
		g.Access = token.Access
		if token.Refresh != "" {
			g.Refresh = token.Refresh
		}
	}
	// The sandbox keeps no opaque tokens: it recognises a JWT by its signature.
	if prober, ok := c.(connectors.Prober); ok && strings.Contains(g.Access, ".") {
		if err := prober.Probe(t.Context(), g); err != nil {
			t.Errorf("probe: %v", err)
		}
	}
	return g
}

func TestSandbox(t *testing.T) {
	s, all := withSandbox(t, sandbox.Options{})
	flexiti, bookings := sandbox.SampleFlexitiMerchants()[0], sandbox.SampleBookingsMerchants()[0]
	for name, inputs := range map[string]map[string]string{
		"caminvoice": nil, "elecq": nil, "acme": nil,
		"flexiti": {
			"client_id": flexiti.ClientID, "client_secret": flexiti.ClientSecret,
			"merchant_username": flexiti.Username, "merchant_password": flexiti.Password,
		},
		"bookings": {"client_id": bookings.ClientID, "client_secret": bookings.ClientSecret},
	} {
		t.Run(name, func(t *testing.T) {
			g := connected(t, all[name], inputs)
			if g.Account.ID == "" || name == "flexiti" && g.Account.Name != flexiti.MerchantName {
				t.Errorf("%+v", g.Account)
			}
			if hooked, ok := all[name].(connectors.WebhookReceiver); ok {
				if err := hooked.RegisterWebhook(t.Context(), appURL+"/hooks/caminvoice/x"); err != nil {
					t.Errorf("registering the webhook: %v", err)
				}
			}
			if revoker, ok := all[name].(connectors.Revoker); ok {
				if err := revoker.Revoke(t.Context(), g); err != nil {
					t.Fatalf("revoke: %v", err)
				}
				if _, err := all[name].Refresh(t.Context(), g); connectors.OutcomeOf(err) != status.Rejected {
					t.Errorf("refresh after revoking: %v", err)
				}
			}
		})
	}
	if spent := s.DoubleSpends(); len(spent) > 1 { // the one refresh after revoking
		t.Errorf("spent twice: %v", spent)
	}
}

// TestSandboxCheck: a fault that meets refreshing meets the live check too, which spends no grant.
func TestSandboxCheck(t *testing.T) {
	s, all := withSandbox(t, sandbox.Options{})
	m := sandbox.SampleFlexitiMerchants()[0]
	connected(t, all["flexiti"], map[string]string{"client_id": m.ClientID, "client_secret": m.ClientSecret})
	acme := connected(t, all["acme"], nil)
	for name, c := range all {
		checker := c.(connectors.Checker)
		if found, err := checker.Check(t.Context()); err != nil || found.Took < time.Millisecond {
			t.Errorf("%s without a fault: %+v, %v", name, found, err)
		}
		for kind, want := range map[sandbox.FaultKind]status.Outcome{
			sandbox.Error500: status.Temporary, sandbox.Unavailable: status.Temporary, sandbox.Redirect: status.Temporary, sandbox.HangUp: status.Temporary,
			sandbox.Forbidden: status.OK, sandbox.TooMany: status.OK,
		} {
			if err := s.SetFault(name, sandbox.Fault{Kind: kind}); err != nil {
				t.Fatal(err)
			}
			if _, err := checker.Check(t.Context()); connectors.OutcomeOf(err) != want {
				t.Errorf("%s with the fault %s: %v", name, kind, err)
			}
		}
		s.ClearFaults(name)
	}
	if _, err := all["acme"].Refresh(t.Context(), acme); err != nil {
		t.Errorf("a grant after the checks: %v", err)
	}
	if spent := s.DoubleSpends(); len(spent) > 0 {
		t.Errorf("spent twice: %v", spent)
	}
}

func TestSandboxCamInvoiceWordings(t *testing.T) {
	for _, refresh := range []sandbox.RefreshWording{
		sandbox.RefreshActual, sandbox.RefreshSample, sandbox.RefreshExpiresAt, sandbox.RefreshExpiresIn, sandbox.RefreshNumeric,
		sandbox.RefreshDuration, sandbox.RefreshBare, sandbox.RefreshOpaque, sandbox.RefreshWithToken,
	} {
		_, all := withSandbox(t, sandbox.Options{CamInvoice: sandbox.CamInvoiceOptions{Refresh: refresh, Rotate: refresh == sandbox.RefreshWithToken}})
		g := connected(t, all["caminvoice"], nil)
		if token, err := all["caminvoice"].Refresh(t.Context(), g); err != nil || (token.Lifetime.Seconds()-900) > 2 || (token.Lifetime.Seconds()-900) < -2 {
			t.Errorf("%s: %s, %v", refresh, token.Lifetime, err)
		}
	}
	for _, exchange := range []sandbox.ExchangeWording{
		sandbox.ExchangeDays, sandbox.ExchangeNumber, sandbox.ExchangeUserProfile, sandbox.ExchangeData, sandbox.ExchangeNoEndpoint,
		sandbox.ExchangeNoInfo, sandbox.ExchangeExtra, sandbox.ExchangeNoDate,
	} {
		_, all := withSandbox(t, sandbox.Options{CamInvoice: sandbox.CamInvoiceOptions{
			Exchange: exchange, RefreshAtSeedPath: true, SecondQuestionMark: true, EchoState: true,
		}})
		if g := connected(t, all["caminvoice"], nil); g.Account.ID == "" {
			t.Errorf("%s: %+v", exchange, g.Account)
		}
	}
	for _, wording := range []sandbox.ErrorWording{sandbox.ErrorsOAuth, sandbox.ErrorsMessage, sandbox.ErrorsBare} {
		s, all := withSandbox(t, sandbox.Options{CamInvoice: sandbox.CamInvoiceOptions{Errors: wording}})
		g := connected(t, all["caminvoice"], nil)
		s.Revoke(sandbox.CamInvoice, g.Account.ID)
		want := status.Rejected
		if wording == sandbox.ErrorsBare {
			want = status.ClientRejected
		}
		if _, err := all["caminvoice"].Refresh(t.Context(), g); connectors.OutcomeOf(err) != want {
			t.Errorf("%q: %v", wording, err)
		}
	}
}

func TestSandboxElecq(t *testing.T) {
	merchant := sandbox.SampleELECQMerchants()[0]
	for name, o := range map[string]sandbox.ELECQOptions{
		"server":      {Authorize: "server"},
		"credentials": {Authorize: "credentials"},
		"seed":        {CodeParam: "authorizationCode", SuccessCode: "000000"},
		"quiet":       {OmitRefreshToken: true, HTTPErrors: true, EchoState: true},
		"anonymous":   {AnonymousTokens: true},
	} {
		t.Run(name, func(t *testing.T) {
			s, all := withSandbox(t, sandbox.Options{ELECQ: o})
			g := connected(t, all["elecq"], map[string]string{"client_id": merchant.ClientID, "client_secret": merchant.ClientSecret})
			if (g.Account.ID == "") != (name == "anonymous") {
				t.Errorf("%+v", g.Account)
			}
			s.Expire(sandbox.ELECQ, "", "both")
			_, err := all["elecq"].Refresh(t.Context(), g)
			if want := map[bool]status.Outcome{true: status.OK, false: status.Rejected}[name == "credentials"]; connectors.OutcomeOf(err) != want {
				t.Errorf("after the refresh token lapsed: %v", err)
			}
		})
	}
	_, all := withSandbox(t, sandbox.Options{ELECQ: sandbox.ELECQOptions{Authorize: "server", Direct: true}})
	f := flow()
	f.CallbackURL = appURL + "/connect/elecq/callback"
	if _, err := all["elecq"].(connectors.Redirector).AuthorizationURL(t.Context(), f); connectors.OutcomeOf(err) != status.ClientRejected {
		t.Errorf("a Location that is our own callback: %v", err)
	}
}
