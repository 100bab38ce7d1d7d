package sandbox

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

const elecqCallback = app + "/connect/elecq/callback"

func elecqBasic() with { return basicly("elecq-sandbox-client", "elecq-sandbox-secret") }

func elecqAuthorize(client, callback string) string {
	return "/elecq/authorize?" + url.Values{"clientId": {client}, "redirectUri": {callback}, "responseType": {"code"}, "state": {"s1"}}.Encode()
}

func (b *bench) elecqToken(code string, by with) answer {
	return b.send("POST", "/elecq/token", map[string]string{"authorizationCode": code}, by)
}

func (b *bench) elecqRefresh(refresh string) answer {
	return b.send("POST", "/elecq/refresh", map[string]string{"refreshToken": refresh}, elecqBasic())
}

func (b *bench) data(a answer) map[string]any {
	b.Helper()
	data, _ := a.body["data"].(map[string]any)
	if data == nil {
		b.Fatalf("no data: %s", a.raw)
	}
	return data
}

func TestELECQInTheBrowser(t *testing.T) {
	b := start(t, Options{})
	page := b.want(b.send("GET", elecqAuthorize("elecq-sandbox-client", elecqCallback), nil), 200, "imitates ELECQ")
	back := b.want(b.decide(page, "/elecq/sign-in", "100391", "allow"), 303)
	if !strings.HasPrefix(back.header.Get("Location"), elecqCallback+"?code=") || back.query().Has("state") {
		t.Fatalf("back to %s", back.header.Get("Location"))
	}
	code := back.query().Get("code")
	data := b.data(b.want(b.elecqToken(code, elecqBasic()), 200, `"respCode":"200"`, `"respMsg":"success"`))
	if data["tokenType"] != "Bearer" || data["accessTokenExpiresIn"] != 86400.0 || data["refreshTokenExpiresIn"] != 604800.0 {
		t.Errorf("data %v", data)
	}
	head, claims := b.claims(data["accessToken"].(string))
	if !regexp.MustCompile(`^\d{8}$`).MatchString(head["random"].(string)) || claims["USER_ID"] != "100391" || claims["aud"] != "token" {
		t.Errorf("access token %v %v", head, claims)
	}
	if _, claims := b.claims(data["refreshToken"].(string)); claims["aud"] != "refreshToken" || claims["exp"].(float64)-claims["iat"].(float64) != 604800 {
		t.Errorf("refresh token %v", claims)
	}
	b.want(b.elecqToken(code, elecqBasic()), 200, `"respCode":"401"`, `"data":null`) // one use, failure inside HTTP 200

	denied := b.want(b.decide(page, "/elecq/sign-in", "100391", "deny"), 303)
	if denied.query().Get("error") != "access_denied" {
		t.Errorf("denied: %s", denied.header.Get("Location"))
	}
}

func TestELECQAuthorizeForServers(t *testing.T) {
	b := start(t, Options{ELECQ: ELECQOptions{EchoState: true, CodeParam: "authorizationCode", SuccessCode: "000000"}})
	to := b.want(b.send("GET", elecqAuthorize("elecq-sandbox-client", elecqCallback), nil, elecqBasic()), 302).header.Get("Location")
	if !strings.HasPrefix(to, b.BaseURL()+"/elecq/sign-in?") {
		t.Fatalf("sent to %s", to)
	}
	back := b.decide(b.want(b.send("GET", to, nil), 200), "/elecq/sign-in", "100245", "allow")
	if back.query().Get("state") != "s1" || back.query().Get("code") != "" {
		t.Errorf("back to %s", back.header.Get("Location"))
	}
	b.want(b.elecqToken(back.query().Get("authorizationCode"), elecqBasic()), 200, `"respCode":"000000"`)

	// A merchant's own credentials: the callback at once, and only they can exchange.
	canal := basicly("canal-parking", "elecq-canal-5f0d1c7be2a94c36")
	back = b.want(b.send("GET", elecqAuthorize("canal-parking", elecqCallback), nil, canal), 302)
	code := back.query().Get("authorizationCode")
	b.want(b.elecqToken(code, elecqBasic()), 200, `"respCode":"401"`)
	_, claims := b.claims(b.data(b.elecqToken(code, canal))["accessToken"].(string))
	if claims["USER_ID"] != "100245" {
		t.Errorf("account %v", claims)
	}
	b.want(b.send("GET", elecqAuthorize("elecq-sandbox-client", elecqCallback), nil, canal), 401) // not its own id
	b.want(b.send("GET", elecqAuthorize("canal-parking", elecqCallback), nil, basicly("canal-parking", "x")), 401)
	b.want(b.send("GET", elecqAuthorize("canal-parking", reckless), nil, canal), 400)

	direct := start(t, Options{ELECQ: ELECQOptions{Direct: true}})
	back = direct.want(direct.send("GET", elecqAuthorize("elecq-sandbox-client", elecqCallback), nil, elecqBasic()), 302)
	if !strings.HasPrefix(back.header.Get("Location"), elecqCallback+"?code=") {
		t.Errorf("direct: %s", back.header.Get("Location"))
	}
	direct.want(direct.send("GET", "/elecq/authorize/direct?clientId=elecq-sandbox-client", nil, elecqBasic()), 200, "authorizationCode")
	direct.want(direct.send("GET", "/elecq/authorize/direct", nil, elecqBasic()), 200, `"respCode":"401"`)
}

