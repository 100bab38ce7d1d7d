package sandbox

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestControlBehindAProxy sends the page's forms under a Host that a proxy made up, as a browser without Sec-Fetch-Site does.
func TestControlBehindAProxy(t *testing.T) {
	s := New(Options{BaseURL: "http://sandbox.example:8081"})
	t.Cleanup(func() { s.Close() })
	for name, c := range map[string]struct {
		host, origin, site string
		status             int
	}{
		"a proxy that hides the host":            {"127.0.0.1:8081", "http://sandbox.example:8081", "", http.StatusOK},
		"a proxy that sends it":                  {"sandbox.example:8081", "http://sandbox.example:8081", "", http.StatusOK},
		"another name for the same sandbox":      {"box.example", "http://box.example", "", http.StatusOK},
		"a program":                              {"127.0.0.1:8081", "", "", http.StatusOK},
		"a browser that says same-origin":        {"127.0.0.1:8081", "https://box.example", "same-origin", http.StatusOK},
		"another site":                           {"sandbox.example:8081", "http://evil.example", "cross-site", http.StatusForbidden},
		"a proxy whose address is not BaseURL's": {"127.0.0.1:8081", "http://box.example", "", http.StatusForbidden},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/control/reset", strings.NewReader(""))
		r.Host = c.host
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for header, value := range map[string]string{"Origin": c.origin, "Sec-Fetch-Site": c.site} {
			if value != "" {
				r.Header.Set(header, value)
			}
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != c.status || c.status == http.StatusForbidden && !strings.Contains(w.Body.String(), "-url") {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
}
