package handlers

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"patchbay/internal/audit"
	"patchbay/internal/pg"
)

// behind is a server whose PUBLIC_URL is https://connect.example.com, and which trusts a proxy on this machine and 10.0.0.0/8.
func behind(t *testing.T) *Server {
	t.Helper()
	o := newTestServer(t)
	return New(Options{
		DB: o.db, Accounts: o.accounts, Refresh: o.engine, Jobs: o.jobs, Log: slog.New(slog.DiscardHandler), PublicURL: &url.URL{Scheme: "https", Host: "connect.example.com"},
		SessionKeys:    [][]byte{make([]byte, 32)},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")},
	})
}

// TestHosts holds redirects to PUBLIC_URL to the address that was asked for (kutt#568).
func TestHosts(t *testing.T) {
	s := behind(t)
	routes := s.Routes()
	const proxy, stranger = "127.0.0.1:5000", "203.0.113.9:5000"
	for name, c := range map[string]struct {
		peer, method, host string
		header             map[string]string
		status             int
	}{
		"the host itself":                          {proxy, "GET", "connect.example.com", nil, 200},
		"with the implied port":                    {proxy, "GET", "connect.example.com:443", nil, 200},
		"in capitals":                              {proxy, "GET", "Connect.EXAMPLE.com", nil, 200},
		"with a final dot":                         {proxy, "GET", "connect.example.com.", nil, 200},
		"with a final dot and the port":            {proxy, "GET", "connect.example.com.:443", nil, 200},
		"another port":                             {proxy, "GET", "connect.example.com:8443", nil, 307},
		"nginx without Host":                       {proxy, "GET", "127.0.0.1:9102", nil, 200},
		"nginx without Host but the scheme":        {proxy, "GET", "127.0.0.1:9102", map[string]string{"X-Forwarded-Proto": "https"}, 200},
		"nginx with an upstream's name":            {proxy, "GET", "patchbay_upstream", nil, 200},
		"an IPv6 upstream":                         {proxy, "GET", "[::1]:9102", nil, 200},
		"a name inside the cluster":                {proxy, "GET", "patchbay.internal", nil, 200},
		"nginx without Host: a form":               {proxy, "POST", "127.0.0.1:9102", nil, 303},
		"Apache":                                   {proxy, "GET", "127.0.0.1:9102", map[string]string{"X-Forwarded-Host": "connect.example.com"}, 200},
		"Apache with the port":                     {proxy, "GET", "127.0.0.1:9102", map[string]string{"X-Forwarded-Host": "connect.example.com:443"}, 200},
		"Apache in capitals":                       {proxy, "GET", "127.0.0.1:9102", map[string]string{"X-Forwarded-Host": "CONNECT.example.com."}, 200},
		"Apache behind another":                    {proxy, "GET", "127.0.0.1:9102", map[string]string{"X-Forwarded-Host": "connect.example.com, inner.example"}, 200},
		"Apache, an old name":                      {proxy, "GET", "127.0.0.1:9102", map[string]string{"X-Forwarded-Host": "old.example.com"}, 307},
		"Apache: a form":                           {proxy, "POST", "127.0.0.1:9102", map[string]string{"X-Forwarded-Host": "connect.example.com"}, 303},
		"an old name":                              {proxy, "GET", "old.example.com", nil, 307},
		"an old name: a form":                      {proxy, "POST", "old.example.com", nil, 421},
		"by DNS rebinding":                         {stranger, "POST", "evil.example:8080", nil, 421},
		"by address from elsewhere":                {stranger, "GET", "192.0.2.1", nil, 307},
		"by address from elsewhere: a form":        {stranger, "POST", "192.0.2.1", nil, 421},
		"a stranger's X-Forwarded-Host":            {stranger, "GET", "192.0.2.1", map[string]string{"X-Forwarded-Host": "connect.example.com"}, 421},
		"again after a redirect":                   {stranger, "GET", "192.0.2.1", map[string]string{"Cookie": "moved=1"}, 421},
		"again after a redirect, by a name inside": {proxy, "GET", "upstream.example.net", map[string]string{"Cookie": "moved=1"}, 421},
		"plain HTTP":                               {proxy, "GET", "connect.example.com", map[string]string{"X-Forwarded-Proto": "http"}, 307},
		"plain HTTP again":                         {proxy, "GET", "connect.example.com", map[string]string{"X-Forwarded-Proto": "http", "Cookie": "moved=1"}, 200},
		"plain HTTP, says a stranger":              {stranger, "GET", "connect.example.com", map[string]string{"X-Forwarded-Proto": "http"}, 200},
		"TLS before, plain between":                {proxy, "GET", "connect.example.com", map[string]string{"X-Forwarded-Proto": "https, http"}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), c.method, "/login", nil)
			if c.method == "POST" { // signing out needs no password to be looked up
				r = httptest.NewRequestWithContext(t.Context(), "POST", "/logout", nil)
			}
			r.RemoteAddr, r.Host = c.peer, c.host
			for k, v := range c.header {
				r.Header.Set(k, v)
			}
			w := httptest.NewRecorder()
			routes.ServeHTTP(w, r)
			location := w.Header().Get("Location")
			if w.Code != c.status || w.Code == 307 && location != "https://connect.example.com/login" {
				t.Errorf("%d %s, want %d", w.Code, location, c.status)
			}
		})
	}
	for _, path := range []string{"/livez", "/readyz", "/api/v1/connections", "/static/app.css", "/hooks/x/y"} {
		r := httptest.NewRequestWithContext(t.Context(), "POST", path, nil)
		if path == "/livez" || path == "/readyz" || path == "/static/app.css" {
			r.Method = "GET"
		}
		r.RemoteAddr, r.Host = stranger, "10.1.2.3:8080"
		w := httptest.NewRecorder()
		routes.ServeHTTP(w, r)
		if w.Code == http.StatusMisdirectedRequest || w.Code == http.StatusTemporaryRedirect {
			t.Errorf("%s by address, as health checks and programs ask: %d", path, w.Code)
		}
	}
}

