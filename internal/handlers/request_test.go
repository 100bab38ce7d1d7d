package handlers

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"patchbay/internal/audit"
	"patchbay/internal/db"
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

// TestEveryAnswerHasItsHeaders asks for every page as those who come by, and for what is no page.
func TestEveryAnswerHasItsHeaders(t *testing.T) {
	t.Parallel()
	s := newTestServer(t)
	own, boss := s.merchant("CH168 Shop"), s.staff(audit.RoleAdmin)
	fill := s.things(own, boss)
	paths := []string{"/nothing", "/livez", "/readyz", "/metrics", "/static/none.css", "/api/v1/connections", "/api/v1/openapi.yaml", "/api/v1/nothing"}
	for _, one := range s.server.routes() {
		if method, pattern, _ := strings.Cut(one.pattern, " "); method == http.MethodGet {
			paths = append(paths, fill.Replace(pattern))
		}
	}
	routes := s.server.Routes()
	for _, path := range paths {
		for _, p := range []*person{s.visitor(""), own, boss} {
			r := request(t, http.MethodGet, s.url+path, nil)
			r.RequestURI = ""
			for _, c := range p.client.Jar.Cookies(r.URL) {
				r.AddCookie(c)
			}
			w := httptest.NewRecorder()
			routes.ServeHTTP(w, r)
			h := w.Header()
			policy := h.Get("Content-Security-Policy")
			if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") && !strings.Contains(policy, "sandbox") || strings.Contains(policy, "unsafe-eval") {
				t.Errorf("%s: %d, policy %q", path, w.Code, policy)
			}
			for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin", "Access-Control-Allow-Origin": ""} {
				if got := h.Get(name); got != want {
					t.Errorf("%s: %d, %s is %q", path, w.Code, name, got)
				}
			}
			if h.Get("Cache-Control") != "no-store" && strings.Contains(h.Get("Content-Type"), "html") {
				t.Errorf("%s: %d, is kept: %q", path, w.Code, h.Get("Cache-Control"))
			}
			if w.Body.Len() > 0 && h.Get("Content-Type") == "" {
				t.Errorf("%s: %d, no type", path, w.Code)
			}
		}
	}
}

// TestALineOfTheLogSaysWhoAsked also of what they were denied.
func TestALineOfTheLogSaysWhoAsked(t *testing.T) {
	t.Parallel()
	s := newTestServer(t)
	own, helper := s.merchant("CH168 Shop"), s.staff(audit.RoleSupport)
	key, secret, err := s.db.AddAPIKey(t.Context(), audit.System, db.APIKey{Name: "billing", Scopes: []string{db.ScopeTokens}})
	if err != nil {
		t.Fatal(err)
	}
	id := func(p *person) string {
		u, err := s.accounts.UserByEmail(t.Context(), p.email)
		if err != nil {
			t.Fatal(err)
		}
		return u.ID.String()
	}
	byKey := request(t, http.MethodGet, s.url+"/api/v1/connections", nil)
	byKey.Header.Set("Authorization", "Bearer "+string(secret))
	for name, c := range map[string]struct {
		got          answer
		status       int
		role, sender string
	}{
		"a merchant in the back office": {own.get("/admin"), http.StatusNotFound, "merchant", id(own)},
		"support at what is for admins": {helper.post("/admin/keys", "name", "x"), http.StatusForbidden, "support", id(helper)},
		"support where it may be":       {helper.get("/admin"), http.StatusOK, "support", id(helper)},
		"a key without the scope":       {s.visitor("").do(byKey), http.StatusForbidden, "key", key.ID.String()},
		"a stranger without a key":      {s.visitor("").get("/api/v1/connections"), http.StatusUnauthorized, "", ""},
		"a stranger in the back office": {s.visitor("").get("/admin"), http.StatusSeeOther, "", ""},
	} {
		line := ""
		for one := range strings.Lines(s.log.String()) {
			if strings.Contains(one, "msg=request") && strings.Contains(one, c.got.request) {
				line = one
			}
		}
		want := " role=" + c.role + " id=" + c.sender + " "
		if c.role == "" {
			want = ""
		}
		if c.got.status != c.status || line == "" || !strings.Contains(line, want) || want == "" && strings.Contains(line, " role=") {
			t.Errorf("%s: %d %q, want %q", name, c.got.status, line, want)
		}
	}
}
