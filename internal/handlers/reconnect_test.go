package handlers

import (
	"context"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/sandbox"
)

// back reconnects a connection and returns the page it comes back to.
func (p *person) back(id pg.ID, account string) (path string, page answer) {
	p.t.Helper()
	got := p.post("/connections/" + id.String() + "/reconnect")
	if got.status != http.StatusSeeOther || !strings.HasPrefix(got.location, p.sandbox.BaseURL()) {
		p.t.Fatalf("reconnect: %d %q", got.status, got.location)
	}
	return p.comeBack(p.consent(got.location, account, "allow"))
}

func TestReconnect(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p := s.merchant("CH168 Shop")
	p.connect("acme", "acme-user-001")
	first := p.connections()[0]

	_, page := p.back(first.ID, "acme-user-001")
	wantH1(t, page, "Acme is connected again")
	if now := p.connections(); len(now) != 1 || now[0].ID != first.ID {
		t.Fatalf("reconnecting made %d connections", len(now))
	}

	path, page := p.back(first.ID, "acme-user-002")
	wantH1(t, page, "This is another account than before")
	if now := p.connections(); len(now) != 1 || now[0].Account.ID != "acme-user-001" {
		t.Fatal("written before the person has chosen")
	}
	p.post(path+"/choice", "choice", "connect") // not among the choices
	wantH1(t, p.get(path), "This is another account than before")
	p.post(path+"/choice", "choice", "cancel")
	wantH1(t, p.get(path), "Not connected, as you chose")
	if now := p.connections(); len(now) != 1 || now[0].Account.ID != "acme-user-001" {
		t.Fatal("cancelling changed something")
	}

	path, _ = p.back(first.ID, "acme-user-002")
	p.post(path+"/choice", "choice", "keep-both")
	now := p.connections()
	if len(now) != 2 || now[0].ID != first.ID || now[1].Account.ID != "acme-user-002" {
		t.Fatalf("keep both: %d connections", len(now))
	}
	second := now[1]

	if got := s.staff(audit.RoleSupport).get("/connections/" + first.ID.String()); !got.says("attempt.kept-both") {
		t.Error("support is not told that another account answered")
	}
	p.post("/connections/"+first.ID.String()+"/nickname", "nickname", "My first shop")
	path, page = p.back(first.ID, "acme-user-003")
	if !strings.Contains(page.body, "My first shop") {
		t.Error("the choice does not call the account of before by its nickname")
	}
	p.post(path+"/choice", "choice", "replace")
	now = p.connections()
	if now[0].Nickname != "" {
		t.Errorf("another account has inherited the nickname %q", now[0].Nickname)
	}
	if len(now) != 2 || now[0].ID != first.ID || now[0].Account.ID != "acme-user-003" {
		t.Fatalf("replace: %+v", now[0].Account.ID)
	}

	path, page = p.back(first.ID, "acme-user-002") // which has a connection: that one is renewed, this one ends
	if !page.says("choice.differs.replace.help-there", "Account", second.Account.Name, "Before", now[0].Account.Name) {
		t.Error("the choice does not say that the other account is connected already")
	}
	p.post(path+"/choice", "choice", "replace")
	now = p.connections()
	if len(now) != 1 || now[0].ID != second.ID {
		t.Fatalf("replace by an account that is connected: %d connections", len(now))
	}
	if got := p.get("/connections/" + first.ID.String()); got.status != http.StatusOK || !strings.Contains(got.body, "receipt") {
		t.Errorf("the replaced connection's page: %d", got.status)
	}
}

func TestAlreadyConnected(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p := s.merchant("CH168 Shop")
	p.connect("acme", "acme-user-001")
	id := p.connections()[0].ID
	path, page := p.comeBack(p.consent(p.leave("acme"), "acme-user-001", "allow"))
	wantH1(t, page, "This account is already connected")
	p.post(path+"/choice", "choice", "connect")
	wantH1(t, p.get(path), "Acme is connected again")
	if now := p.connections(); len(now) != 1 || now[0].ID != id {
		t.Errorf("%d connections, want the one there was", len(now))
	}
	p.post(path+"/choice", "choice", "cancel") // a second click, too late
	wantH1(t, p.get(path), "Acme is connected again")
}

