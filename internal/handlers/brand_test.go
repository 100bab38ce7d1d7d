package handlers

import (
	"net/http"
	"strings"
	"testing"

	"patchbay/internal/jobs"
	"patchbay/views"
)

func TestTheBrandIsServedSafely(t *testing.T) {
	t.Parallel()
	const script = `<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`
	s := newTestServer(t, withOptions(func(o *Options, _ *jobs.Options) {
		o.Brand = views.Brand{Name: "Angkor Market", Color: "#1a4d8f", Logo: []byte(script), LogoType: "image/svg+xml"}
	}))
	page := s.visitor("").get("/login")
	for _, path := range []string{s.server.Brand.LogoURL(), s.server.Brand.SheetURL()} {
		if !strings.Contains(page.body, path) {
			t.Errorf("the page has no %s", path)
		}
		got, err := client.Get(s.url + path)
		if err != nil {
			t.Fatal(err)
		}
		got.Body.Close()
		policy := got.Header.Get("Content-Security-Policy")
		if got.StatusCode != http.StatusOK || !strings.Contains(policy, "sandbox") || !strings.Contains(policy, "default-src 'none'") || got.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d, %q", path, got.StatusCode, policy)
		}
	}
	for _, path := range []string{"/brand/", "/brand/logo.000000000000.svg", "/brand/../login"} {
		if got := s.visitor("").get(path); got.status == http.StatusOK {
			t.Errorf("%s: %d", path, got.status)
		}
	}
}
