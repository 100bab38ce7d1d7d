package connectors_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"patchbay/internal/connectors"
	"patchbay/internal/status"
)

// TestAnswersOfTheCatalogue goes through what providers of a public catalogue answer, each by the finding or behaviour that it was.
func TestAnswersOfTheCatalogue(t *testing.T) {
	const day = 24 * time.Hour
	good := func(lifetime time.Duration, refresh bool) func(connectors.Grant) string {
		return func(g connectors.Grant) string {
			if g.Lifetime != lifetime || (g.Refresh != "") != refresh {
				return fmt.Sprintf("lasts %s, refresh token %t; want %s, %t", g.Lifetime, g.Refresh != "", lifetime, refresh)
			}
			return ""
		}
	}
	for _, one := range []struct {
		finding, who, keys, answer string
		userinfo                   string
		callback                   url.Values
		check                      func(connectors.Grant) string
	}{
		{finding: "1 and (a)", who: "GitHub", answer: `{"access_token":"A","scope":"repo","token_type":"bearer"}`, check: good(0, false)},
		{finding: "1 and (a)", who: "ClickUp", answer: `{"access_token":"A"}`, check: good(0, false)},
		{finding: "1", who: "Stripe, whose refresh token comes without an end", answer: `{"access_token":"A","refresh_token":"R","livemode":true}`, check: good(0, true)},
		{finding: "1", who: "WordPress", answer: `{"access_token":"A","blog_id":"1","token_type":"bearer","expires_in":0}`, check: good(0, false)},
		{finding: "1", who: "monday", answer: `{"access_token":"A","expires_in":null}`, check: good(0, false)},
		{finding: "2 and (b)", who: "LinkedIn", answer: `{"access_token":"A","expires_in":5184000}`, check: good(60*day, false)},
		{finding: "2 and (b)", who: "Facebook", answer: `{"access_token":"A","expires_in":"5183944"}`, check: good(5183944*time.Second, false)},
		{finding: "4", who: "QuickBooks, two companies of one bookkeeper", keys: `,"account":{"id":"callback.realmId"}`, answer: `{"access_token":"A","id_token":"` + jwt(`{"sub":"U"}`) + `"}`, callback: url.Values{"realmId": {"2"}}, check: accountIs("2", "2")},
		{finding: "5", who: "no identity at all", answer: `{"access_token":"A"}`, check: accountIs("", "")},
		{finding: "5", who: "Xero: a list as userinfo", answer: `{"access_token":"A"}`, userinfo: `[{"tenantId":"t"}]`, check: accountIs("", "")},
		{finding: "5", who: "HubSpot: the id is elsewhere", answer: `{"access_token":"A"}`, userinfo: `{"portalId":62515}`, check: accountIs("", "")},
		{finding: "5", who: "an account whose id is missing", keys: `,"account":{"id":"answer.team.id"}`, answer: `{"access_token":"A"}`, check: accountIs("", "")},
		{finding: "8 and (e)", who: "Google: a box unticked", keys: `,"scopes":["https://www.googleapis.com/auth/calendar","https://www.googleapis.com/auth/drive"]`, answer: `{"access_token":"A","scope":"https://www.googleapis.com/auth/drive openid"}`, check: missing("https://www.googleapis.com/auth/calendar")},
		{finding: "8 and (e)", who: "Google's long names for short ones", keys: `,"scopes":["openid","email","profile","calendar"]`, answer: `{"access_token":"A","scope":"https://www.googleapis.com/auth/calendar"}`, check: missing()},
		{finding: "8 and (e)", who: "what may be written may be read", keys: `,"scopes":["read_orders","read_products"]`, answer: `{"access_token":"A","scope":"write_orders"}`, check: missing("read_products")},
		{finding: "8 and (e)", who: "Slack's commas", keys: `,"scopes":["channels:read","users:read"],"scope_separator":","`, answer: `{"access_token":"A","scope":"channels:read"}`, check: missing("users:read")},
		{finding: "8 and (e)", who: "no scope in the answer", keys: `,"scopes":["a"]`, answer: `{"access_token":"A"}`, check: missing()},
		{finding: "9", who: "Amazon's seller in the callback", keys: `,"account":{"id":"callback.selling_partner_id"}`, answer: `{"access_token":"A"}`, callback: url.Values{"selling_partner_id": {"A3"}}, check: accountIs("A3", "A3")},
		{finding: "9", who: "what the callback carries and no entry names", answer: `{"access_token":"A"}`, callback: url.Values{"realmId": {"7"}}, check: accountIs("7", "7")},
		{finding: "token types", who: "Slack's bot", answer: `{"access_token":"A","token_type":"bot"}`, check: typeIs("bot")},
		{finding: "token types", who: "Slack's user", answer: `{"access_token":"A","token_type":"user"}`, check: typeIs("user")},
		{finding: "token types", who: "bearer in small letters", answer: `{"access_token":"A","token_type":"bearer"}`, check: typeIs("Bearer")},
		{finding: "token types", who: "none", answer: `{"access_token":"A"}`, check: typeIs("Bearer")},
		{finding: "token types", who: "another word", answer: `{"access_token":"A","token_type":"JWT"}`, check: typeIs("JWT")},
	} {
		keys := one.keys
		if one.userinfo != "" {
			keys += `,"userinfo_url":"BASE/userinfo"`
		}
		k := keyedProvider(t, keys, nil, map[string]string{"POST /token": one.answer, "GET /userinfo": one.userinfo})
		callback := url.Values{"code": {"C"}}
		for name, values := range one.callback {
			callback[name] = values
		}
		g, err := k.Exchange(t.Context(), flow(), callback)
		if err != nil {
			t.Errorf("finding %s, %s: %v", one.finding, one.who, err)
		} else if fault := one.check(g); fault != "" {
			t.Errorf("finding %s, %s: %s", one.finding, one.who, fault)
		}
	}
}

