package sandbox

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

const camCallback = app + "/connect/caminvoice/callback"

func camBasic() with { return basicly("caminvoice-sandbox-client", "caminvoice-sandbox-secret") }

func (b *bench) camWhitelist(list ...string) answer {
	return b.send("POST", "/caminvoice/api/v1/configure/configure-redirect-url", map[string]any{"white_list_redirect_urls": list}, camBasic())
}

func (b *bench) camPage(callback, state string) answer {
	return b.send("GET", "/caminvoice/connect?"+url.Values{
		"client_id": {"caminvoice-sandbox-client"}, "redirect_url": {callback}, "state": {state},
	}.Encode(), nil)
}

func (b *bench) camExchange(authToken string) answer {
	return b.send("POST", "/caminvoice/api/v1/auth/authorize/connect", map[string]string{"auth_token": authToken}, camBasic())
}

func (b *bench) camRefresh(refresh string) answer {
	return b.send("POST", "/caminvoice/api/v1/auth/token", map[string]string{"refresh_token": refresh}, camBasic())
}

// camConnect goes all the way and returns the redirect and the tokens.
func (b *bench) camConnect(account string) (back, tokens answer) {
	b.Helper()
	b.want(b.camWhitelist(camCallback), 200)
	back = b.want(b.decide(b.want(b.camPage(camCallback, "s1"), 200), "/caminvoice/connect", account, "allow"), 303)
	return back, b.want(b.camExchange(back.query().Get("authToken")), 200)
}

func TestCamInvoiceConnects(t *testing.T) {
	b := start(t, Options{})
	back, tokens := b.camConnect("KHUID00001234")
	if !strings.HasPrefix(back.header.Get("Location"), camCallback+"?authToken=") || back.query().Has("state") {
		t.Errorf("back to %s", back.header.Get("Location"))
	}
	info, _ := tokens.body["business_info"].(map[string]any)
	for key, want := range map[string]string{
		"endpoint_id": "KHUID00001234", "company_name_en": "CH168 Co., Ltd", "company_name_kh": "ក្រុមហ៊ុនស៊ីអេច១៦៨", "tin": "1234567890", "country": "KH",
	} {
		if info[key] != want {
			t.Errorf("%s is %v", key, info[key])
		}
	}
	if len(info) != 11 || tokens.body["expires_in"] != nil || len(tokens.text("refresh_token")) != 64 {
		t.Errorf("exchange answered %s", tokens.raw)
	}
	_, claims := b.claims(tokens.text("access_token"))
	if claims["endpoint_id"] != "KHUID00001234" || claims["exp"].(float64)-claims["iat"].(float64) != 900 {
		t.Errorf("claims %v", claims)
	}

	refreshed := b.want(b.camRefresh(tokens.text("refresh_token")), 200)
	if refreshed.text("token") == "" || refreshed.body["expire_in"] != 900.0 || refreshed.body["refresh_token"] != nil {
		t.Errorf("refresh answered %s", refreshed.raw)
	}
	b.want(b.camRefresh(tokens.text("refresh_token")), 200) // it does not rotate
	if len(b.DoubleSpends()) != 0 {
		t.Error("a refresh token that does not rotate counts as spent twice")
	}
	bearer := header("Authorization", "Bearer "+refreshed.text("token"))
	b.want(b.send("GET", "/caminvoice/api/v1/business/KHUID00005678", nil, bearer), 200, "PRIVATE_SECTOR")
	b.want(b.send("GET", "/caminvoice/api/v1/business/KHUID404", nil, bearer), 404)
	b.later(901 * time.Second)
	b.want(b.send("GET", "/caminvoice/api/v1/business/KHUID00005678", nil, bearer), 401)
}

func TestCamInvoiceSpendsAuthTokenOnce(t *testing.T) {
	b := start(t, Options{})
	back, _ := b.camConnect("KHUID00001234")
	b.want(b.camExchange(back.query().Get("authToken")), 401, "invalid_grant")
	back = b.decide(b.camPage(camCallback, ""), "/caminvoice/connect", "KHUID00009012", "allow")
	b.later(25 * time.Hour)
	b.want(b.camExchange(back.query().Get("authToken")), 401, "invalid_grant")
	b.want(b.camExchange("made-up"), 401)
}