func TestKeyedForms(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p := s.merchant("ACME Jewellers")
	got := p.post("/connect/flexiti", "client_id", "flexitidemo", "client_secret", "", "scope", "customer")
	if got.status != http.StatusUnprocessableEntity || !got.has(`[value="flexitidemo"]`) {
		t.Errorf("a missing secret: %d; the id must be kept", got.status)
	}
	got = p.post("/connect/flexiti", "client_id", "flexitidemo", "client_secret", "wrong-secret-of-mine", "scope", "merchant")
	if got.status != http.StatusUnprocessableEntity || strings.Contains(got.body, "wrong-secret-of-mine") || !got.has(`[value="flexitidemo"]`) {
		t.Errorf("a wrong secret: %d", got.status)
	}
	got = p.post("/connect/flexiti", "client_id", "secret_of_mine_12", "client_secret", "flexitidemo", "scope", "merchant")
	if !got.says("error.swapped") || strings.Contains(got.body, "secret_of_mine_12") {
		t.Error("the secret, recognised in the id's field, is shown again")
	}
	if err := s.sandbox.SetFault("flexiti", sandbox.Fault{Kind: sandbox.Error500, Count: 1}); err != nil {
		t.Fatal(err)
	}
	good := []string{"client_id", "flexitidemo", "client_secret", "77xde15a-9d33-4c15-930a-3se4b3as33e9", "scope", "merchant"}
	got = p.post("/connect/flexiti", good...)
	if got.status != http.StatusBadGateway || !got.says("connect.refused-trouble", "Provider", "Flexiti") {
		t.Errorf("a bad day: %d", got.status)
	}
	if err := s.sandbox.SetFault("flexiti", sandbox.Fault{Kind: sandbox.TooMany, RetryAfter: 17 * time.Second, Count: 1}); err != nil {
		t.Fatal(err)
	}
	if got = p.post("/connect/flexiti", good...); got.status != http.StatusServiceUnavailable || got.retryAfter != "17" {
		t.Errorf("asked to wait: %d, Retry-After %q", got.status, got.retryAfter)
	}
	if len(p.connections()) != 0 {
		t.Fatal("a failed try saved something")
	}
	got = p.post("/connect/flexiti", good...)
	wantH1(t, p.get(got.location), "Flexiti is connected")
	id := p.connections()[0].ID.String()

	got = p.post("/connect/flexiti", good...)
	wantH1(t, p.get(got.location), "This account is already connected")

	got = p.post("/connections/" + id + "/reconnect")
	if got.location != "/connect/flexiti?connection="+id {
		t.Fatalf("reconnect went to %q", got.location)
	}
	if form := p.get(got.location); !strings.Contains(form.body, `name="connection" value="`+id+`"`) {
		t.Error("the form is not pinned")
	}
	got = p.post("/connect/flexiti", append(good, "connection", id)...)
	wantH1(t, p.get(got.location), "Flexiti is connected again")
	got = p.post("/connect/flexiti", "client_id", "snowbikes", "client_secret", "e81f6d32-7b9c-4a6d-b1e4-50c7a3f92d68", "scope", "merchant", "connection", id)
	wantH1(t, p.get(got.location), "This is another account than before")

	for range 40 { // nobody is held up for keys that are right
		if got := p.post("/connect/flexiti", append(good, "connection", id)...); got.status != http.StatusSeeOther {
			t.Fatalf("again with the right keys: %d", got.status)
		}
	}

	stranger := s.merchant("Stranger")
	if got := stranger.get("/connect/flexiti?connection=" + id); got.status != http.StatusNotFound {
		t.Errorf("somebody else's connection in the form: %d, want 404", got.status)
	}
}

func TestBadDaysHaveTheirPage(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p := s.merchant("CH168 Shop")
	for kind, want := range map[sandbox.FaultKind]string{
		sandbox.Error500: "CamInvoice is not answering", sandbox.HTML: "Something is wrong on our side", sandbox.Empty: "Something is wrong on our side",
		sandbox.Lost: "CamInvoice is not answering", sandbox.TooMany: "CamInvoice asks us to wait", sandbox.ClientRefused: "Something is wrong on our side",
		sandbox.Refused: "CamInvoice said no",
	} {
		callback := p.consent(p.leave("caminvoice"), "KHUID00001234", "allow")
		if err := s.sandbox.SetFault("caminvoice", sandbox.Fault{Kind: kind, Endpoint: "exchange"}); err != nil {
			t.Fatal(err)
		}
		path, page := p.comeBack(callback)
		wantH1(t, page, want)
		if !strings.Contains(page.body, strings.TrimPrefix(path, "/flows/")) {
			t.Errorf("%s: no reference to quote", kind)
		}
		if told := page.says("flow.retry-after"); told != (kind == sandbox.TooMany) {
			t.Errorf("%s: says when to try again: %t", kind, told)
		}
		s.sandbox.ClearFaults("caminvoice")
	}
	if len(p.connections()) != 0 {
		t.Error("a bad day saved something")
	}
}

