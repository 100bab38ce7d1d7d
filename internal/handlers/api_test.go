package handlers

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// testAPI is a Patchbay as programs meet it. Every exchange is held to the OpenAPI description.
type testAPI struct {
	*testServer
	router routers.Router
	source *source
	shop   db.Merchant
	other  db.Merchant
}

// source is a provider of tokens in a few lines.
type source struct {
	calls atomic.Int32
	fault atomic.Pointer[error]
}

func (*source) Info() connectors.Info {
	return connectors.Info{Name: "acme", Title: "Acme", Environment: "sandbox", KeepAlive: 24 * time.Hour}
}

func (s *source) Refresh(context.Context, connectors.Grant) (connectors.Token, error) {
	n := s.calls.Add(1)
	if fault := s.fault.Load(); fault != nil {
		return connectors.Token{}, *fault
	}
	return connectors.Token{Access: fmt.Sprintf("access-%d", n), Type: "bearer", Lifetime: 15 * time.Minute}, nil
}

func (s *source) fails(err error) { s.fault.Store(&err) }

func newTestAPI(t *testing.T) *testAPI {
	t.Helper()
	o := &testAPI{source: &source{}}
	o.testServer = newTestServer(t, withConnector(o.source))
	doc, err := openapi3.NewLoader().LoadFromData(openapi)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatalf("the description is not valid: %v", err)
	}
	closed(doc)
	if o.router, err = gorillamux.NewRouter(doc); err != nil {
		t.Fatal(err)
	}
	o.shop = o.addMerchant("shop-17", "CH168 Shop")
	o.other = o.addMerchant("shop-18", "Maison Tremblay")
	return o
}

// closed has a description refuse what it does not mention. As published it is open, since fields may be added; tests find those
// that were added and are not described.
func closed(doc *openapi3.T) {
	var schema func(s *openapi3.SchemaRef)
	schema = func(s *openapi3.SchemaRef) {
		if s == nil || s.Value == nil || s.Value.AdditionalProperties.Schema != nil {
			return
		}
		if len(s.Value.Properties) > 0 {
			no := false
			s.Value.AdditionalProperties.Has = &no
		}
		for _, one := range s.Value.Properties {
			if one.Ref == "" {
				schema(one)
			}
		}
	}
	for _, s := range doc.Components.Schemas {
		schema(s)
	}
	for _, path := range doc.Paths.Map() {
		for _, operation := range path.Operations() {
			for _, answer := range operation.Responses.Map() {
				for _, content := range answer.Value.Content {
					schema(content.Schema)
				}
			}
		}
	}
}

func (o *testAPI) addMerchant(external, name string) db.Merchant {
	o.t.Helper()
	m, err := o.db.AddMerchant(o.t.Context(), audit.System, db.Merchant{ExternalID: external, Name: name})
	if err != nil {
		o.t.Fatal(err)
	}
	return m
}

func (o *testAPI) connection(of db.Merchant, account string, age time.Duration) pg.ID {
	o.t.Helper()
	g := connectors.Grant{
		Token:   connectors.Token{Access: "access-0", Type: "bearer", Lifetime: 15 * time.Minute, Refresh: "the-refresh-token", Scope: []string{"merchant"}},
		Inputs:  map[string]string{"client_secret": "the-typed-secret"},
		Account: connectors.Account{ID: account, Name: "CH168 Co., Ltd", Details: []connectors.Detail{{Key: "tin", Value: "1234567890"}}},
	}
	id, err := o.db.AddConnection(o.t.Context(), of.ID, "acme", "sandbox", g, o.db.Now().Add(-age), o.source.Info())
	if err != nil {
		o.t.Fatal(err)
	}
	return id
}

func (o *testAPI) key(of pg.ID, scopes ...string) string {
	o.t.Helper()
	if scopes == nil {
		scopes = db.Scopes()
	}
	_, secret, err := o.db.AddAPIKey(o.t.Context(), audit.System, db.APIKey{Name: "till", MerchantID: of, Scopes: scopes})
	if err != nil {
		o.t.Fatal(err)
	}
	return string(secret)
}

