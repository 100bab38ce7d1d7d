package handlers

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/status"
)

func TestAPauseIsShownAndEndedByAnAdmin(t *testing.T) {
	t.Parallel()
	s := newTestServer(t)
	admin, support := s.staff(audit.RoleAdmin), s.staff(audit.RoleSupport)
	if page := admin.get("/admin/providers/caminvoice"); page.has(`button[value="resume"]`) || page.says("admin_providers.paused") {
		t.Error("a pause that there is not")
	}
	dbtest.Pause(t, s.db, "caminvoice", s.db.Now().Add(4*time.Minute))
	admin.wants("/admin", words("admin_providers.paused"))
	if page := support.wants("/admin/providers/caminvoice", words("admin_providers.paused")); page.has(`button[value="resume"]`) {
		t.Error("support may end it")
	}
	if page := admin.wants("/admin/providers/caminvoice", words("admin_providers.paused")); !page.has(`button[value="resume"]`) {
		t.Error("an admin may not end it")
	}
	if got := support.post("/admin/providers/caminvoice", "do", "resume"); got.status != http.StatusForbidden {
		t.Errorf("support: %d", got.status)
	}
	if got := admin.post("/admin/providers/caminvoice", "do", "resume"); got.status != http.StatusSeeOther {
		t.Fatalf("admin: %d", got.status)
	}
	if page := admin.get("/admin/providers/caminvoice"); page.has(`button[value="resume"]`) || s.events(status.ProviderResumed) != 1 {
		t.Errorf("not ended, %d events", s.events(status.ProviderResumed))
	}
}

// TestWhyARefreshFailedIsForStaff: the connector's reason stands in the staff's timeline, not in the merchant's.
func TestWhyARefreshFailedIsForStaff(t *testing.T) {
	t.Parallel()
	s := newTestServer(t)
	shop := s.merchant("Riverside Bakery")
	id := s.addUnrenewable(shop.merchant, "caminvoice", 0)
	e := audit.Event{Kind: status.RefreshTemporary, Outcome: status.Temporary, Provider: "caminvoice", ConnectionID: id, MerchantID: shop.merchant, Status: 200, Note: "no-token (HTTP 200, access_token is missing)"}
	if err := s.db.Audit.Record(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	s.staff(audit.RoleSupport).wants("/connections/"+id.String(), e.Note)
	if page := shop.get("/connections/" + id.String()); page.status != http.StatusOK || strings.Contains(page.text("main"), e.Note) {
		t.Errorf("the merchant's page: %d", page.status)
	}
}