func TestDisconnect(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p, other := s.merchant("CH168 Shop"), s.merchant("CH168 Warehouse")
	p.connect("caminvoice", "KHUID00001234")
	other.connect("caminvoice", "KHUID00001234")
	mine, theirs := p.connections()[0].ID.String(), other.connections()[0].ID.String()

	if got := p.get("/connections/" + mine + "/disconnect"); got.status != http.StatusOK {
		t.Fatalf("asking: %d", got.status)
	}
	for _, path := range []string{"", "/disconnect", "/refresh", "/reconnect"} {
		got := p.post("/connections/" + theirs + path)
		missing := p.post("/connections/" + pg.NewID().String() + path)
		if path != "" && (got.status != http.StatusNotFound || missing.status != http.StatusNotFound) {
			t.Errorf("%s of somebody else's: %d, of nobody's: %d", path, got.status, missing.status)
		}
	}
	got := p.post("/connections/" + mine + "/disconnect")
	if got.location != "/connections/"+mine {
		t.Fatalf("disconnect: %d %q", got.status, got.location)
	}
	if n := s.sandbox.Calls("caminvoice", "revoke"); n != 0 {
		t.Errorf("%d revocations while another merchant has the business connected", n)
	}
	receipt := p.get("/connections/" + mine)
	if !receipt.has("#receipt") || strings.Contains(receipt.body, "Warehouse") || receipt.says("receipt.revoked-done", "Provider", "CamInvoice") {
		t.Error("the receipt tells what it must not, or nothing")
	}
	if !receipt.has(`[href="` + s.sandbox.BaseURL() + `/"]`) {
		t.Error("the receipt does not lead to where access can be ended")
	}
	if len(other.connections()) != 1 {
		t.Fatal("another merchant lost its connection")
	}
	other.post("/connections/" + theirs + "/disconnect")
	other.post("/connections/" + theirs + "/disconnect") // a second click
	if n := s.sandbox.Calls("caminvoice", "revoke"); n != 1 {
		t.Errorf("%d revocations, want 1", n)
	}
	if !other.get("/connections/"+theirs).says("receipt.revoked-done", "Provider", "CamInvoice") {
		t.Error("the receipt does not say that access was ended")
	}
	if n := dbtest.SealedGrants(t, s.db); n != 0 {
		t.Errorf("%d grants are left", n)
	}

	p.connect("caminvoice", "KHUID00001234") // after a revocation it can be connected anew
	if len(p.connections()) != 1 {
		t.Fatal("not connected anew")
	}
	if err := s.sandbox.SetFault("caminvoice", sandbox.Fault{Kind: sandbox.Error500, Endpoint: "revoke"}); err != nil {
		t.Fatal(err)
	}
	id := p.connections()[0].ID.String()
	admin := s.staff(audit.RoleAdmin)
	admin.post("/connections/" + id + "/disconnect")
	if !p.get("/connections/"+id).says("receipt.revoked-later", "Provider", "CamInvoice") {
		t.Error("a failed revocation is not told")
	}
	if len(p.connections()) != 0 {
		t.Error("a failed revocation kept the connection")
	}
	support := s.staff(audit.RoleSupport)
	if got := support.post("/connections/" + id + "/disconnect"); got.status != http.StatusForbidden {
		t.Errorf("support may not disconnect: %d", got.status)
	}
}

