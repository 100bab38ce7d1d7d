package handlers

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/status"
	"patchbay/internal/webhooks"
)

// sendWebhooks has webhooks sent from here on.
func (s *testServer) sendWebhooks() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.webhooks.Run(ctx, s.jobs)
	}()
	s.t.Cleanup(func() {
		cancel()
		dbtest.Receive(s.t, ended, "sending to end")
	})
}

type hookRequest struct {
	header http.Header
	body   []byte
}

// hookReceiver is a program of the platform that takes every webhook.
func hookReceiver(t *testing.T) (address string, got chan hookRequest) {
	got = make(chan hookRequest, 100)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- hookRequest{r.Header, body}
	}))
	t.Cleanup(server.Close)
	return server.URL, got
}

func TestAProgramSetsUpWebhooks(t *testing.T) {
	o := newTestAPI(t)
	o.sendWebhooks()
	address, got := hookReceiver(t)
	key := o.key(pg.ID{}, db.ScopeWebhooks, db.ScopeConnections)
	shop := o.shop
	id := o.connection(shop, "KHUID1", 0)

	for body, why := range map[string]string{
		`{}`: "no address", `{"url": ""}`: "an empty one", `{"url": "ftp://platform.example/"}`: "no web address", `{"url": "https://me:secret@platform.example/"}`: "a password",
		`{"url": "https://platform.example/", "types": ["connection.exploded"]}`: "an unknown type", `[]`: "no object",
	} {
		if answer := o.ask("POST", "/api/v1/webhook-endpoints", key, body); answer.status != http.StatusBadRequest {
			t.Errorf("%s: %d", why, answer.status)
		}
	}
	o.ask("POST", "/api/v1/webhook-endpoints", o.key(pg.ID{}, db.ScopeConnections), `{}`).is(o, http.StatusForbidden, "forbidden")
	o.ask("GET", "/api/v1/webhook-endpoints", o.key(shop.ID, db.ScopeWebhooks), ``).is(o, http.StatusForbidden, "forbidden")

	made := o.ask("POST", "/api/v1/webhook-endpoints", key, `{"url": "`+address+`/patchbay", "types": ["connection.action_needed"]}`)
	var endpoint apiEndpoint
	if err := json.Unmarshal([]byte(made.text), &endpoint); err != nil || made.status != http.StatusCreated || endpoint.Secret == "" {
		t.Fatalf("%d %s", made.status, made.text)
	}
	dbtest.Set(t, o.db, id, dbtest.Refused(o.db.Now()))
	event := dbtest.Receive(t, got, "the event")
	hook, err := standardwebhooks.NewWebhook(endpoint.Secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := hook.VerifyIgnoringTimestamp(event.body, event.header); err != nil {
		t.Error(err)
	}
	// The connection is as the API gives it.
	var told, asked struct{ Data map[string]any }
	shown := o.ask("GET", "/api/v1/connections/"+id.String(), key, "")
	if err := json.Unmarshal(event.body, &told); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(`{"Data":`+shown.text+`}`), &asked); err != nil {
		t.Fatal(err)
	}
	if told.Data["sequence"] != 1.0 {
		t.Errorf("sequence %v", told.Data["sequence"])
	}
	delete(told.Data, "sequence")
	if a, b := mustJSON(t, told.Data), mustJSON(t, asked.Data); a != b {
		t.Errorf("told\n%s\nthe API gives\n%s", a, b)
	}

	rotated := o.ask("POST", "/api/v1/webhook-endpoints/"+endpoint.ID.String()+"/rotate", key, "")
	var second apiEndpoint
	if err := json.Unmarshal([]byte(rotated.text), &second); err != nil || rotated.status != http.StatusOK || second.Secret == endpoint.Secret || second.RotatedUntil == nil {
		t.Errorf("%d %s", rotated.status, rotated.text)
	}
	if answer := o.ask("POST", "/api/v1/webhook-endpoints/"+endpoint.ID.String()+"/test", key, ""); answer.status != http.StatusAccepted {
		t.Errorf("%d %s", answer.status, answer.text)
	}
	if err := hook.VerifyIgnoringTimestamp(dbtest.Receive(t, got, "the test event").body, event.header); err == nil {
		t.Error("another body is verified")
	}
	listed := o.ask("GET", "/api/v1/webhook-endpoints", key, "")
	var all struct {
		Endpoints []apiEndpoint `json:"webhook_endpoints"`
	}
	if err := json.Unmarshal([]byte(listed.text), &all); err != nil || len(all.Endpoints) != 1 || all.Endpoints[0].Secret != "" || all.Endpoints[0].State != webhooks.On || all.Endpoints[0].URL != address+"/patchbay" {
		t.Errorf("%d %s", listed.status, listed.text)
	}
	if answer := o.ask("DELETE", "/api/v1/webhook-endpoints/"+endpoint.ID.String(), key, ""); answer.status != http.StatusNoContent {
		t.Errorf("%d %s", answer.status, answer.text)
	}
	for _, what := range []string{"/rotate", "/test"} {
		o.ask("POST", "/api/v1/webhook-endpoints/"+endpoint.ID.String()+what, key, "").is(o, http.StatusNotFound, "not-found")
	}
	o.ask("DELETE", "/api/v1/webhook-endpoints/"+endpoint.ID.String(), key, "").is(o, http.StatusNotFound, "not-found")
	o.noSecrets(map[string]string{"secret of webhooks": endpoint.Secret, "second secret of webhooks": second.Secret})
	for kind, n := range map[status.Kind]int{status.WebhookAdded: 1, status.WebhookRotated: 1, status.WebhookTested: 1, status.WebhookDeleted: 1} {
		if o.events(kind) != n {
			t.Errorf("%d events %s", o.events(kind), kind)
		}
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestStaffSeeWebhooksAndAdminsChangeThem(t *testing.T) {
	h := newTestServer(t)
	h.sendWebhooks()
	admin, support := h.staff(audit.RoleAdmin), h.staff(audit.RoleSupport)
	address, got := hookReceiver(t)
	if page := admin.get("/admin/webhooks"); !page.says("admin_webhooks.none") {
		t.Error("the page does not say that there is no endpoint")
	}
	if page := admin.post("/admin/webhooks", "url", "javascript:alert(1)"); page.status != http.StatusUnprocessableEntity || !page.has(`#errors`) {
		t.Errorf("an address that is none: %d", page.status)
	}
	made := admin.follow(admin.post("/admin/webhooks", "url", address+"/patchbay?key=1", "type", "incident.opened"))
	secret := made.text("code.secret")
	if made.status != http.StatusOK || len(secret) < 40 {
		t.Fatalf("%d %s", made.status, made.text("main"))
	}
	all, err := h.webhooks.Endpoints(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	path := "/admin/webhooks/" + all[0].ID.String()
	if page := support.get("/admin/webhooks"); page.has(`form[action="`+path+`"]`) || page.has(`[name="url"]`) || len(page.text("tbody")) == 0 {
		t.Error("support sees forms, or no endpoint")
	}
	if answer := support.post(path, "do", "delete"); answer.status != http.StatusForbidden {
		t.Errorf("support deletes an endpoint: %d", answer.status)
	}
	if answer := h.merchant("CH168 Shop").get("/admin/webhooks"); answer.status != http.StatusNotFound {
		t.Errorf("a merchant: %d", answer.status)
	}
	admin.post(path, "do", "test")
	dbtest.Receive(t, got, "the test event")
	dbtest.Eventually(t, "the delivery on the page", func() bool { return support.get("/admin/webhooks").says("delivery.delivered") })
	deliveries, err := h.webhooks.Deliveries(t.Context(), webhooks.Filter{}, "", 10)
	if err != nil || len(deliveries.Rows) != 1 {
		t.Fatalf("%v, %v", deliveries, err)
	}
	admin.post("/admin/webhooks/deliveries/"+deliveries.Rows[0].ID.String(), "do", "again")
	dbtest.Receive(t, got, "the event again")
	for _, do := range []string{"off", "on", "off"} {
		admin.post(path, "do", do)
	}
	if page := admin.get("/admin/webhooks"); !page.says("hookstate.off") {
		t.Error("the page does not say that it is off")
	}
	if err := h.db.Audit.Record(t.Context(), audit.Event{Kind: status.IncidentOpened, Provider: "caminvoice", Note: "sandbox"}); err != nil {
		t.Fatal(err)
	}
	admin.post(path, "do", "on")
	if answer := admin.post(path, "do", "resend", "since", "not a time"); answer.status != http.StatusUnprocessableEntity {
		t.Errorf("no time: %d", answer.status)
	}
	admin.post(path, "do", "resend", "since", h.db.Now().AddDate(0, 0, -1).Format("2006-01-02T15:04"), "zone", "UTC")
	if event := dbtest.Receive(t, got, "what failed"); string(event.body) == "" || event.header.Get("webhook-signature") == "" {
		t.Error("what failed was not sent again")
	}
	if page := admin.follow(admin.post(path, "do", "rotate")); page.text("code.secret") == secret || page.status != http.StatusOK {
		t.Errorf("rotate: %d", page.status)
	}
	if answer := admin.post(path, "do", "everything"); answer.status != http.StatusBadRequest {
		t.Errorf("an unknown act: %d", answer.status)
	}
	for _, figure := range []string{`patchbay_webhook_endpoints{endpoint="on"} 1`, `patchbay_webhook_deliveries{endpoint="on",state="failed"} 0`, `patchbay_webhook_tries_total{outcome="delivered"} 3`} {
		dbtest.Eventually(t, figure, func() bool { return strings.Contains(admin.get("/metrics").body, figure) }) // the answer is counted when it has come
	}
	admin.post(path, "do", "delete")
	if page := admin.get("/admin/webhooks"); !page.says("admin_webhooks.none") {
		t.Error("it is not deleted")
	}
}
