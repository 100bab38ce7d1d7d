package handlers

import (
	"bytes"
	"compress/gzip"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"

	"patchbay/internal/audit"
)

// sent returns the answer to a request as it goes over the line, and its body as it is read.
func (p *person) sent(method, path, accept string) (header http.Header, line, read []byte) {
	p.t.Helper()
	r := request(p.t, method, p.at(path), nil)
	r.Header.Set("Accept-Encoding", accept)
	got, err := p.client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer got.Body.Close()
	if line, err = io.ReadAll(got.Body); err != nil {
		p.t.Fatal(err)
	}
	if got.Header.Get("Content-Encoding") != "gzip" {
		return got.Header, line, line
	}
	unzip, err := gzip.NewReader(bytes.NewReader(line))
	if err == nil {
		read, err = io.ReadAll(unzip)
	}
	if err != nil {
		p.t.Fatalf("%s is not read: %v", path, err)
	}
	return got.Header, line, read
}

func TestPagesAreCompressedWhereItPays(t *testing.T) {
	s := newTestServer(t)
	shop, admin, nobody := s.merchant("CH168 Shop"), s.staff(audit.RoleAdmin), s.visitor("")
	for _, c := range []struct {
		who    *person
		path   string
		zipped bool
	}{
		{shop, "/", true},
		{shop, "/connect/caminvoice", true},
		{shop, "/account", true},
		{nobody, "/login", true},
		{admin, "/admin", true},
		{admin, "/admin/connections", true},
		{admin, "/admin/keys", true},
		{admin, "/account/second-factor", false},
		{nobody, "/password/not-a-secret", false},
		{nobody, "/invitations/not-a-secret", false},
		{nobody, "/links/not-a-secret", false},
		{shop, "/reconnect/not-a-secret", false},
		{admin, "/outbox", false},
		{admin, "/admin/connections.csv", false},
		{nobody, "/api/v1/openapi.yaml", false},
		{nobody, "/livez", false},
	} {
		_, whole, _ := c.who.sent(http.MethodGet, c.path, "identity")
		header, line, read := c.who.sent(http.MethodGet, c.path, "gzip, deflate, br, zstd")
		zipped := header.Get("Content-Encoding") == "gzip"
		if zipped != c.zipped || zipped && len(line)*3 > len(whole)*2 {
			t.Errorf("%s is sent in %d bytes of %d, by gzip %t", c.path, len(line), len(whole), zipped)
		}
		if zipped && !strings.Contains(strings.Join(header.Values("Vary"), ", "), "Accept-Encoding") {
			t.Errorf("%s varies by %q", c.path, header.Values("Vary"))
		}
		if zipped && !bytes.Contains(read, []byte("</html>")) {
			t.Errorf("%s is cut off", c.path)
		}
		t.Logf("%s: %d bytes, sent %d", c.path, len(whole), len(line))
	}
	for _, accept := range []string{"", "identity", "br", "gzip;q=0"} {
		if header, _, _ := shop.sent(http.MethodGet, "/", accept); header.Get("Content-Encoding") != "" {
			t.Errorf("a browser that takes %q gets %s", accept, header.Get("Content-Encoding"))
		}
	}
	if header, line, _ := shop.sent(http.MethodHead, "/", "gzip"); header.Get("Content-Encoding") != "" || len(line) > 0 {
		t.Errorf("HEAD: %v", header)
	}
}

// TestWhatIsSecretIsNotCompressed: how far a page shrinks must not tell what a secret in it is like.
func TestWhatIsSecretIsNotCompressed(t *testing.T) {
	s := newTestServer(t)
	left := maps.Clone(secretPages)
	for _, one := range s.server.routes() {
		if strings.HasPrefix(one.pattern, "GET ") && strings.Contains(one.pattern, "{secret}") && !secretPages[one.pattern] {
			t.Errorf("%s has a secret in its address and is compressed", one.pattern)
		}
		delete(left, one.pattern)
	}
	for pattern := range left {
		t.Errorf("there is no page %s", pattern)
	}
	admin := s.staff(audit.RoleAdmin)
	made := admin.post("/admin/keys", "name", "till", "scope", "tokens:read")
	header, _, read := admin.sent(http.MethodGet, made.location, "gzip")
	if header.Get("Content-Encoding") != "" || !bytes.Contains(read, []byte(`class="secret"`)) {
		t.Errorf("a key that was just made: %v", header)
	}
	if header, _, _ := admin.sent(http.MethodGet, made.location, "gzip"); header.Get("Content-Encoding") != "gzip" {
		t.Errorf("the page after that: %v", header)
	}
}