type reply struct {
	status int
	header http.Header
	text   string
	body   map[string]any
}

func (a reply) is(o *testAPI, status int, problem string) {
	o.t.Helper()
	if got := fmt.Sprint(a.body["type"]); a.status != status || problem != "" && got != problem {
		o.t.Errorf("got %d %s, want %d %s", a.status, a.text, status, problem)
	}
}

func (o *testAPI) ask(method, path, key, body string) reply {
	o.t.Helper()
	request, err := http.NewRequestWithContext(o.t.Context(), method, o.url+path, strings.NewReader(body))
	if err != nil {
		o.t.Error(err)
		return reply{}
	}
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := client.Do(request)
	if err != nil {
		o.t.Error(err)
		return reply{}
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		o.t.Error(err)
		return reply{}
	}
	a := reply{status: response.StatusCode, header: response.Header, text: string(read)}
	if strings.Contains(response.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(read, &a.body); err != nil {
			o.t.Errorf("%s %s: %s", method, path, read)
		}
	}
	o.heldToDescription(request, response, read)
	for _, secret := range []string{"the-refresh-token", "the-typed-secret"} {
		if strings.Contains(a.text, secret) {
			o.t.Errorf("%s %s shows a secret", method, path)
		}
	}
	return a
}

func (o *testAPI) heldToDescription(request *http.Request, response *http.Response, body []byte) {
	o.t.Helper()
	route, params, err := o.router.FindRoute(request)
	if err != nil {
		return // an address that the description does not know
	}
	input := &openapi3filter.RequestValidationInput{Request: request, PathParams: params, Route: route}
	err = openapi3filter.ValidateResponse(o.t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: response.StatusCode, Header: response.Header, Body: io.NopCloser(bytes.NewReader(body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	})
	if err != nil {
		o.t.Errorf("%s %s is not as described: %v", request.Method, request.URL.Path, err)
	}
}

func TestTokenIsGoodForAsLongAsAsked(t *testing.T) {
	o := newTestAPI(t)
	key := o.key(pg.ID{})
	good, stale := o.connection(o.shop, "good", time.Minute), o.connection(o.shop, "stale", time.Hour)
	a := o.ask("GET", "/api/v1/connections/"+good.String()+"/token", key, "")
	a.is(o, 200, "")
	if a.body["access_token"] != "access-0" || a.body["token_type"] != "Bearer" || a.body["scope"] != "merchant" {
		t.Errorf("got %s", a.text)
	}
	a = o.ask("GET", "/api/v1/connections/"+stale.String()+"/token?min_valid=300", key, "")
	if a.is(o, 200, ""); a.body["access_token"] != "access-1" {
		t.Errorf("an expired token was handed out: %s", a.text)
	}
	o.ask("GET", "/api/v1/connections/"+good.String()+"/token?min_valid=600", key, "").is(o, 200, "")
	if n := o.source.calls.Load(); n != 1 {
		t.Errorf("%d refreshes, one was needed", n)
	}
	a = o.ask("GET", "/api/v1/connections/"+good.String()+"/token?min_valid=721", key, "")
	if a.is(o, 400, "min-valid-too-long"); a.body["most_valid"] != 720.0 {
		t.Errorf("got %s", a.text)
	}
	for _, wrong := range []string{"-1", "x", "1.5", "99999999999"} {
		o.ask("GET", "/api/v1/connections/"+good.String()+"/token?min_valid="+wrong, key, "").is(o, 400, "invalid")
	}
}

func TestReasonsWhyThereIsNoToken(t *testing.T) {
	o := newTestAPI(t)
	key := o.key(pg.ID{})
	troubled, refused := o.connection(o.shop, "troubled", time.Hour), o.connection(o.shop, "refused", time.Hour)
	for i := range 3 { // so that one refusal is not all there is
		o.connection(o.shop, fmt.Sprint("fine", i), 0)
	}
	o.source.fails(fmt.Errorf("503"))
	a := o.ask("GET", "/api/v1/connections/"+troubled.String()+"/token", key, "")
	if a.is(o, 503, "provider-trouble"); a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	o.source.fails(&connectors.RejectedError{Reason: "invalid_grant"})
	a = o.ask("GET", "/api/v1/connections/"+refused.String()+"/token", key, "")
	if a.is(o, 409, "action-needed"); a.body["who_must_act"] != "merchant" {
		t.Errorf("got %s", a.text)
	}
	a = o.ask("GET", "/api/v1/connections/"+refused.String(), key, "")
	if a.body["health"] != "action-needed" || a.body["who_must_act"] != "merchant" || a.body["problem"] != "refused" {
		t.Errorf("got %s", a.text)
	}
	o.source.fails(&connectors.RejectedError{Reason: "invalid_client", ClientFault: true})
	o.ask("POST", "/api/v1/connections/"+troubled.String()+"/refresh", key, "").is(o, 503, "platform-action-needed")
	if _, _, err := o.db.Disconnect(t.Context(), troubled, pg.ID{}, audit.System, nil); err != nil {
		t.Fatal(err)
	}
	o.ask("GET", "/api/v1/connections/"+troubled.String()+"/token", key, "").is(o, 409, "action-needed")
}

func TestNobodyWaitsForAProviderThatRefusesUs(t *testing.T) {
	o := newTestAPI(t)
	key, id := o.key(pg.ID{}), o.connection(o.shop, "troubled", time.Hour)
	o.source.fails(fmt.Errorf("503"))
	o.ask("GET", "/api/v1/connections/"+id.String()+"/token", key, "").is(o, 503, "provider-trouble")
	if err := o.engine.OpenIncident(t.Context(), "acme", status.ReasonClientRejected, audit.System); err != nil {
		t.Fatal(err)
	}
	if a := o.ask("GET", "/api/v1/connections/"+id.String(), key, ""); a.body["health"] != "retrying" || a.body["who_must_act"] != "platform" {
		t.Errorf("got %s", a.text)
	}
	if a := o.ask("GET", "/api/v1/connections/"+id.String()+"/token", key, ""); a.body["who_must_act"] != "platform" || a.body["problem"] != "client-rejected" {
		t.Errorf("the token says %s", a.text)
	}
	if a := o.ask("GET", "/api/v1/providers", key, ""); !strings.Contains(a.text, `"reason":"client-rejected"`) {
		t.Errorf("providers: %s", a.text)
	}
}

func TestKeysOpenOnlyWhatTheyShould(t *testing.T) {
	o := newTestAPI(t)
	mine, theirs := o.connection(o.shop, "mine", 0), o.connection(o.other, "theirs", 0)
	all, bound, reader := o.key(pg.ID{}), o.key(o.shop.ID), o.key(pg.ID{}, db.ScopeConnections)
	for _, c := range []struct {
		method, path, key, body string
		status                  int
		problem                 string
	}{
		{"GET", "/token", "", "", 401, "unauthorized"},
		{"GET", "/token", "pb_wrong", "", 401, "unauthorized"},
		{"GET", "/token", reader, "", 403, "forbidden"},
		{"POST", "/refresh", reader, "", 403, "forbidden"},
		{"GET", "", reader, "", 200, ""},
		{"GET", "/token", all, "", 200, ""},
		{"POST", "/refresh", all, "", 200, ""},
		{"GET", "/token", bound, "", 404, "not-found"},
		{"GET", "", bound, "", 404, "not-found"},
		{"POST", "/refresh", bound, "", 404, "not-found"},
	} {
		o.ask(c.method, "/api/v1/connections/"+theirs.String()+c.path, c.key, c.body).is(o, c.status, c.problem)
	}
	o.ask("GET", "/api/v1/connections/"+mine.String()+"/token", bound, "").is(o, 200, "")
	o.ask("GET", "/api/v1/connections/not-an-id/token", all, "").is(o, 404, "not-found")
	o.ask("GET", "/api/v1/connections/"+pg.NewID().String()+"/token", all, "").is(o, 404, "not-found")
	o.ask("GET", "/api/v1/nothing", all, "").is(o, 404, "not-found")
	o.ask("POST", "/api/v1/merchants", bound, `{"external_id":"x","name":"X"}`).is(o, 403, "forbidden")

	keys, err := o.db.APIKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if !strings.HasPrefix(all, k.Prefix) {
			continue
		}
		if _, err := o.db.RevokeAPIKey(t.Context(), audit.System, k.ID); err != nil {
			t.Fatal(err)
		}
	}
	o.ask("GET", "/api/v1/connections/"+mine.String()+"/token", all, "").is(o, 401, "unauthorized")
}