func accountIs(id, name string) func(connectors.Grant) string {
	return func(g connectors.Grant) string {
		if g.Account.ID != id || g.Account.Name != name {
			return fmt.Sprintf("account %q, named %q; want %q, %q", g.Account.ID, g.Account.Name, id, name)
		}
		return ""
	}
}

func missing(scopes ...string) func(connectors.Grant) string {
	return func(g connectors.Grant) string {
		if !slices.Equal(g.Missing, scopes) {
			return fmt.Sprintf("missing %q, want %q", g.Missing, scopes)
		}
		return ""
	}
}

func typeIs(kind string) func(connectors.Grant) string {
	return func(g connectors.Grant) string {
		if g.Type != kind {
			return "token type " + g.Type + ", want " + kind
		}
		return ""
	}
}

// TestRefusalsOfTheCatalogue is finding 6 and behaviour (d): who must act, by what providers answer.
func TestRefusalsOfTheCatalogue(t *testing.T) {
	for _, one := range []struct {
		who, answer        string
		exchanged, renewed status.Outcome
	}{
		{"HubSpot", `400|{"status":"BAD_REFRESH_TOKEN","message":"missing or unknown refresh token"}`, status.Rejected, status.Rejected},
		{"a code in error.code", `400|{"error":{"code":"invalid_grant"}}`, status.Rejected, status.Rejected},
		{"a code in errors[0].code", `400|{"errors":[{"code":"invalid_grant"}]}`, status.Rejected, status.Rejected},
		{"a code in code", `400|{"code":"invalid_grant"}`, status.Rejected, status.Rejected},
		{"a code in type", `401|{"type":"invalid_token"}`, status.Rejected, status.Rejected},
		{"Square", `401|{"errors":[{"category":"AUTHENTICATION_ERROR","code":"ACCESS_TOKEN_REVOKED"}]}`, status.Rejected, status.Rejected},
		{"Square, whose code speaks of a service", `401|{"type":"service.not_authorized","message":"Not Authorized"}`, status.Temporary, status.Temporary},
		{"401 without a word", `401|{}`, status.Temporary, status.Temporary},
		{"401 of a proxy", `401|<html>`, status.Temporary, status.Temporary},
		{"Entra: registered as a single-page application", `400|{"error":"invalid_request","error_description":"AADSTS9002327: Tokens issued for the 'Single-Page Application' client-type may only be redeemed via cross-origin requests."}`, status.ClientRejected, status.ClientRejected},
		{"our request is wrong, without a reason", `400|{"error":"invalid_request"}`, status.ClientRejected, status.Temporary},
		{"Entra: the secret is wrong", `401|{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided."}`, status.ClientRejected, status.ClientRejected},
		{"Slack: errors in 200", `{"ok":false,"error":"invalid_refresh_token"}`, status.Rejected, status.Rejected},
		{"Slack: our secret, in 200", `{"ok":false,"error":"bad_client_secret"}`, status.ClientRejected, status.ClientRejected},
		{"a no in 200, with a token beside it", `{"ok":false,"access_token":"A"}`, status.Temporary, status.Temporary},
		{"GitHub: in 200", `{"error":"bad_refresh_token","error_description":"The refresh token passed is incorrect or expired."}`, status.Rejected, status.Rejected},
		{"a proof of possession", `{"access_token":"A","token_type":"DPoP"}`, status.ClientRejected, status.ClientRejected},
		{"MAC", `{"access_token":"A","token_type":"mac"}`, status.ClientRejected, status.ClientRejected},
		{"it is down", `502|<html>`, status.Temporary, status.Temporary},
		{"it asks to wait", `429|{"error":"invalid_grant"}`, status.RateLimited, status.RateLimited},
	} {
		k := keyedProvider(t, ``, nil, map[string]string{"POST /token": one.answer})
		_, err := k.Exchange(t.Context(), flow(), url.Values{"code": {"C"}})
		_, again := k.Refresh(t.Context(), connectors.Grant{Token: connectors.Token{Refresh: "R"}})
		if connectors.OutcomeOf(err) != one.exchanged || connectors.OutcomeOf(again) != one.renewed {
			t.Errorf("%s: exchange %s, refresh %s; want %s, %s", one.who, connectors.OutcomeOf(err), connectors.OutcomeOf(again), one.exchanged, one.renewed)
		}
	}
}

