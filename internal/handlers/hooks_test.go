package handlers

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/sandbox"
	"patchbay/internal/status"
)

func TestWebhook(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p, other := s.merchant("CH168 Shop"), s.merchant("CH168 Warehouse")
	p.connect("caminvoice", "KHUID00001234")
	other.connect("caminvoice", "KHUID00001234")
	deliver := func(secret, body string) int {
		r := request(t, http.MethodPost, s.url+"/hooks/caminvoice/"+secret, strings.NewReader(body))
		return p.do(r).status
	}
	revoked := `{"type":"ENTITY.REVOKED","endpoint_id":"KHUID00001234"}`
	if got := deliver("wrong", revoked); got != http.StatusNotFound {
		t.Errorf("a wrong secret: %d, want 404", got)
	}
	for _, body := range []string{`{"type":"DOCUMENT.DELIVERED","document_id":"x","endpoint_id":"KHUID00001234"}`, `{"type":"NEW.KIND"}`, `not json`, ``} {
		if got := deliver("hook-secret-of-the-test", body); got != http.StatusNoContent {
			t.Errorf("%q: %d, want 204", body, got)
		}
	}
	if got := deliver("hook-secret-of-the-test", strings.Repeat("x", 20<<10)); got != http.StatusRequestEntityTooLarge {
		t.Errorf("a large body: %d, want 413", got)
	}
	if n := dbtest.Verifications(t, s.db); n != 0 {
		t.Fatalf("%d hints kept", n)
	}
	if got := deliver("hook-secret-of-the-test", revoked); got != http.StatusNoContent {
		t.Errorf("a revocation: %d, want 204", got)
	}
	if n := dbtest.Verifications(t, s.db); n != 2 {
		t.Errorf("%d hints kept, want one for each merchant's connection", n)
	}
	deliver("hook-secret-of-the-test", revoked) // told twice
	if n := s.events(status.ConnectionRevocationNoticed); n != 2 {
		t.Errorf("%d lines in the stories of two connections", n)
	}
	page := "/connections/" + p.connections()[0].ID.String()
	p.wants(page, words("event.hook.revoked", "Provider", "CamInvoice"))
	s.staff(audit.RoleSupport).wants(page, words("event.hook.revoked", "Provider", "CamInvoice"), words("why.verifying"))
	for _, c := range append(p.connections(), other.connections()...) {
		if c.Problem != "" {
			t.Errorf("a hint was believed: %s", c.Problem)
		}
	}
	for _, path := range []string{"/hooks/acme/hook-secret-of-the-test", "/hooks/nobody/hook-secret-of-the-test"} {
		if got := p.post(path).status; got != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", path, got)
		}
	}
}

func TestRefreshNow(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p := s.merchant("CH168 Shop")
	p.connect("caminvoice", "KHUID00001234")
	path := "/connections/" + p.connections()[0].ID.String()
	if got := p.post(path + "/refresh"); got.status != http.StatusSeeOther || !p.get(got.location).says("outcome.ok", "Provider", "CamInvoice") || p.get(path).document().Find(`main [role="status"]`).Length() != 0 || s.sandbox.Calls("caminvoice", "refresh") != 1 {
		t.Errorf("refresh: %d, %d calls", got.status, s.sandbox.Calls("caminvoice", "refresh"))
	}
	if err := s.sandbox.SetFault("caminvoice", sandbox.Fault{Kind: sandbox.Unavailable, Endpoint: "refresh", RetryAfter: time.Minute}); err != nil {
		t.Fatal(err)
	}
	support := s.staff(audit.RoleSupport)
	if got := support.get(support.post(path + "/refresh").location); got.status != http.StatusOK || !strings.Contains(got.body, "503") {
		t.Errorf("support's refresh on a bad day: %d, without the provider's status", got.status)
	}
	if got := p.get(path); strings.Contains(got.body, "HTTP 503") {
		t.Error("merchants see HTTP statuses")
	}
	s.sandbox.ClearFaults("caminvoice")
	s.sandbox.Revoke("caminvoice", "KHUID00001234")
	p.post(path + "/refresh")
	if c := p.connections()[0]; c.Problem != status.ProblemRejected && c.Problem != status.ProblemRevoked {
		t.Errorf("after a revocation the problem is %q", c.Problem)
	}
	if home := p.get("/"); !home.says("connections.reconnect", "Provider", "CamInvoice") {
		t.Error("the list does not say what to press")
	}
	p.connect("caminvoice", "KHUID00001234")
	if c := p.connections()[0]; c.Problem != "" || len(p.connections()) != 1 {
		t.Errorf("renewed, and still %q", c.Problem)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p := s.visitor("")
	for _, path := range []string{"/livez", "/readyz"} {
		if got := p.get(path); got.status != http.StatusOK {
			t.Errorf("%s: %d", path, got.status)
		}
	}
	dbtest.WrongKeyset(t, s.db)
	if got := p.get("/readyz"); got.status != http.StatusServiceUnavailable {
		t.Errorf("with a wrong keyset: %d, want 503", got.status)
	}
	if got := p.get("/livez"); got.status != http.StatusOK {
		t.Errorf("/livez: %d", got.status)
	}
}

func TestELECQByServer(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{ELECQ: sandbox.ELECQOptions{Authorize: "server"}}))
	p := s.merchant("Canal Parking")
	_, page := p.connect("elecq", "100245")
	wantH1(t, page, "ELECQ is connected")

	direct := newTestServer(t, withSandbox(sandbox.Options{ELECQ: sandbox.ELECQOptions{Authorize: "server", Direct: true}}))
	p = direct.merchant("Canal Parking")
	got := p.post("/connect/elecq")
	if !strings.HasPrefix(got.location, "/flows/") {
		t.Fatalf("nobody took part: %d %q", got.status, got.location)
	}
	wantH1(t, p.get(got.location), "ELECQ did not ask you")
	if len(p.connections()) != 0 {
		t.Error("the operator's account was connected")
	}
}

func TestELECQByCredentials(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{ELECQ: sandbox.ELECQOptions{Authorize: "credentials"}}))
	p := s.merchant("Canal Parking")
	got := p.post("/connect/elecq", "client_id", "canal-parking", "client_secret", "elecq-canal-5f0d1c7be2a94c36")
	wantH1(t, p.get(got.location), "ELECQ is connected")
	if got := p.get(p.get("/connect/elecq/callback?code=x").location); got.status != http.StatusNotFound {
		t.Errorf("a callback where there is none: %d, want 404", got.status)
	}
}