func TestConnectionsByPages(t *testing.T) {
	o := newTestAPI(t)
	key := o.key(pg.ID{})
	for i := range 5 {
		o.connection(o.shop, fmt.Sprint("a", i), 0)
	}
	o.connection(o.other, "b", 0)
	seen, cursor := map[string]bool{}, ""
	for range 4 {
		a := o.ask("GET", "/api/v1/connections?limit=2&merchant=shop-17&provider=acme&health=fine&cursor="+cursor, key, "")
		a.is(o, 200, "")
		for _, c := range a.body["connections"].([]any) {
			c := c.(map[string]any)
			seen[c["id"].(string)] = true
			if m := c["merchant"].(map[string]any); m["external_id"] != "shop-17" {
				t.Errorf("a connection of %v", m)
			}
		}
		if cursor = a.body["next"].(string); cursor == "" {
			break
		}
	}
	if len(seen) != 5 || cursor != "" {
		t.Errorf("saw %d of 5, next %q", len(seen), cursor)
	}
	if a := o.ask("GET", "/api/v1/connections?merchant=nobody", key, ""); len(a.body["connections"].([]any)) != 0 {
		t.Errorf("an unknown merchant has %s", a.text)
	}
	if a := o.ask("GET", "/api/v1/connections?merchant=shop-18", o.key(o.shop.ID), ""); len(a.body["connections"].([]any)) != 0 {
		t.Errorf("another merchant's: %s", a.text)
	}
	for _, wrong := range []string{"limit=0", "limit=x", "limit=201", "health=ill", "cursor=%25%25"} {
		o.ask("GET", "/api/v1/connections?"+wrong, key, "").is(o, 400, "invalid")
	}
}