// TestAddresses holds the client's address to what a trusted proxy says (authentik#25679, traefik#11508).
func TestAddresses(t *testing.T) {
	s := behind(t)
	for _, c := range []struct{ peer, forwarded, want string }{
		{"127.0.0.1:1", "203.0.113.7", "203.0.113.7"},
		{"127.0.0.1:1", "203.0.113.7:51234", "203.0.113.7"},
		{"127.0.0.1:1", "[2001:db8::7]:443", "2001:db8::7"},
		{"127.0.0.1:1", "[2001:db8::7]", "2001:db8::7"},
		{"127.0.0.1:1", "2001:db8::7", "2001:db8::7"},
		{"127.0.0.1:1", `"[2001:db8::7]:443"`, "2001:db8::7"},
		{"127.0.0.1:1", "::ffff:203.0.113.7", "203.0.113.7"},
		{"127.0.0.1:1", "[::ffff:203.0.113.7]:80", "203.0.113.7"},
		{"127.0.0.1:1", "  203.0.113.7:80  ", "203.0.113.7"},
		{"127.0.0.1:1", "fe80::1%eth0", "fe80::1"},
		{"127.0.0.1:1", "203.0.113.7:5, 10.1.1.1:6", "203.0.113.7"},
		{"127.0.0.1:1", "127.0.0.1, 203.0.113.7:80", "203.0.113.7"},
		{"127.0.0.1:1", "unknown", ""},
		{"127.0.0.1:1", "_SEVKISEK", ""},
		{"127.0.0.1:1", "203.0.113.7, garbage", ""},
		{"127.0.0.1:1", "203.0.113.7,", ""},
		{"127.0.0.1:1", "999.1.1.1", ""},
		{"127.0.0.1:1", "203.0.113.7:port", ""},
		{"127.0.0.1:1", "", ""},
		{"127.0.0.1:1", "203.0.113.7, 10.1.1.1, rubbish:1", ""},
		{"10.9.9.9:1", "203.0.113.7:5", "203.0.113.7"},
		{"[::ffff:10.9.9.9]:1", "203.0.113.7:5", "203.0.113.7"},
		{"192.0.2.5:1", "203.0.113.7", "192.0.2.5"},
	} {
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.RemoteAddr = c.peer
		r.Header.Set("X-Forwarded-For", c.forwarded)
		if got := s.address(r); got != c.want {
			t.Errorf("%q by %s: %q, want %q", c.forwarded, c.peer, got, c.want)
		}
		w := httptest.NewRecorder()
		s.metrics()(w, r)
		if w.Code != http.StatusNotFound {
			t.Errorf("/metrics for %q by %s: %d", c.forwarded, c.peer, w.Code)
		}
	}
	for name, change := range map[string]func(*http.Request){
		"X-Real-IP alone":       func(r *http.Request) { r.Header.Set("X-Real-IP", "203.0.113.7") },
		"Forwarded alone":       func(r *http.Request) { r.Header.Set("Forwarded", "for=203.0.113.7") },
		"Via alone":             func(r *http.Request) { r.Header.Set("Via", "1.1 proxy") },
		"the scheme alone":      func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "https") },
		"nothing, by HTTP/1.0":  func(r *http.Request) { r.Proto, r.ProtoMinor = "HTTP/1.0", 0 },
		"nothing, for our host": func(r *http.Request) { r.Host = "connect.example.com" },
		"nothing, for our port": func(r *http.Request) { r.Host = "Connect.example.com:443" },
	} {
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.RemoteAddr = "127.0.0.1:1"
		change(r)
		w := httptest.NewRecorder()
		s.metrics()(w, r)
		if w.Code != http.StatusNotFound {
			t.Errorf("/metrics by a proxy that sends %s: %d", name, w.Code)
		}
	}
}

