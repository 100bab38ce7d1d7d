package connectors_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"patchbay/internal/connectors"
)

func TestNothingSetUp(t *testing.T) {
	all, err := connectors.Load(func(string) string { return "" }, nil, connectors.NewClient(nil, nil))
	if err != nil || len(all) != len(connectors.BuiltIn()) {
		t.Fatalf("%d providers, %v", len(all), err)
	}
	for i, d := range connectors.BuiltIn() {
		p := all[i]
		if p.Name != d.Name || p.Title != d.Title || p.Connector != nil || len(p.Missing) < 2 || len(p.Settings) < len(p.Missing) {
			t.Errorf("%s: %+v", d.Name, p)
		}
		for _, setting := range p.Settings {
			if !strings.HasPrefix(setting.Name, d.SettingPrefix()) {
				t.Errorf("%s reads %s, which does not begin with %s", d.Name, setting.Name, d.SettingPrefix())
			}
		}
	}
}

func TestPartlySetUp(t *testing.T) {
	settings := map[string]string{"CAMINVOICE_API_URL": "https://x.example", "CAMINVOICE_ENVIRONMENT": "sandbox", "ELECQ_AUTHORIZE": "credentials"}
	all, err := connectors.Load(func(name string) string { return settings[name] }, nil, connectors.NewClient(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"CAMINVOICE_CLIENT_ID", "CAMINVOICE_CLIENT_SECRET"}; !slices.Equal(all[0].Missing, want) || all[0].Connector != nil {
		t.Errorf("CamInvoice lacks %v", all[0].Missing)
	}
	if slices.Contains(all[1].Missing, "ELECQ_CLIENT_ID") {
		t.Errorf("ELECQ lacks %v", all[1].Missing)
	}
}

func TestFaults(t *testing.T) {
	settings := map[string]string{
		"CAMINVOICE_API_URL": "https://x.example/api/v1", "CAMINVOICE_ENVIRONMENT": "test", "CAMINVOICE_HOOK_SECRET": "a/b",
		"CAMINVOICE_CONNECT_URL": "http://x.example",
		"ELECQ_AUTHORIZE":        "credentials", "ELECQ_CLIENT_ID": "not used and no fault", "ELECQ_TOKEN_URL": "elecq.example/token",
		"FLEXITI_API_URL": "https://u:hunter2@x.example/flexiti", "BOOKINGS_API_URL": "https://x.example?k=hunter2",
		"ACME_SECRET": "hunter2",
	}
	entries := `[
		{"name":"caminvoice","issuer":"https://x.example","client_id":"i","client_secret_env":"ACME_SECRET","environment":"sandbox"},
		{"name":"a","client_id":"i","client_secret_env":"NOT_SET","environment":"sandbox","client_auth":"jwt","keep_alive":"7 days"},
		{"name":"b","issuer":"http://x.example","client_secret":"hunter2","environment":"production","colour":"red","logo":1,"Title":"B","isuer":"https://x.example"},
		{"name":"b","issuer":7,"tokenurl":"","replay_safe":"yes","client_id":"i","client_secret_env":"ACME_SECRET","environment":"sandbox","scopes":["a b"]},
		{"name":"Übel"},
		"hunter2"
	]`
	_, err := connectors.Load(func(name string) string { return settings[name] }, []byte(entries), connectors.NewClient(nil, nil))
	text := fmt.Sprint(err)
	for _, want := range []string{
		"CAMINVOICE_API_URL must not hold /api/v1", "CAMINVOICE_ENVIRONMENT must be", "CAMINVOICE_HOOK_SECRET may hold", "CAMINVOICE_CONNECT_URL must begin with https",
		"ELECQ_TOKEN_URL must be a whole address", "FLEXITI_API_URL must not hold a user", "FLEXITI_API_URL must end with",
		"BOOKINGS_API_URL must not hold a query",
		"entry caminvoice: name is taken", "entry a: authorize_url is missing", "entry a: token_url is missing", "entry a: client_secret_env names NOT_SET",
		"entry a: client_auth must", "entry a: keep_alive must", "entry b: client_secret does not belong", "entry b: has the unknown key colour",
		"entry b: has the unknown key logo", "entry b: has the unknown key Title: did you mean title?", "entry b: has the unknown key isuer", "entry b: issuer must begin with https", "entry b: client_id is missing", "entry b: name is taken",
		"entry b: issuer has the wrong type", "entry b: replay_safe has the wrong type", "unknown key tokenurl: did you mean token_url?", "entry b: scopes must", "entry 5: name must", "entry 6: must be an object",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no word of %q", want)
		}
	}
	if strings.Contains(text, "ELECQ_CLIENT_ID") {
		t.Errorf("a setting that is merely not used is called a fault:\n%s", text)
	}
	if strings.Contains(text, "hunter2") {
		t.Errorf("a value shows:\n%s", text)
	}
	if _, err := connectors.Load(func(string) string { return "" }, []byte(`{"name":"a"}`), connectors.NewClient(nil, nil)); err == nil {
		t.Error("an object for a list")
	}
	for address, good := range map[string]bool{
		"https://x.example": true, "http://127.0.0.1:4711": true, "http://localhost:1": true, "http://[::1]:1": true, "http://caminvoice.localhost": true,
		"http://x.example": false, "https://x.example/": false, "ftp://x.example": false, "http://127.0.0.1.evil.example": false,
	} {
		s := map[string]string{
			"CAMINVOICE_API_URL": address, "CAMINVOICE_CLIENT_ID": "i", "CAMINVOICE_CLIENT_SECRET": "s", "CAMINVOICE_ENVIRONMENT": "production",
		}
		if _, err := connectors.Load(func(name string) string { return s[name] }, nil, connectors.NewClient(nil, nil)); (err == nil) != good {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestCheck(t *testing.T) {
	status, location := http.StatusUnauthorized, ""
	base := serve(t, map[string]http.HandlerFunc{"/api/v1/auth/token": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(90*time.Second).UTC().Format(http.TimeFormat))
		w.Header().Set("Location", location)
		w.WriteHeader(status)
	}})
	check := func(base string) (connectors.CheckResult, error) {
		t.Helper()
		return connector(t, base, "caminvoice", "", camInvoiceSettings).(connectors.Checker).Check(t.Context())
	}
	found, err := check(base)
	if err != nil || (found.Skew-90*time.Second).Abs() > 2*time.Second || found.Address != base+"/api/v1/auth/token" || found.Took < time.Millisecond {
		t.Errorf("%+v, %v", found, err)
	}
	for code, want := range map[int]string{200: "", 400: "", 404: "", 405: "", 422: "", 429: "", 302: "redirected", 308: "redirected", 500: "status", 502: "status", 503: "status"} {
		status, location = code, base+"/elsewhere"
		found, err := check(base)
		var temporary *connectors.TemporaryError
		if want == "" && err != nil || want != "" && (!errors.As(err, &temporary) || temporary.Reason != want) {
			t.Errorf("%d: %v", code, err)
		}
		if (found.Skew - 90*time.Second).Abs() > 2*time.Second {
			t.Errorf("%d: skew %s", code, found.Skew)
		}
	}
	if _, err := check("http://127.0.0.1:1"); err == nil || err.Error() != "trouble: unreachable" {
		t.Errorf("nobody there: %v", err)
	}
	stranger := httptest.NewTLSServer(http.NotFoundHandler())
	stranger.Config.ErrorLog = log.New(io.Discard, "", 0)
	defer stranger.Close()
	if _, err := check(stranger.URL); err == nil || err.Error() != "trouble: certificate" {
		t.Errorf("an unknown certificate: %v", err)
	}
}

// TestConsentThatEndsWantsTheMerchantAgain: also where a key was typed, "reconnect by" is said.
func TestConsentThatEndsWantsTheMerchantAgain(t *testing.T) {
	const entries = `[
		{"name":"a","kind":"key","inputs":{"key":{"secret":true}},"send":{"header":"X-Api-Key","value":"{key}"},"environment":"production"},
		{"name":"b","kind":"key","inputs":{"key":{"secret":true}},"send":{"header":"X-Api-Key","value":"{key}"},"environment":"production","grant_life":"8760h"}]`
	all, err := connectors.Load(func(string) string { return "" }, []byte(entries), connectors.NewClient(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	if found := connectors.Statuses(all); !found["a"].Credentials || found["b"].Credentials {
		t.Errorf("%+v and %+v", found["a"], found["b"])
	}
}