// TestMicrosoftsTenants is behaviour (f): the issuer that common and organizations publish holds {tenantid}.
func TestMicrosoftsTenants(t *testing.T) {
	const tenant, other = "72f988bf-86f1-41af-91ab-2d7cd011db47", "9188040d-6c67-4c5b-b112-36a304b66dad"
	for _, one := range []struct {
		name, asked, published string // below the base
		iss, tid               string
		reason                 string // "" is access
	}{
		{"the tenant of the ID token", "/organizations/v2.0", "/{tenantid}/v2.0", "/" + tenant + "/v2.0", tenant, ""},
		{"a personal account", "/common/v2.0", "/{tenantid}/v2.0", "/" + other + "/v2.0", other, ""},
		{"iss and tid differ", "/organizations/v2.0", "/{tenantid}/v2.0", "/" + other + "/v2.0", tenant, "id-token (id_token: iss is another issuer)"},
		{"no tid", "/organizations/v2.0", "/{tenantid}/v2.0", "/" + tenant + "/v2.0", "", "id-token (id_token: iss is another issuer)"},
		{"a tid that is no GUID", "/organizations/v2.0", "/{tenantid}/v2.0", "/evil/v2.0", "evil", "id-token (id_token: iss is another issuer)"},
		{"a tid with a path", "/organizations/v2.0", "/{tenantid}/v2.0", "/a/../b/v2.0", "a/../b", "id-token (id_token: iss is another issuer)"},
		{"iss is {tenantid} itself", "/organizations/v2.0", "/{tenantid}/v2.0", "/{tenantid}/v2.0", tenant, "id-token (id_token: iss is another issuer)"},
		{"one tenant's own address", "/" + tenant + "/v2.0", "/" + tenant + "/v2.0", "/" + tenant + "/v2.0", tenant, ""},
		{"a path that is not the one that was asked", "/organizations/v1.0", "/{tenantid}/v2.0", "", "", "wrong-issuer (discovery: issuer is not the one that was asked)"},
		{"more than a tenant between", "/a/b/v2.0", "/{tenantid}/v2.0", "", "", "wrong-issuer (discovery: issuer is not the one that was asked)"},
	} {
		t.Run(one.name, func(t *testing.T) {
			i := newIssuer(t)
			i.claims = func(base, nonce string) string {
				return fmt.Sprintf(`{"iss":%q,"aud":"a c:me","sub":"7","nonce":%q,"exp":%d,"tid":%q,"oid":"o-1"}`, base+one.iss, nonce, time.Now().Unix()+300, one.tid)
			}
			all := i.handler()
			var base string
			base = serve(t, map[string]http.HandlerFunc{
				"/": all.ServeHTTP,
				"GET " + one.asked + openidPath: func(w http.ResponseWriter, _ *http.Request) {
					reply(w, 200, `{"issuer":%q,"authorization_endpoint":"%[2]s/authorize","token_endpoint":"%[2]s/token","jwks_uri":"%[2]s/keys"}`, base+one.published, base)
				},
			})
			entry := strings.ReplaceAll(byIssuer, `"issuer":"BASE"`, `"account":{"id":"id_token.oid","keep":{"tenant":"id_token.tid"}},"issuer":"BASE`+one.asked+`"`)
			c := connector(t, base, "acme", entry, acmeSettings).(connectors.Redirector)
			location, err := c.AuthorizationURL(t.Context(), flow())
			var g connectors.Grant
			if err == nil {
				callback := visit(location)
				callback.Set("iss", base+one.iss)
				if one.reason != "" {
					callback.Del("iss")
				}
				g, err = c.Exchange(t.Context(), flow(), callback)
			}
			if connectors.ReasonOf(err) != one.reason {
				t.Fatalf("%v, want %q", err, one.reason)
			}
			if err == nil && (g.Account.ID != "o-1" || g.Account.Values["tenant"] != one.tid) {
				t.Errorf("account %q with %v", g.Account.ID, g.Account.Values)
			}
		})
	}
}
