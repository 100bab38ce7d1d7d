package sandbox

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	app      = "http://127.0.0.1:8080"
	reckless = app + "/elsewhere"
)

// bench is a running sandbox with a client that follows no redirect and a clock that a test can move.
type bench struct {
	*testing.T
	*Sandbox
	mu    sync.Mutex
	ahead time.Duration
}

func start(t *testing.T, o Options) *bench {
	t.Helper()
	b := &bench{T: t}
	o.AppURLs = append(o.AppURLs, app)
	o.Now = func() time.Time {
		b.mu.Lock()
		defer b.mu.Unlock()
		return time.Now().Add(b.ahead)
	}
	s, err := Start("127.0.0.1:0", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	b.Sandbox = s
	return b
}

func (b *bench) later(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ahead += d
}

type answer struct {
	status int
	header http.Header
	raw    string
	body   map[string]any
}

func (a answer) text(name string) string { s, _ := a.body[name].(string); return s }

// query is the query of the address that an answer redirects to.
func (a answer) query() url.Values {
	u, err := url.Parse(a.header.Get("Location"))
	if err != nil {
		return nil
	}
	return u.Query()
}

type with func(*http.Request)

func basicly(id, secret string) with { return func(r *http.Request) { r.SetBasicAuth(id, secret) } }
func header(name, value string) with { return func(r *http.Request) { r.Header.Set(name, value) } }

// try sends a request. body is url.Values for a form, a string as it is, nil for none, anything else as JSON.
func (b *bench) try(method, address string, body any, opts ...with) (answer, error) {
	b.Helper()
	var reader io.Reader
	kind := "application/json"
	switch v := body.(type) {
	case nil:
		kind = ""
	case url.Values:
		reader, kind = strings.NewReader(v.Encode()), "application/x-www-form-urlencoded"
	case string:
		reader = strings.NewReader(v)
	default:
		raw, err := json.Marshal(v)
		if err != nil {
			return answer{}, err
		}
		reader = strings.NewReader(string(raw))
	}
	if !strings.HasPrefix(address, "http") {
		address = b.BaseURL() + address
	}
	r, err := http.NewRequest(method, address, reader)
	if err != nil {
		return answer{}, err
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	r.Header.Set("Accept", "application/json")
	for _, opt := range opts {
		opt(r)
	}
	client := http.Client{
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	a := answer{status: resp.StatusCode, header: resp.Header, raw: string(raw)}
	json.Unmarshal(raw, &a.body)
	return a, err
}

func (b *bench) send(method, address string, body any, opts ...with) answer {
	b.Helper()
	a, err := b.try(method, address, body, opts...)
	if err != nil {
		b.Fatal(err)
	}
	return a
}

func (b *bench) want(a answer, status int, parts ...string) answer {
	b.Helper()
	if a.status != status {
		b.Fatalf("status %d, want %d: %.300s", a.status, status, a.raw)
	}
	for _, part := range parts {
		if !strings.Contains(a.raw, part) {
			b.Fatalf("answer lacks %q: %.300s", part, a.raw)
		}
	}
	return a
}

var hidden = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

// decide fills the consent page in and sends it, as a browser without scripts would.
func (b *bench) decide(page answer, action, account, decision string) answer {
	b.Helper()
	form := url.Values{"account": {account}, "decision": {decision}}
	for _, m := range hidden.FindAllStringSubmatch(page.raw, -1) {
		form.Set(m[1], strings.NewReplacer("&#43;", "+", "&amp;", "&", "&#34;", `"`).Replace(m[2]))
	}
	return b.send("POST", action, form)
}

// claims reads a JWT without looking at its signature.
func (b *bench) claims(jwt string) (header, claims map[string]any) {
	b.Helper()
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		b.Fatalf("not a JWT: %q", jwt)
	}
	for i, into := range []*map[string]any{&header, &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err == nil {
			err = json.Unmarshal(raw, into)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	return header, claims
}

func TestImportsStandardLibraryOnly(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		if strings.Contains(path, ".") || strings.HasPrefix(path, "patchbay") {
			t.Errorf("imports %s", path)
		}
	}
}

func TestSettingsNameEveryProvider(t *testing.T) {
	b := start(t, Options{})
	settings := b.Settings()
	for _, name := range []string{"CAMINVOICE_API_URL", "ELECQ_TOKEN_URL", "FLEXITI_API_URL", "BOOKINGS_API_URL"} {
		if !strings.HasPrefix(settings[name], b.BaseURL()+"/") {
			t.Errorf("%s is %q", name, settings[name])
		}
	}
	var list []map[string]any
	if err := json.Unmarshal(b.ConnectorsFile(), &list); err != nil || list[0]["issuer"] != b.BaseURL()+"/acme" {
		t.Errorf("connectors file %s: %v", b.ConnectorsFile(), err)
	}
	if b := start(t, Options{ELECQ: ELECQOptions{Authorize: "credentials"}}); b.Settings()["ELECQ_CLIENT_ID"] != "" {
		t.Error("credentials mode names the operator's client")
	}
	b.want(b.send("GET", "/", nil), 200, "Sandbox", "flexitidemo")
	b.want(b.send("GET", "/sandbox.css", nil), 200, "color-scheme")
	b.want(b.send("GET", "/livez", nil), 204)
}

func TestStateSurvivesRestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "deep", "state.json")
	first := start(t, Options{StateFile: file})
	kept, err := first.Issue(CamInvoice, "KHUID00001234")
	if err != nil {
		t.Fatal(err)
	}
	ended, err := first.Issue(CamInvoice, "KHUID00005678")
	if err != nil {
		t.Fatal(err)
	}
	first.Revoke(CamInvoice, "KHUID00005678")
	first.Allow(CamInvoice, app+"/x")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := start(t, Options{StateFile: file})
	second.want(second.camRefresh(kept.Refresh), 200, `"token"`)
	second.want(second.camRefresh(ended.Refresh), 401)
	second.want(second.send("GET", "/caminvoice/api/v1/business/KHUID00001234", nil, header("Authorization", "Bearer "+kept.Access)), 200)
	second.want(second.send("GET", "/caminvoice/connect?client_id=caminvoice-sandbox-client&redirect_url="+url.QueryEscape(app+"/x"), nil), 200)
	if !slices.Contains(second.Secrets(), kept.Refresh) {
		t.Error("a secret of before the restart is not among Secrets")
	}
}

func TestUnreadableStateIsLeftAlone(t *testing.T) {
	dir := t.TempDir() // a folder is not a file that can be read
	b := start(t, Options{StateFile: dir})
	if b.Err() == nil || b.Close() == nil {
		t.Error("no error for a state file that cannot be read")
	}
}

func TestSecretsHoldWhatWasIssued(t *testing.T) {
	b := start(t, Options{})
	_, tokens := b.camConnect("KHUID00001234")
	secrets := b.Secrets()
	for _, one := range []string{tokens.text("access_token"), tokens.text("refresh_token"), "caminvoice-sandbox-secret", "dice-vanila-purse"} {
		if !slices.Contains(secrets, one) {
			t.Errorf("Secrets lacks %.20s…", one)
		}
	}
	small := start(t, Options{Remember: 3})
	for range 5 {
		if _, err := small.Issue(CamInvoice, "KHUID00001234"); err != nil {
			t.Fatal(err)
		}
	}
	if len(small.issued) != 3 {
		t.Errorf("%d remembered, want 3", len(small.issued))
	}
}

func TestAnswerAtOnce(t *testing.T) {
	b := start(t, Options{AnswerAtOnce: true, CamInvoice: CamInvoiceOptions{Callbacks: []string{app + "/cb"}}})
	a := b.want(b.send("GET", "/caminvoice/connect?client_id=caminvoice-sandbox-client&redirect_url="+url.QueryEscape(app+"/cb"), nil), 302)
	if a.query().Get("authToken") == "" {
		t.Errorf("no authToken in %s", a.header.Get("Location"))
	}
}
