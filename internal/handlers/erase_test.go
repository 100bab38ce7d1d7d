package handlers

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/sandbox"
	"patchbay/internal/status"
)

func TestAProgramErasesAMerchant(t *testing.T) {
	t.Parallel()
	o := newTestAPI(t)
	id, others := o.connection(o.shop, "KHUID00001234", time.Minute), o.connection(o.other, "KHUID00001234", time.Minute)
	const path = "/api/v1/merchants/shop-17"
	o.ask("DELETE", path, "", "").is(o, http.StatusUnauthorized, "unauthorized")
	o.ask("DELETE", path, o.key(pg.ID{}, db.ScopeConnections, db.ScopeTokens, db.ScopeRefresh, db.ScopeDisconnect, db.ScopeLinks, db.ScopeWebhooks), "").is(o, http.StatusForbidden, "forbidden")
	own := o.key(o.shop.ID)
	o.ask("DELETE", path, own, "").is(o, http.StatusForbidden, "forbidden")
	o.ask("DELETE", path, o.key(o.other.ID), "").is(o, http.StatusForbidden, "forbidden")
	key := o.key(pg.ID{}, db.ScopeMerchants)
	o.ask("DELETE", "/api/v1/merchants/shop-99", key, "").is(o, http.StatusNotFound, "not-found")
	o.ask("DELETE", "/api/v1/merchants/"+o.shop.ID.String(), key, "").is(o, http.StatusNotFound, "not-found")
	first := o.ask("DELETE", path, key, "")
	first.is(o, http.StatusOK, "")
	erased, _ := first.body["erased"].(map[string]any)
	revoked, _ := first.body["revoked"].(map[string]any)
	if first.body["id"] != o.shop.ID.String() || first.body["external_id"] != "shop-17" || first.body["complete"] != true || erased["connections"] != 1.0 || erased["api_keys"] != 1.0 || revoked["not_offered"] != 1.0 {
		t.Errorf("the receipt is %s", first.text)
	}
	again := o.ask("DELETE", path, key, "")
	if again.is(o, http.StatusOK, ""); again.text != first.text {
		t.Errorf("the second receipt is %s after %s", again.text, first.text)
	}
	if n := o.events(status.MerchantErased); n != 1 {
		t.Errorf("%d events", n)
	}
	all := o.key(pg.ID{})
	o.ask("GET", "/api/v1/connections/"+id.String(), all, "").is(o, http.StatusNotFound, "not-found")
	o.ask("GET", "/api/v1/connections/"+id.String()+"/token", all, "").is(o, http.StatusNotFound, "not-found")
	o.ask("GET", "/api/v1/connections", own, "").is(o, http.StatusUnauthorized, "unauthorized")
	o.ask("GET", "/api/v1/connections/"+others.String()+"/token", all, "").is(o, http.StatusOK, "")

	// The platform may begin anew under the same id: that is another merchant.
	o.ask("POST", "/api/v1/merchants", all, `{"external_id":"shop-17","name":"CH168 Shop"}`).is(o, http.StatusCreated, "")
	second := o.ask("DELETE", path, key, "")
	if second.is(o, http.StatusOK, ""); second.body["id"] == first.body["id"] {
		t.Errorf("the merchant of the same id was not erased: %s", second.text)
	}
}

// TestAProviderThatIsAwayDoesNotStopAnErasure ends access where the provider answers, and later where it does not.
func TestAProviderThatIsAwayDoesNotStopAnErasure(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p, sharer := s.merchant("CH168 Shop"), s.merchant("CH168 Warehouse")
	p.connect("caminvoice", "KHUID00001234")
	p.connect("caminvoice", "KHUID00005678")
	sharer.connect("caminvoice", "KHUID00005678")
	if err := s.sandbox.SetFault("caminvoice", sandbox.Fault{Kind: sandbox.Error500, Endpoint: "revoke"}); err != nil {
		t.Fatal(err)
	}
	if err := s.db.EraseMerchant(t.Context(), audit.System, p.merchant); err != nil {
		t.Fatal(err)
	}
	if err := s.jobs.FinishErasure(t.Context(), p.merchant); err != nil {
		t.Fatal(err)
	}
	receipt, err := s.db.Erasure(t.Context(), p.merchant)
	if err != nil || receipt.Complete() || receipt.Pending != 1 || receipt.Revoked[status.RevokedKept] != 1 || receipt.Counts.Connections != 2 {
		t.Errorf("while the provider is away the receipt is %+v, %v", receipt, err)
	}
	if dump := dbtest.Dump(t, s.db); strings.Contains(dump, "KHUID00001234") || strings.Contains(dump, "CH168 Shop") || !strings.Contains(dump, "KHUID00005678") {
		t.Error("the rest was not erased, or too much was")
	}
	if p.get("/").status != http.StatusSeeOther {
		t.Error("its people are still signed in")
	}
	s.sandbox.ClearFaults("caminvoice")
	before := s.sandbox.Calls("caminvoice", "revoke")
	dbtest.DueErasures(t, s.db)
	if err := s.jobs.FinishErasure(t.Context(), p.merchant); err != nil {
		t.Fatal(err)
	}
	receipt, err = s.db.Erasure(t.Context(), p.merchant)
	if err != nil || !receipt.Complete() || receipt.Revoked[status.RevokedDone] != 1 || s.sandbox.Calls("caminvoice", "revoke") != before+1 {
		t.Errorf("once it is back the receipt is %+v, %v", receipt, err)
	}
	if len(sharer.connections()) != 1 {
		t.Error("somebody else lost the account")
	}
}