// TestUnreadableAddressesShareNoLimit has sixty offices sign in behind a proxy that names none of them.
func TestUnreadableAddressesShareNoLimit(t *testing.T) {
	s := behind(t)
	for i := range 60 {
		r := httptest.NewRequest("POST", "/login", strings.NewReader(""))
		r.RemoteAddr = "127.0.0.1:1"
		r.Header.Set("X-Forwarded-For", "unknown")
		if err := s.limitAddress(r, "sign-in", triesPerAddress()); err != nil {
			t.Fatalf("try %d: %v", i, err)
		}
	}
}

// TestBytesThatNoTextHas asks for pages and the API with bytes that Postgres refuses (go-stellar-sdk#1469, synapse#14223).
func TestBytesThatNoTextHas(t *testing.T) {
	o := newTestAPI(t)
	routes := o.server.Routes()
	admin, key := o.staff(audit.RoleAdmin), o.key(pg.ID{})
	for _, bad := range []string{"%00", "%ff", "%ed%a0%80", "%c0%80", "a%00b", "%f4%90%80%80", "%80", "%e1%9e", "\xff", "%zz%00"} {
		for path, params := range map[string]string{
			"/admin/users": "q role after before lang status", "/admin/merchants": "q after before", "/admin/connections": "q provider health merchant since sort cursor",
			"/admin/connections.csv": "q provider merchant", "/admin/events": "kind class provider actor merchant connection from to zone cursor", "/admin/events.csv": "kind merchant actor", "/admin/events.xlsx": "kind merchant actor", "/admin/connections.xlsx": "q provider merchant",
		} {
			for param := range strings.FieldsSeq(params) {
				if status := admin.get(path + "?" + param + "=" + bad).status; status >= 500 {
					t.Errorf("%s?%s=%s: %d", path, param, bad, status)
				}
			}
		}
		for path, params := range map[string]string{
			"/api/v1/connections": "merchant provider health cursor limit", "/api/v1/merchants": "external_id cursor limit", "/api/v1/connections/x/token": "min_valid",
		} {
			for param := range strings.FieldsSeq(params) {
				if a := o.ask("GET", path+"?"+param+"="+bad, key, ""); a.status >= 500 {
					t.Errorf("%s?%s=%s: %d", path, param, bad, a.status)
				}
			}
		}
		for _, path := range []string{"/connections/", "/flows/", "/connect/", "/invitations/", "/password/", "/admin/users/", "/hooks/caminvoice/", "/api/v1/connections/"} {
			r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
			r.URL = &url.URL{Path: path + "\x00\xff"}
			w := httptest.NewRecorder()
			routes.ServeHTTP(w, r)
			if w.Code >= 500 {
				t.Errorf("%s: %d", path, w.Code)
			}
		}
	}
	for body, status := range map[string]int{
		`{"external_id":"a\u0000b","name":"x"}`: 400, `{"external_id":"a","name":"\ud800"}`: 400, `{"external_id":"\udfff\ud800 x","name":"x"}`: 400,
		"{\"external_id\":\"a\",\"name\":\"\xff\"}": 400, `{"external_id":"a","name":"\u0000"}`: 400, `{"external_id":"ok","name":"ខ្មែរ 😀"}`: 201,
	} {
		if a := o.ask("POST", "/api/v1/merchants", key, body); a.status != status {
			t.Errorf("%s: %d %s, want %d", body, a.status, a.text, status)
		}
	}
}

