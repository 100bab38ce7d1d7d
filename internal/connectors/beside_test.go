package connectors_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"patchbay/internal/connectors"
)

// identified exchanges at a provider whose token endpoint answers with members besides the token, and whose userinfo names sub, if any.
func identified(t *testing.T, sub, members string, callback url.Values) connectors.Grant {
	t.Helper()
	entry := byAddress
	pages := map[string]http.HandlerFunc{
		"POST /token": answers(200, "application/json", `{"access_token":"the-access-token","token_type":"bearer"`+members+`}`),
	}
	if sub == "" {
		entry = strings.Replace(byAddress, `"userinfo_url":"BASE/userinfo",`, "", 1)
	} else {
		pages["GET /userinfo"] = answers(200, "application/json", fmt.Sprintf(`{"sub":%q}`, sub))
	}
	if callback == nil {
		callback = url.Values{}
	}
	callback.Set("code", "C")
	g, err := connector(t, serve(t, pages), "acme", entry, acmeSettings).(connectors.Redirector).Exchange(t.Context(), flow(), callback)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestWhatStandsBesideTheTokenNamesTheAccount(t *testing.T) {
	for _, one := range []struct {
		name, sub, members string
		callback           url.Values
		id, shown          string
		values             connectors.Values
	}{
		{"QuickBooks names the company in the callback", "U1", "", url.Values{"realmId": {"4620816365"}}, "U1/4620816365", "U1/4620816365", connectors.Values{"realmId": "4620816365"}},
		{"Slack nests the team", "", `,"team":{"id":"T1","name":"Acme"},"authed_user":{"id":"W1"},"app_id":"A1"`, nil, "T1", "Acme", connectors.Values{"team.id": "T1", "team.name": "Acme", "authed_user.id": "W1", "app_id": "A1"}},
		{"Notion's workspace", "", `,"workspace_id":"w-1","workspace_name":"Ops","bot_id":"b"`, nil, "w-1", "Ops", connectors.Values{"workspace_id": "w-1", "workspace_name": "Ops", "bot_id": "b"}},
		{"Square's merchant", "", `,"merchant_id":"ML1"`, nil, "ML1", "ML1", connectors.Values{"merchant_id": "ML1"}},
		{"Salesforce's instance", "U1", `,"instance_url":"https://na1.example"`, nil, "U1/https://na1.example", "U1/https://na1.example", connectors.Values{"instance_url": "https://na1.example"}},
		{"a company and a location in it", "U1", `,"companyId":"C1","locationId":"L1"`, nil, "U1/C1/L1", "U1/C1/L1", connectors.Values{"companyId": "C1", "locationId": "L1"}},
		{"a tenant as a number keeps its digits", "U1", `,"tenant_id":12345678901234567890`, nil, "U1/12345678901234567890", "U1/12345678901234567890", connectors.Values{"tenant_id": json.Number("12345678901234567890")}},
		{"Stripe's account, and whether it is live", "", `,"stripe_user_id":"acct_1","livemode":true`, nil, "acct_1", "acct_1", connectors.Values{"stripe_user_id": "acct_1", "livemode": true}},
		{"Amazon's seller in the callback", "", "", url.Values{"selling_partner_id": {"A3"}}, "A3", "A3", connectors.Values{"selling_partner_id": "A3"}},
		{"Shopify's shop in the callback", "", "", url.Values{"shop": {"a.myshopify.com"}, "hmac": {"x"}, "timestamp": {"1"}}, "a.myshopify.com", "a.myshopify.com", connectors.Values{"shop": "a.myshopify.com"}},
		{"Anthropic's organization by its uuid", "", `,"organization":{"uuid":"o-1","name":"Ops"}`, nil, "o-1", "Ops", connectors.Values{"organization.uuid": "o-1", "organization.name": "Ops"}},
		{"the person names the account if nothing else does", "", `,"open_id":"P1"`, nil, "P1", "P1", connectors.Values{"open_id": "P1"}},
		{"an athlete is a person", "", `,"athlete":{"id":77,"city":"X"}`, nil, "77", "77", connectors.Values{"athlete.id": json.Number("77")}},
		{"the same id twice is one", "A1", `,"account_id":"A1"`, nil, "A1", "A1", connectors.Values{"account_id": "A1"}},
		{"the answer outweighs the callback", "U1", `,"realm_id":"2"`, url.Values{"realmId": {"1"}}, "U1/2", "U1/2", connectors.Values{"realm_id": "2"}},
		{"an address in the callback is not taken", "U1", "", url.Values{"instance_url": {"https://evil.example"}}, "U1", "U1", connectors.Values{}},
		{"nor is what only programs need", "U1", "", url.Values{"api_domain": {"evil.example"}, "livemode": {"true"}}, "U1", "U1", connectors.Values{}},
		{"members without meaning change nothing", "U1", `,"scope":"a","x":"y","session_state":"z"`, url.Values{"session_state": {"z"}, "authuser": {"0"}, "hd": {"a.example"}, "iss": {"https://x"}}, "U1", "U1", connectors.Values{}},
		{"structures and lists name nothing", "U1", `,"team":["T1"],"account":{"owner":{"id":"x"}},"shop":null`, nil, "U1", "U1", connectors.Values{}},
		{"a member that repeats the token is dropped", "U1", `,"account":"the-access-token"`, nil, "U1", "U1", connectors.Values{}},
		{"the place's name is the person's if they have none", "U1", `,"team":{"id":"T1","name":"Acme"}`, nil, "U1/T1", "Acme", connectors.Values{"team.id": "T1", "team.name": "Acme"}},
		{"what is longer than an index takes is hashed", "U1", `,"team":"` + strings.Repeat("T", 254) + `"`, nil, "", "", connectors.Values{"team": strings.Repeat("T", 254)}},
		{"what is too long is no id", "U1", `,"team":"` + strings.Repeat("T", 600) + `"`, nil, "U1", "U1", connectors.Values{}},
	} {
		t.Run(one.name, func(t *testing.T) {
			g := identified(t, one.sub, one.members, one.callback)
			if a := g.Account; one.id != "" && (a.ID != one.id || a.Name != one.shown) || len(a.ID) > 255 || a.ID == "" {
				t.Errorf("account %q, shown as %q: want %q and %q", a.ID, a.Name, one.id, one.shown)
			}
			if !maps.Equal(g.Account.Values, one.values) {
				t.Errorf("values %v, want %v", g.Account.Values, one.values)
			}
			raw, err := json.Marshal(g.Account)
			var again connectors.Account
			if err != nil || json.Unmarshal(raw, &again) != nil || !maps.Equal(again.Values, g.Account.Values) {
				t.Errorf("values change on the way to the database: %s", raw)
			}
		})
	}
}

func TestMissingScopes(t *testing.T) {
	for _, one := range []struct {
		name, asked, granted string
		missing              []string
	}{
		{"an answer without scopes means as asked", "a b", "", nil},
		{"one is missing", "orders.read orders.write", "orders.read", []string{"orders.write"}},
		{"what says who the person is never is", "openid email profile address phone offline_access a", "a", nil},
		{"Google's long names stand for the short ones", "calendar email", "https://www.googleapis.com/auth/calendar openid", nil},
		{"and the short for the long", "https://www.googleapis.com/auth/drive", "drive", nil},
		{"what may be written may be read", "read_orders read_products", "write_orders", []string{"read_products"}},
		{"with a colon", "read:jira repo:read", "write:jira repo:write", nil},
		{"with a dot", "mail.read Mail.Read", "mail.write Mail.ReadWrite", nil},
		{"what may be read may not be written", "write_orders", "read_orders", []string{"write_orders"}},
		{"in other letters", "Orders.Read", "orders.read", nil},
	} {
		t.Run(one.name, func(t *testing.T) {
			members := ""
			if one.granted != "" {
				members = fmt.Sprintf(`,"scope":%q`, one.granted)
			}
			list, err := json.Marshal(strings.Fields(one.asked))
			if err != nil {
				t.Fatal(err)
			}
			entry := strings.Replace(byAddress, `"userinfo_url":"BASE/userinfo",`, "", 1)
			entry = strings.Replace(entry, `["orders.read"]`, string(list), 1)
			base := serve(t, map[string]http.HandlerFunc{"POST /token": answers(200, "application/json", `{"access_token":"A"`+members+`}`)})
			g, err := connector(t, base, "acme", entry, acmeSettings).(connectors.Redirector).Exchange(t.Context(), flow(), url.Values{"code": {"C"}})
			if err != nil || !slices.Equal(g.Missing, one.missing) {
				t.Errorf("%v %v, want %v", g.Missing, err, one.missing)
			}
		})
	}
}
