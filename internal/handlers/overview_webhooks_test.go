package handlers

import (
	"strings"
	"testing"

	"patchbay/internal/audit"
)

func TestTheOverviewNamesWebhooksThatFail(t *testing.T) {
	t.Parallel()
	s := newTestServer(t)
	p := s.staff(audit.RoleSupport)
	e, _, err := s.webhooks.Add(t.Context(), audit.System, "http://127.0.0.1:9/hooks?token=of-the-query", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range []struct {
		what, set, says string
	}{
		{"works", `failing_since = NULL`, ""},
		{"fails", `failing_since = now()`, "takes no webhooks"},
		{"was switched off because it fails", `off_at = now(), off_reason = 'failing'`, "were switched off"},
		{"answered that it is gone", `off_at = now(), off_reason = 'gone'`, "were switched off"},
		{"was switched off by an admin", `off_at = now(), off_reason = 'admin', failing_since = NULL`, ""},
	} {
		if _, err := s.db.Pool.Exec(t.Context(), `UPDATE webhook_endpoints SET `+one.set+` WHERE id = $1`, e.ID); err != nil {
			t.Fatal(err)
		}
		todo := p.get("/admin").text("section.act")
		if said := strings.Contains(todo, "127.0.0.1:9"); said != (one.says != "") || !strings.Contains(todo, one.says) || strings.Contains(todo, "of-the-query") {
			t.Errorf("an endpoint that %s: %q", one.what, todo)
		}
	}
}