func TestCamInvoiceDeniesAndEchoes(t *testing.T) {
	b := start(t, Options{CamInvoice: CamInvoiceOptions{Callbacks: []string{camCallback}, EchoState: true}})
	denied := b.want(b.decide(b.camPage(camCallback, `s+"1&`), "/caminvoice/connect", "KHUID00001234", "deny"), 303)
	if q := denied.query(); q.Get("error") != "access_denied" || q.Get("state") != `s+"1&` || q.Has("authToken") {
		t.Errorf("denied: %v", q)
	}
	b = start(t, Options{CamInvoice: CamInvoiceOptions{Callbacks: []string{camCallback + "?a=b"}, SecondQuestionMark: true}})
	back := b.decide(b.camPage(camCallback+"?a=b", ""), "/caminvoice/connect", "KHUID00001234", "allow")
	if !strings.HasPrefix(back.header.Get("Location"), camCallback+"?a=b?authToken=") {
		t.Errorf("back to %s", back.header.Get("Location"))
	}
}

func TestCamInvoiceIsStrict(t *testing.T) {
	b := start(t, Options{})
	b.want(b.camPage(camCallback, ""), 400, "whitelist") // it starts empty
	b.want(b.camWhitelist(camCallback), 200, "successful")
	b.want(b.camPage(camCallback+"/", ""), 400)
	b.want(b.camPage(camCallback, ""), 200, "nothing here is real")
	b.want(b.camWhitelist(reckless), 200) // replaces
	b.want(b.camPage(camCallback, ""), 400)
	b.want(b.send("GET", "/caminvoice/connect?client_id=other&redirect_url="+url.QueryEscape(reckless), nil), 400, "client_id")
	b.want(b.send("POST", "/caminvoice/connect", url.Values{"client_id": {"caminvoice-sandbox-client"}, "redirect_url": {camCallback}, "decision": {"allow"}, "account": {"KHUID00001234"}}), 400)
	b.want(b.send("POST", "/caminvoice/connect", url.Values{"client_id": {"caminvoice-sandbox-client"}, "redirect_url": {reckless}, "decision": {"allow"}, "account": {"KHUID1"}}), 400)

	exchange := "/caminvoice/api/v1/auth/authorize/connect"
	b.want(b.send("POST", exchange, map[string]string{"auth_token": "x"}), 401, "invalid_client")
	b.want(b.send("POST", exchange, map[string]string{"auth_token": "x"}, basicly("caminvoice-sandbox-client", "wrong")), 401, "Invalid client credentials")
	b.want(b.send("POST", exchange, map[string]string{"authToken": "x"}, camBasic()), 422, "auth_token")
	b.want(b.send("POST", exchange, url.Values{"auth_token": {"x"}}, camBasic()), 422)
	b.want(b.send("POST", "/caminvoice/api/v1/token", map[string]string{"refresh_token": "x"}, camBasic()), 404)
	b.want(b.send("GET", "/caminvoice/api/v1/auth/token", nil, camBasic()), 405)
	b.want(b.send("GET", "/caminvoice/api/v1/business/KHUID00001234", nil, header("Authorization", "Bearer a.b.c")), 401)
	b.want(b.camWhitelist(), 422)
}