func TestELECQIsStrict(t *testing.T) {
	b := start(t, Options{ELECQ: ELECQOptions{HTTPErrors: true}})
	b.want(b.send("GET", elecqAuthorize("elecq-sandbox-client", elecqCallback+"?x=1"), nil), 400, "redirectUri")
	b.want(b.send("GET", elecqAuthorize("someone", elecqCallback), nil), 400, "clientId")
	b.want(b.send("GET", strings.Replace(elecqAuthorize("elecq-sandbox-client", elecqCallback), "=code", "=token", 1), nil), 400, "responseType")
	b.want(b.elecqToken("x", basicly("elecq-sandbox-client", "wrong")), 401, `"respCode":"401"`)
	b.want(b.send("POST", "/elecq/token", map[string]string{"authorizationCode": "x", "grant_type": "authorization_code"}, elecqBasic()), 400)
	b.want(b.send("POST", "/elecq/token", url.Values{"authorizationCode": {"x"}}, elecqBasic()), 400)
	b.want(b.send("POST", "/elecq/refresh", map[string]string{"refresh_token": "x"}, elecqBasic()), 400)
	b.want(b.elecqRefresh("x"), 401)
	page := b.send("GET", elecqAuthorize("elecq-sandbox-client", elecqCallback), nil)
	b.want(b.decide(page, "/elecq/sign-in", "1", "allow"), 400)
	code := b.decide(page, "/elecq/sign-in", "100245", "allow").query().Get("code")
	b.later(11 * time.Minute)
	b.want(b.elecqToken(code, elecqBasic()), 401)
}

func TestELECQRefreshes(t *testing.T) {
	b := start(t, Options{})
	issued, err := b.Issue(ELECQ, "100245")
	if err != nil {
		t.Fatal(err)
	}
	b.later(6 * 24 * time.Hour)
	next := b.data(b.want(b.elecqRefresh(issued.Refresh), 200))
	if next["refreshToken"] == issued.Refresh || next["refreshTokenExpiresIn"] != 604800.0 {
		t.Errorf("refreshed %v", next)
	}
	b.want(b.elecqRefresh(issued.Refresh), 200, `"respCode":"401"`)
	if len(b.DoubleSpends()) != 1 {
		t.Errorf("double spends %v", b.DoubleSpends())
	}
	b.later(6 * 24 * time.Hour) // extended: over seven days in all
	last := b.data(b.elecqRefresh(next["refreshToken"].(string)))
	b.later(8 * 24 * time.Hour)
	b.want(b.elecqRefresh(last["refreshToken"].(string)), 200, `"respCode":"401"`)

	fixed := start(t, Options{ELECQ: ELECQOptions{FixedDeadline: true}})
	issued, _ = fixed.Issue(ELECQ, "100245")
	fixed.later(6 * 24 * time.Hour)
	next = fixed.data(fixed.elecqRefresh(issued.Refresh))
	if life := next["refreshTokenExpiresIn"].(float64); life > 86400 || life < 86300 {
		t.Errorf("refresh token has %v s left", life)
	}
	fixed.later(25 * time.Hour)
	fixed.want(fixed.elecqRefresh(next["refreshToken"].(string)), 200, `"respCode":"401"`)

	keep := start(t, Options{ELECQ: ELECQOptions{OmitRefreshToken: true}})
	issued, _ = keep.Issue(ELECQ, "100245")
	for range 2 {
		if data := keep.data(keep.elecqRefresh(issued.Refresh)); data["refreshToken"] != nil {
			t.Errorf("refreshed %v", data)
		}
	}
	if len(keep.DoubleSpends()) != 0 {
		t.Error("counted as a double spend")
	}
	b.Revoke(ELECQ, "")
	keep.Revoke(ELECQ, "100245")
	keep.want(keep.elecqRefresh(issued.Refresh), 200, `"respCode":"401"`)
}