// TestRevocationIsRetried: a provider that did not hear that access has ended, because it was down or because we were, is told
// later; one that did, is not told twice; and what somebody else needs is spared then too.
func TestRevocationIsRetried(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	ctx := context.Background()
	receipt := func(p *person, id pg.ID, want string) bool {
		return p.get("/connections/"+id.String()).says(want, "Provider", "CamInvoice")
	}
	const later, done = "receipt.revoked-later", "receipt.revoked-done"

	told := s.merchant("Told")
	told.connect("caminvoice", "KHUID00001234")
	heard := told.connections()[0].ID
	told.post("/connections/" + heard.String() + "/disconnect")
	if calls := s.sandbox.Calls("caminvoice", "revoke"); calls != 1 || !receipt(told, heard, done) {
		t.Fatalf("%d revocations at once, or no receipt of it", calls)
	}

	down := s.merchant("Provider Down")
	down.connect("caminvoice", "KHUID00005678")
	unheard := down.connections()[0].ID
	if err := s.sandbox.SetFault("caminvoice", sandbox.Fault{Kind: sandbox.Error500, Endpoint: "revoke"}); err != nil {
		t.Fatal(err)
	}
	down.post("/connections/" + unheard.String() + "/disconnect")
	if !receipt(down, unheard, later) {
		t.Error("the receipt does not say that we ask again")
	}
	s.sandbox.ClearFaults("caminvoice")

	died, sharer := s.merchant("We Died"), s.merchant("Sharer")
	for _, account := range []string{"KHUID00001234", "KHUID00009012"} {
		died.connect("caminvoice", account)
	}
	sharer.connect("caminvoice", "KHUID00001234")
	for _, c := range died.connections() {
		if _, _, err := s.db.Disconnect(ctx, c.ID, died.merchant, audit.System, s.jobs); err != nil { // and no more
			t.Fatal(err)
		}
		if !receipt(died, c.ID, later) {
			t.Error("the receipt of what nobody was asked about does not say that we ask")
		}
	}

	before := s.sandbox.Calls("caminvoice", "revoke")
	dbtest.DueJobs(t, s.db, "revoke")
	s.startJobs()
	// The shared account's is looked at again when a choice about it must be over.
	dbtest.Eventually(t, "the end of the jobs", func() bool {
		_, over := dbtest.Jobs(t, s.db, "revoke", 10*time.Minute)
		return over >= 4
	})
	if n := s.sandbox.Calls("caminvoice", "revoke") - before; n != 2 {
		t.Errorf("%d accounts were told later, want 2", n)
	}
	if !receipt(down, unheard, done) {
		t.Error("the receipt does not say that it was told in the end")
	}
	if len(sharer.connections()) != 1 {
		t.Error("somebody else lost the account")
	}
}

func TestRevocationSparesAWaitingChoice(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p, other := s.merchant("CH168 Shop"), s.merchant("CH168 Warehouse")
	p.connect("caminvoice", "KHUID00001234")
	path, _ := other.comeBack(other.consent(other.leave("caminvoice"), "KHUID00001234", "allow"))
	p.post("/connections/" + p.connections()[0].ID.String() + "/disconnect")
	other.post(path+"/choice", "choice", "cancel")
	if n := s.sandbox.Calls("caminvoice", "revoke"); n != 0 {
		t.Errorf("%d revocations while somebody was choosing, or by a cancelled choice", n)
	}
}

func TestNoSecretIsReadable(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p := s.merchant("CH168 Shop")
	var pages strings.Builder
	_, page := p.connect("caminvoice", "KHUID00001234")
	pages.WriteString(page.body)
	for provider, account := range map[string]string{"elecq": "100245", "acme": "acme-user-001"} {
		_, page := p.connect(provider, account)
		pages.WriteString(page.body)
	}
	got := p.post("/connect/flexiti", "client_id", "flexitidemo", "client_secret", "77xde15a-9d33-4c15-930a-3se4b3as33e9", "scope", "merchant",
		"merchant_username", "acmejewellers", "merchant_password", "dice-vanila-purse")
	pages.WriteString(p.get(got.location).body)
	p.comeBack(p.consent(p.leave("caminvoice"), "KHUID00005678", "allow")) // left waiting
	p.leave("acme")                                                        // never comes back
	callback := p.consent(p.leave("acme"), "acme-user-002", "allow")
	p.post("/logout")
	p.get(callback) // an answer that waits
	support := s.staff(audit.RoleSupport)
	for _, c := range p.connections() {
		pages.WriteString(support.get("/connections/" + c.ID.String()).body)
	}

	stored := dbtest.Dump(t, s.db)
	for _, secret := range append(s.sandbox.Secrets(), "correct horse battery") {
		for where, text := range map[string]string{"database": stored, "log": s.log.String(), "pages": pages.String()} {
			if strings.Contains(text, secret) || strings.Contains(text, hex.EncodeToString([]byte(secret))) {
				t.Errorf("the %s holds %.12s…", where, secret)
			}
		}
	}
	for _, word := range []string{"authToken=", "code=", "state="} {
		if strings.Contains(s.log.String(), word) {
			t.Errorf("the log holds a callback's %s", word)
		}
	}
}