func TestMerchantsByTheirExternalID(t *testing.T) {
	o := newTestAPI(t)
	key := o.key(pg.ID{})
	a := o.ask("POST", "/api/v1/merchants", key, `{"external_id":"shop-19","name":"ហាងកាហ្វេ","locale":"km"}`)
	a.is(o, 201, "")
	again := o.ask("POST", "/api/v1/merchants", key, `{"external_id":"shop-19","name":"other"}`)
	if again.is(o, 200, ""); again.body["id"] != a.body["id"] || again.body["name"] != "ហាងកាហ្វេ" {
		t.Errorf("got %s", again.text)
	}
	a = o.ask("GET", "/api/v1/merchants?external_id=shop-19", key, "")
	if list := a.body["merchants"].([]any); len(list) != 1 {
		t.Errorf("got %s", a.text)
	}
	if a := o.ask("GET", "/api/v1/merchants?limit=2", key, ""); len(a.body["merchants"].([]any)) != 2 || a.body["next"] == "" {
		t.Errorf("got %s", a.text)
	}
	for _, wrong := range []string{`{}`, `[]`, `{"external_id":"x"}`, `{"external_id":"x","name":"X","locale":"xx"}`, `no`} {
		o.ask("POST", "/api/v1/merchants", key, wrong).is(o, 400, "invalid")
	}
	o.ask("POST", "/api/v1/merchants", key, `{"external_id":"x","name":"`+strings.Repeat("x", 70<<10)+`"}`).is(o, 413, "invalid")
}