func TestCamInvoiceWordings(t *testing.T) {
	for wording, keys := range map[RefreshWording][]string{
		RefreshDocumented: {"token", "token_type", "expire_in"}, RefreshActual: {"access_token", "expireIn", "expire_at", "expired_at"},
		RefreshSample: {"access_token", "expire_at"}, RefreshExpiresAt: {"access_token", "expires_at"}, RefreshExpiresIn: {"access_token", "expires_in"},
		RefreshNumeric: {"access_token", "expires_in"}, RefreshDuration: {"access_token", "expire_in"}, RefreshBare: {"access_token"},
		RefreshOpaque: {"access_token"}, RefreshWithToken: {"token", "token_type", "expire_in", "refresh_token"},
	} {
		b := start(t, Options{CamInvoice: CamInvoiceOptions{Refresh: wording, RefreshAtSeedPath: true, AccessLifetime: 24 * time.Hour}})
		issued, err := b.Issue(CamInvoice, "KHUID00001234")
		if err != nil {
			t.Fatal(err)
		}
		a := b.want(b.send("POST", "/caminvoice/api/v1/token", map[string]string{"refresh_token": issued.Refresh}, camBasic()), 200)
		for _, key := range keys {
			if a.body[key] == nil {
				t.Errorf("%q lacks %s: %s", wording, key, a.raw)
			}
		}
		if len(a.body) != len(keys) {
			t.Errorf("%q answered %s", wording, a.raw)
		}
		if wording == RefreshDuration && a.body["expire_in"] != "1d" {
			t.Errorf("duration is %v", a.body["expire_in"])
		}
		b.want(b.camRefresh(issued.Refresh), 404)
	}
	for wording, part := range map[ExchangeWording]string{
		ExchangeDays: `"expires_in":"15m"`, ExchangeNumber: `"expires_in":900`, ExchangeUserProfile: `"userProfile":{"business_info"`,
		ExchangeData: `"data":{"business_info"`, ExchangeExtra: `"branches":`,
	} {
		b := start(t, Options{CamInvoice: CamInvoiceOptions{Exchange: wording}})
		if _, tokens := b.camConnect("KHUID00001234"); !strings.Contains(tokens.raw, part) {
			t.Errorf("%q answered %s", wording, tokens.raw)
		}
	}
	b := start(t, Options{CamInvoice: CamInvoiceOptions{Exchange: "no-endpoint,no-date"}})
	if _, tokens := b.camConnect("KHUID00001234"); strings.Contains(tokens.raw, "endpoint_id") || strings.Contains(tokens.raw, "incorporation") {
		t.Errorf("answered %s", tokens.raw)
	}
	b = start(t, Options{CamInvoice: CamInvoiceOptions{Exchange: ExchangeAnonymous}})
	if _, tokens := b.camConnect("KHUID00001234"); tokens.body["business_info"] != nil || strings.Contains(tokens.text("access_token"), ".") {
		t.Errorf("answered %s", tokens.raw)
	}
	b = start(t, Options{CamInvoice: CamInvoiceOptions{Errors: ErrorsMessage}})
	b.want(b.camRefresh("x"), 401, `{"message":"Invalid refresh token"}`)
	b = start(t, Options{CamInvoice: CamInvoiceOptions{Errors: ErrorsBare}})
	b.want(b.camRefresh("x"), 401, `{"message":"Unauthorized"}`)
}

func TestCamInvoiceRotatesWhenAsked(t *testing.T) {
	b := start(t, Options{CamInvoice: CamInvoiceOptions{Rotate: true, RefreshLifetime: time.Hour}})
	issued, _ := b.Issue(CamInvoice, "KHUID9000017")
	next := b.want(b.camRefresh(issued.Refresh), 200).text("refresh_token")
	b.want(b.camRefresh(issued.Refresh), 401)
	if spends := b.DoubleSpends(); len(spends) != 1 || spends[0].Account != "KHUID9000017" || spends[0].Unanswered {
		t.Errorf("double spends %+v", spends)
	}
	b.later(61 * time.Minute)
	b.want(b.camRefresh(next), 401)
}

