package handlers

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"patchbay/internal/audit"
	"patchbay/internal/status"
)

// TestARequestIsNamedEverywhere: the id in an answer's header stands on its error page, in its problem, in the log and in the
// events that it caused.
func TestARequestIsNamedEverywhere(t *testing.T) {
	t.Parallel()
	s := newTestServer(t)
	p := s.visitor("")
	for name, path := range map[string]string{"a page": "/login", "a missing page": "/nothing", "what operators ask": "/livez", "a style": "/static/none.css"} {
		id := p.get(path).request
		if len(id) != 16 || !strings.Contains(s.log.String(), "request="+id) {
			t.Errorf("%s: the id %q is not in the log", name, id)
		}
	}
	missing := p.get("/nothing")
	if id := missing.request; !strings.Contains(missing.body, id) {
		t.Errorf("the error page does not name %s", id)
	}
	refused := p.get("/api/v1/connections")
	var problem struct {
		RequestID string `json:"request_id"`
	}
	if err := json.Unmarshal([]byte(refused.body), &problem); err != nil || refused.status != http.StatusUnauthorized {
		t.Fatalf("%d %v", refused.status, err)
	}
	if problem.RequestID != refused.request {
		t.Errorf("the problem names %q, the header %q", problem.RequestID, refused.request)
	}
	user := s.merchant("Shop")
	signedIn := user.post("/login", "email", user.email, "password", password)
	events, err := s.db.Audit.Latest(t.Context(), 1, status.UserSignedIn)
	if err != nil || len(events) != 1 {
		t.Fatal(events, err)
	}
	if events[0].Actor == (audit.Actor{}) || events[0].Actor.Request != signedIn.request {
		t.Errorf("the event of the sign-in names %q, the answer %q", events[0].Actor.Request, signedIn.request)
	}
	if a, b := p.get("/login"), p.get("/login"); a.request == b.request {
		t.Error("two requests have one id")
	}
}
