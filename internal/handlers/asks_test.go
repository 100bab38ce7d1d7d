package handlers

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/bulk"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// TestManyAreAskedFromAList: support looks at what needs its merchant, sees who would be asked and who would not, and has it done.
func TestManyAreAskedFromAList(t *testing.T) {
	t.Parallel()
	h := newTestServer(t)
	support, sok := h.staff(audit.RoleSupport), h.merchant("CH168 Shop")
	nobody, err := h.db.AddMerchant(t.Context(), audit.System, db.Merchant{Name: "Nobody Yet"})
	if err != nil {
		t.Fatal(err)
	}
	refused := dbtest.Refused(h.db.Now())
	first := dbtest.Connection(t, h.db, sok.merchant, "caminvoice", "KHUID1", "First Co., Ltd", refused)
	second := dbtest.Connection(t, h.db, sok.merchant, "caminvoice", "KHUID2", "Second Co., Ltd", refused)
	dbtest.Connection(t, h.db, sok.merchant, "caminvoice", "KHUID3", "Third Co., Ltd")
	dbtest.Connection(t, h.db, nobody.ID, "caminvoice", "KHUID4", "Fourth Co., Ltd", refused)
	support.post("/connections/" + second.String() + "/ask")

	list := support.get("/admin/connections?who=merchant")
	begun := support.submit(list, `button[name="kind"][value="ask"]`)
	if begun.status != http.StatusSeeOther || !strings.HasPrefix(begun.location, "/admin/bulk/") {
		t.Fatalf("begin: %d %s", begun.status, begun.location)
	}
	page := support.wants(begun.location,
		words("bulk.ask-title"), words("bulk.ask-dry", "Count", 1), words("bulk.ask-merchants", "Count", 1), words("bulk.ask-before", "Count", 1), words("bulk.ask-no-person", "Count", 1), "120")
	support.wants(page.attribute(`[href*="outcome=asked-before"]`, "href"), "KHUID2")
	support.wants(page.attribute(`[href*="outcome=no-person"]`, "href"), "KHUID4")
	if n := h.events(status.ConnectionReconnectAsked); n != 1 {
		t.Errorf("a dry run asked: %d events", n)
	}
	h.startJobs()
	for range 2 {
		if got := support.submit(page, `[value="start"]`); got.status != http.StatusSeeOther {
			t.Fatalf("start: %d", got.status)
		}
	}
	id, err := pg.ParseID(strings.TrimPrefix(begun.location, "/admin/bulk/"))
	if err != nil {
		t.Fatal(err)
	}
	dbtest.Eventually(t, "the end of the asks", func() bool {
		b, err := bulk.Read(t.Context(), h.db, id)
		if err != nil {
			t.Fatal(err)
		}
		return b.State == bulk.Done
	})
	done := support.wants(begun.location, words("class.asked"), words("class.asked-before"), words("class.no-person"), "<progress")
	support.wants(done.attribute(`[href$="outcome=asked"], [href*="outcome=asked&"]`, "href"), "KHUID1", words("class.asked"))
	if got := support.get("/connections/" + first.String()); !got.says("admin_connection.written-to", "To", sok.email) {
		t.Error("the connection does not say to whom it was written")
	}
	if !strings.Contains(h.mailTo(sok.email, "First Co., Ltd"), "/reconnect/") {
		t.Error("the mail has no link to reconnect")
	}
	if n := h.events(status.ConnectionReconnectAsked); n != 2 {
		t.Errorf("%d asks for two connections", n)
	}
	again := support.submit(list, `button[name="kind"][value="ask"]`)
	if page := support.wants(again.location, words("bulk.ask-dry", "Count", 0)); page.has(`[value="start"]`) {
		t.Error("asking again at once is offered")
	}
	h.clock.Advance(25 * time.Hour)
	support.signIn("")
	again = support.submit(list, `button[name="kind"][value="ask"]`)
	support.wants(again.location, words("bulk.ask-dry", "Count", 2))
}

func TestManyAreNotAskedOfWhatFailed(t *testing.T) {
	t.Parallel()
	h := newTestServer(t)
	support := h.staff(audit.RoleSupport)
	today := h.db.Now().Format(time.DateOnly)
	if got := support.post("/admin/bulk", "list", "events", "kind", "ask", "class", "refused", "from", today, "to", today); got.status != http.StatusBadRequest {
		t.Errorf("asked from a list of events: %d %s", got.status, got.location)
	}
}