func TestCamInvoiceRevocationAndWebhook(t *testing.T) {
	got := make(chan map[string]any, 5)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var event map[string]any
		raw, _ := io.ReadAll(r.Body)
		json.Unmarshal(raw, &event)
		got <- event
		w.WriteHeader(http.StatusNoContent)
	}))
	defer receiver.Close()
	b := start(t, Options{})
	_, tokens := b.camConnect("KHUID00001234")
	hook := "/caminvoice/api/v1/configure/configure-webhook"
	b.want(b.send("POST", hook, map[string]string{"webhook_url": receiver.URL}), 401, "error_description")
	b.want(b.send("POST", hook, map[string]string{}, camBasic()), 422)
	b.want(b.send("POST", hook, map[string]string{"webhook_url": receiver.URL}, camBasic()), 200, "successful")

	// The business withdraws access on the sandbox's page.
	b.want(b.send("GET", "/caminvoice/businesses", nil), 200, "Revoke access to CH168")
	b.want(b.send("POST", "/caminvoice/businesses", url.Values{"endpoint_id": {"KHUID00001234"}}), 200, "revoked")
	var event map[string]any
	select {
	case event = <-got:
	case <-time.After(30 * time.Second):
		t.Fatal("no event after 30 s")
	}
	if event["type"] != "ENTITY.REVOKED" || event["endpoint_id"] != "KHUID00001234" || len(event) != 2 {
		t.Errorf("event %v", event)
	}
	b.want(b.camRefresh(tokens.text("refresh_token")), 401, "invalid_grant")
	// A token that was issued works until it expires.
	b.want(b.send("GET", "/caminvoice/api/v1/business/KHUID00001234", nil, header("Authorization", "Bearer "+tokens.text("access_token"))), 200)
	if d := b.Deliveries(); len(d) != 1 || d[0].Status != 204 {
		t.Errorf("deliveries %+v", d)
	}

	// We end it: by business, and without a webhook.
	revoke := "/caminvoice/api/v1/auth/revoke"
	b.want(b.send("POST", revoke, map[string]string{"endpoint_id": "KHUID00001234"}, camBasic()), 403, "message")
	_, tokens = b.camConnect("KHUID00001234")
	b.want(b.send("POST", revoke, map[string]string{"endpoint_id": "KHUID00001234"}), 401)
	b.want(b.send("POST", revoke, map[string]string{"endpoint_id": "KHUID00001234"}, camBasic()), 200, "message")
	b.want(b.camRefresh(tokens.text("refresh_token")), 401)
	if len(got) != 0 {
		t.Error("our own revoke raised a webhook")
	}

	// One endpoint's own address goes first, until it is removed.
	b.want(b.send("POST", hook, map[string]string{"endpoint_id": "KHUID00005678", "webhook_url": "http://127.0.0.1:1/"}, camBasic()), 200)
	if status := b.Deliver(map[string]any{"type": "DOCUMENT.RECEIVED", "endpoint_id": "KHUID00005678"}); status != 0 {
		t.Errorf("delivered with %d", status)
	}
	b.want(b.send("DELETE", hook+"/KHUID00005678", nil), 401)
	b.want(b.send("DELETE", hook+"/KHUID00005678", nil, camBasic()), 200, "successful")
	if status := b.Deliver(map[string]any{"type": "DOCUMENT.RECEIVED", "endpoint_id": "KHUID00005678"}); status != 204 {
		t.Errorf("delivered with %d", status)
	}
}

func TestCamInvoiceRevokeKillsAccess(t *testing.T) {
	b := start(t, Options{CamInvoice: CamInvoiceOptions{RevokeKillsAccess: true}})
	issued, _ := b.Issue(CamInvoice, "KHUID00001234")
	bearer := header("Authorization", "Bearer "+issued.Access)
	b.want(b.send("GET", "/caminvoice/api/v1/business/KHUID00001234", nil, bearer), 200)
	if b.Revoke(CamInvoice, "KHUID00001234") != 1 || b.Restore(CamInvoice, "") != 1 {
		t.Error("revoke and restore do not count one grant")
	}
	b.want(b.send("GET", "/caminvoice/api/v1/business/KHUID00001234", nil, bearer), 200)
	if b.Expire(CamInvoice, "", "access") != 1 {
		t.Error("nothing expired")
	}
	b.want(b.send("GET", "/caminvoice/api/v1/business/KHUID00001234", nil, bearer), 401)
	b.want(b.camRefresh(issued.Refresh), 200)
	b.Expire(CamInvoice, "KHUID00001234", "refresh")
	b.want(b.camRefresh(issued.Refresh), 401)
}