func FuzzCleanQuery(f *testing.F) {
	for _, one := range []string{"a=b", "role=%00", "a=%ff&b=c", "=%00=", "a;b=%80", "%00", "%zz", "a=b?c=%c0%80"} {
		f.Add(one)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		values, _ := url.ParseQuery(cleanQuery(raw))
		for name, all := range values {
			for _, value := range append(all, name) {
				if !isText(value) {
					t.Errorf("%q leaves %q", raw, value)
				}
			}
		}
	})
}

// TestBesideTheCallback leads what is next to a callback's address to it (sst#2985, nuxt-oauth#1).
func TestBesideTheCallback(t *testing.T) {
	s := newTestServer(t)
	for path, want := range map[string]string{
		"/connect/caminvoice/callback/": "/connect/caminvoice/callback", "/connect/caminvoice/callback//": "/connect/caminvoice/callback",
		"/connect/caminvoice//callback": "/connect/caminvoice/callback", "//connect/caminvoice/callback": "/connect/caminvoice/callback",
		"/connect/caminvoice/Callback": "/connect/caminvoice/callback", "/Connect/CamInvoice/callback": "/connect/caminvoice/callback",
		"/connect/caminvoice/callback;jsessionid=A": "/connect/caminvoice/callback", "/connect/caminvoice/callback ": "/connect/caminvoice/callback",
		"/connect/caminvoice/callback.php": "/connect/caminvoice/callback", "/connect/caminvoice/callback/index.html": "/connect/caminvoice/callback",
		"/connect/caminvoice/callbacks": "/connect/caminvoice/callbacks", "/connect/caminvoice": "/connect/caminvoice", "/": "/",
	} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
		r.URL = &url.URL{Path: path, RawQuery: "authToken=secret-code"}
		r.Host = strings.TrimPrefix(s.url, "http://")
		w := httptest.NewRecorder()
		s.server.Routes().ServeHTTP(w, r)
		if r.URL.Path != want {
			t.Errorf("%s: led to %s", path, r.URL.Path)
		}
		if location := w.Header().Get("Location"); strings.HasSuffix(want, "/callback") && (w.Code != 303 || strings.Contains(location, "secret-code")) {
			t.Errorf("%s: %d %s", path, w.Code, location)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/connect/nosuch/callback?code=secret-code", nil)
	r.Host = strings.TrimPrefix(s.url, "http://")
	w := httptest.NewRecorder()
	s.server.Routes().ServeHTTP(w, r)
	if w.Code != 303 || strings.Contains(w.Header().Get("Location"), "secret-code") {
		t.Errorf("an unknown provider: %d %s", w.Code, w.Header().Get("Location"))
	}
}