// TestAnAdminErasesAMerchantOnItsPage types what is asked for, and other things, and reads the receipt in three languages.
func TestAnAdminErasesAMerchantOnItsPage(t *testing.T) {
	t.Parallel()
	s := newTestServer(t)
	p, boss := s.merchant("CH168 Shop"), s.staff(audit.RoleAdmin)
	page := "/admin/merchants/" + p.merchant.String()
	if !boss.get(page).has("a[href='" + page + "/erase']") {
		t.Error("its page does not lead there")
	}
	if got := boss.get(page + "/erase"); got.status != http.StatusOK || !got.says("erase.question") || !strings.Contains(got.body, "CH168 Shop") {
		t.Errorf("it does not ask: %d %s", got.status, got.h1())
	}
	for _, typed := range []string{"", "CH168", "Other Shop", "yes", "%"} {
		if got := boss.post(page+"/erase", "confirm", typed); got.status != http.StatusUnprocessableEntity || !got.says("error.confirm.other") {
			t.Errorf("%q: %d", typed, got.status)
		}
	}
	if got := boss.post(page+"/erase", "confirm", " ch168  shop "); got.status != http.StatusSeeOther || got.location != page {
		t.Errorf("%d to %s", got.status, got.location)
	}
	for _, language := range []string{"en", "fr", "km"} {
		got := boss.get(page + "?lang=" + language)
		if got.status != http.StatusOK || strings.Contains(got.body, "CH168") || strings.Contains(got.body, "erase.") {
			t.Errorf("the receipt in %s: %d %s", language, got.status, got.h1())
		}
	}
	if got := s.staff(audit.RoleSupport).get(page); !got.says("erase.receipt") || !got.says("erase.remains-events") {
		t.Error("support does not see the receipt")
	}
	if got := boss.post(page+"/erase", "confirm", "CH168 Shop"); got.location != page {
		t.Errorf("a second click: %d", got.status)
	}
	if got := boss.get("/admin/merchants/" + pg.NewID().String()); got.status != http.StatusNotFound {
		t.Errorf("one that never was: %d", got.status)
	}
	if n := s.events(status.MerchantErased); n != 1 {
		t.Errorf("%d events", n)
	}
}

// TestACallbackOfAnErasedMerchant erases while a merchant's person is at the provider, and while the provider is asked for the grant: the page says
// what became of it, nothing is kept, and access that was given meanwhile is ended.
func TestACallbackOfAnErasedMerchant(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	erase := func(p *person) {
		t.Helper()
		if err := s.db.EraseMerchant(t.Context(), audit.System, p.merchant); err != nil {
			t.Fatal(err)
		}
		if err := s.jobs.FinishErasure(t.Context(), p.merchant); err != nil {
			t.Fatal(err)
		}
	}
	away := s.merchant("CH168 Away")
	callback := away.consent(away.leave("caminvoice"), "KHUID00001234", "allow")
	erase(away)
	path, page := away.comeBack(callback)
	if path != "/connect/caminvoice/ended/forged" || page.status != http.StatusOK || exchanges(s, "caminvoice") != 0 {
		t.Errorf("a callback after the erasure leads to %s, %d, by %d exchanges", path, page.status, exchanges(s, "caminvoice"))
	}

	there := s.merchant("CH168 There")
	callback = there.consent(there.leave("caminvoice"), "KHUID00005678", "allow")
	if err := s.sandbox.SetFault("caminvoice", sandbox.Fault{Kind: sandbox.Late, Delay: 2 * time.Second}); err != nil {
		t.Fatal(err)
	}
	came := make(chan answer, 1)
	go func() { came <- there.get(callback) }()
	dbtest.Eventually(t, "the exchange", func() bool {
		var n int
		err := s.db.Pool.QueryRow(t.Context(), `SELECT count(*) FROM flows WHERE stage = 'exchanging'`).Scan(&n)
		return err == nil && n == 1
	})
	erase(there)
	got := dbtest.Receive(t, came, "the callback's answer")
	s.sandbox.ClearFaults("caminvoice")
	if got.location != "/connect/caminvoice/ended/interrupted" {
		t.Errorf("a callback during the erasure leads to %d %q", got.status, got.location)
	}
	wantH1(t, there.get(got.location), "We were interrupted")
	if n := s.sandbox.Calls("caminvoice", "revoke"); n != 1 {
		t.Errorf("the access that came meanwhile was ended by %d calls", n)
	}
	dump := dbtest.Dump(t, s.db)
	for _, gone := range []string{"KHUID00001234", "KHUID00005678", "CH168"} {
		if strings.Contains(dump, gone) {
			t.Errorf("%s came back", gone)
		}
	}
	if strings.Contains(s.log.String(), "level=ERROR") {
		t.Errorf("the log has an error: %s", s.log.String())
	}
}