func TestReadsAreAccountedForAndLimited(t *testing.T) {
	o := newTestAPI(t)
	key := o.key(pg.ID{})
	id := o.connection(o.shop, "a", 0)
	for range 7 {
		o.ask("GET", "/api/v1/connections/"+id.String()+"/token", key, "").is(o, 200, "")
	}
	if err := o.engine.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	keys, err := o.db.APIKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	days, err := o.db.TokenReadsByDay(t.Context(), keys[0].ID, 1)
	if err != nil || len(days) != 1 || days[0].Count != 7 || keys[0].LastUsedAt.IsZero() {
		t.Errorf("reads %v, last used %s, %v", days, keys[0].LastUsedAt, err)
	}
	limited := false
	for tries := 0; tries < 20*refreshBurst && !limited; tries++ { // more than a slow machine can be given back meanwhile
		if a := o.ask("POST", "/api/v1/connections/"+id.String()+"/refresh", key, ""); a.status == 429 {
			a.is(o, 429, "rate-limited")
			limited = a.header.Get("Retry-After") != ""
		}
	}
	if !limited {
		t.Error("a loop may refresh without end")
	}
}

// TestAKeyOfOneMerchantIsLimited uses up what a merchant's key may ask, and as much of the platform's, which may go on.
func TestAKeyOfOneMerchantIsLimited(t *testing.T) {
	o := newTestAPI(t)
	path := "/api/v1/connections/" + o.connection(o.shop, "mine", 0).String()
	bound, all := o.key(o.shop.ID), o.key(pg.ID{})
	ids := map[pg.ID]pg.ID{}
	keys, err := o.db.APIKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		ids[k.MerchantID] = k.ID
	}
	for _, what := range []string{"", "/token"} {
		limited := false
		for tries := 0; tries < 100 && !limited; tries++ { // one request may be given back before it is asked
			for o.server.limits.key(ids[o.shop.ID], o.shop.ID) == nil {
			}
			if a := o.ask("GET", path+what, bound, ""); a.status == 429 {
				a.is(o, 429, "rate-limited")
				limited = a.header.Get("Retry-After") != ""
			}
		}
		if !limited {
			t.Errorf("%s: one merchant's key has no limit", what)
		}
	}
	for range 10 * merchantKeyBurst {
		_ = o.server.limits.key(ids[pg.ID{}], pg.ID{})
	}
	o.ask("GET", path+"/token", all, "").is(o, 200, "")
}

func TestMetricsAreForTheOperator(t *testing.T) {
	o := newTestAPI(t)
	o.connection(o.shop, "a", 48*time.Hour)
	if a := o.ask("GET", "/metrics", "", ""); a.status != 200 || !strings.Contains(a.text, `patchbay_grants_due{environment="sandbox",provider="acme"} 1`) {
		t.Errorf("from loopback: %d %s", a.status, a.text)
	}
	trusting := New(Options{
		DB: o.db, Accounts: o.accounts, Refresh: o.engine, Log: slog.New(slog.DiscardHandler), PublicURL: &url.URL{Scheme: "http", Host: "x"}, SessionKeys: [][]byte{make([]byte, 32)},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Jobs: o.jobs, Webhooks: o.webhooks,
	})
	for _, c := range []struct {
		peer, forwarded string
		status          int
	}{
		{"127.0.0.1:1", "", 200}, {"127.0.0.1:1", "203.0.113.9", 404}, {"10.1.2.3:1", "", 200}, {"10.1.2.3:1", "203.0.113.9", 404}, {"203.0.113.9:1", "", 404},
	} {
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.RemoteAddr = c.peer
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		w := httptest.NewRecorder()
		trusting.metrics()(w, r)
		if w.Code != c.status {
			t.Errorf("from %s for %q: %d, want %d", c.peer, c.forwarded, w.Code, c.status)
		}
	}
}

func TestAnotherMethodIsNamed(t *testing.T) {
	o := newTestAPI(t)
	for path, allow := range map[string]string{"/api/v1/connections": "GET", "/api/v1/merchants": "GET,POST", "/api/v1/connections/x/refresh": "POST", "/api/v1/nothing": ""} {
		want := http.StatusMethodNotAllowed
		if allow == "" {
			want = http.StatusNotFound
		}
		w := httptest.NewRecorder()
		o.server.Routes().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodDelete, path, nil))
		if got := strings.Join(w.Header().Values("Allow"), ","); w.Code != want || got != allow || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d, Allow %q, %s", path, w.Code, got, w.Header().Get("Content-Type"))
		}
	}
}
