package views

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/a-h/templ"

	"patchbay/static"
)

var storyDir = flag.String("story", "", "write every page in every language to this folder, to be looked at")

var storyNow = time.Date(2026, 11, 22, 7, 5, 30, 0, time.UTC)

// TestStory renders every page with sample values in every language: none may fail, show a raw key, or carry what the
// content security policy forbids.
func TestStory(t *testing.T) {
	zone := time.FixedZone("", 7*3600)
	for name, page := range stories() {
		for _, tag := range Languages() {
			ctx := WithLocale(context.Background(), tag, storyNow, zone)
			var b strings.Builder
			if err := page.Render(ctx, &b); err != nil {
				t.Fatalf("%s in %s: %v", name, tag, err)
			}
			html := b.String()
			for _, bad := range []string{" style=", "<style", " onclick=", "javascript:", "%!", "<no value>"} {
				if strings.Contains(html, bad) {
					t.Errorf("%s in %s holds %q", name, tag, bad)
				}
			}
			for _, key := range rawKeys(ctx, html) {
				t.Errorf("%s in %s shows the key %s instead of its words", name, tag, key)
			}
			if *storyDir != "" {
				writeStory(t, name+"."+tag+".html", html)
			}
		}
	}
	if *storyDir != "" {
		for _, name := range []string{"app.css", "app.js", "favicon.svg", "fonts/khmer-400.woff2", "fonts/khmer-700.woff2"} {
			body, err := os.ReadFile(filepath.Join("../static", name))
			if err != nil {
				t.Fatal(err)
			}
			if name == "app.css" {
				body = []byte(strings.ReplaceAll(string(body), `url("fonts/`, `url("/static/fonts/`))
			}
			writeStory(t, static.URL(name), string(body))
			writeStory(t, "static/"+name, string(body))
		}
	}
}

func writeStory(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(*storyDir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// rawKeys finds texts of a page that look like a key nobody has written words for.
func rawKeys(ctx context.Context, html string) []string {
	var found []string
	for _, piece := range strings.FieldsFunc(html, func(r rune) bool { return r == '>' || r == '<' || r == '"' }) {
		piece = strings.TrimSpace(piece)
		prefix, _, dotted := strings.Cut(piece, ".")
		if dotted && !strings.ContainsAny(piece, " /:@") && keyPrefixes(ctx)[prefix] {
			found = append(found, piece)
		}
	}
	return found
}

func keyPrefixes(ctx context.Context) map[string]bool {
	out := map[string]bool{}
	for key := range localeOf(ctx).words.known {
		prefix, _, _ := strings.Cut(key, ".")
		out[prefix] = true
	}
	return out
}

var (
	sampleMerchant = &Person{Name: "Sok Dara", Email: "dara@ch168.example", Merchant: "CH168 Shop", Role: "merchant"}
	sampleAdmin    = &Person{Name: "Anna Tremblay", Email: "anna@platform.example", Role: "admin"}
	camInvoice     = Provider{Name: "caminvoice", Title: "CamInvoice", Environment: "sandbox", Color: "#1f5fa8"}
	elecq          = Provider{Name: "elecq", Title: "ELECQ", Environment: "sandbox", Color: "#2c7a3f"}
	flexiti        = Provider{Name: "flexiti", Title: "Flexiti", Environment: "production", Color: "#d9480f", Keyed: true}
	bookings       = Provider{Name: "bookings", Title: "Rivière Réservations", Environment: "sandbox", Color: "#7a3f9d", Keyed: true}
	acme           = Provider{Name: "acme", Title: "Acme", Environment: "production", Color: "#f2c14e"}
	ch168          = Account{
		ID: "KHUID00001234", Name: "CH168 Co., Ltd", OtherName: "ក្រុមហ៊ុនស៊ីអេច១៦៨", TIN: "1234567890",
		Details: []Detail{
			{"endpoint_id", "KHUID00001234"}, {"moc_id", "00012345"}, {"company_name_en", "CH168 Co., Ltd"}, {"company_name_kh", "ក្រុមហ៊ុនស៊ីអេច១៦៨"},
			{"tin", "1234567890"}, {"date_of_incorporation", "2019-03-01"}, {"business_type", "Private Limited Company"}, {"city", "Phnom Penh"}, {"country", "KH"},
			{"phone_number", "+855 12 345 678"}, {"email", "accounts@ch168.example"}, {"branch_code", "01"},
		},
	}
	mekong = Account{ID: "KHUID00009876", Name: "Mekong Trading Import Export Co., Ltd", OtherName: "មេគង្គ ត្រេឌីង", TIN: "K001-3333333", Details: []Detail{{"city", "Siem Reap"}}}
)

func ago(d time.Duration) time.Time { return storyNow.Add(-d) }
func in(d time.Duration) time.Time  { return storyNow.Add(d) }

const day = 24 * time.Hour

func merchantPage(path string) Page { return Page{Path: path, User: sampleMerchant} }
func adminPage(path string) Page    { return Page{Path: path, User: sampleAdmin} }

func stories() map[string]templ.Component {
	all := map[string]templ.Component{}
	merchantStories(all)
	flowStories(all)
	staffStories(all)
	return all
}

func merchantStories(all map[string]templ.Component) {
	all["login"] = Login(LoginPage{Page: Page{Path: "/login", Notice: "sign-in"}, Demo: []DemoSignIn{
		{"merchant", "merchant@example.com", "demo-merchant"}, {"support", "support@example.com", "demo-support"}, {"admin", "admin@example.com", "demo-admin"},
	}})
	all["login-failed"] = Login(LoginPage{Page: Page{Path: "/login"}, Email: "dara@ch168.example", Next: "/connections/0198", Failed: true})
	all["login-wait"] = Login(LoginPage{Page: Page{Path: "/login"}, Email: "dara@ch168.example", Wait: 12})
	incident := merchantPage("/")
	incident.Incidents = []Incident{{Provider: "ELECQ", Since: ago(40 * time.Minute)}}
	all["connections"] = Connections(ConnectionsPage{
		Page: incident,
		Connected: []ProviderCard{
			{Provider: camInvoice, Accounts: []ConnectedAccount{
				{ID: "0198a", Account: ch168, Health: Health{State: "fine"}},
				{ID: "0198b", Account: mekong, Health: Health{State: "action-needed", Who: "merchant", Problem: "refused"}},
			}},
			{Provider: elecq, Accounts: []ConnectedAccount{{ID: "0198c", Account: Account{ID: "88120045", Name: "88120045"}, Health: Health{State: "retrying", Who: "provider"}, ReconnectBy: in(2 * day)}}},
		},
		Offered: []ProviderCard{{Provider: flexiti}, {Provider: bookings}, {Provider: acme}},
	})
	all["connections-none"] = Connections(ConnectionsPage{Page: merchantPage("/"), Offered: []ProviderCard{{Provider: camInvoice}, {Provider: elecq}, {Provider: flexiti}, {Provider: bookings}}})
	all["connections-nothing"] = Connections(ConnectionsPage{Page: merchantPage("/")})

	all["connect"] = Connect(ConnectPage{Page: merchantPage("/connect/caminvoice"), Provider: camInvoice})
	all["connect-reconnect"] = Connect(ConnectPage{Page: merchantPage("/connect/acme"), Provider: acme, Asks: []string{"openid", "orders.read", "offline_access"}, ReconnectID: "0198a", ReconnectAs: "CH168 Co., Ltd"})
	fields := []Field{
		{Name: "client_id", Value: "f31120ee-b5cb-41c4-9529-288d02e91cd6"}, {Name: "client_secret", Secret: true},
		{Name: "scope", Options: []string{"merchant", "customer"}}, {Name: "merchant_username", Optional: true}, {Name: "merchant_password", Secret: true, Optional: true},
	}
	all["connect-keyed"] = Connect(ConnectPage{Page: merchantPage("/connect/flexiti"), Provider: flexiti, Fields: fields, AlreadyHas: true})
	all["connect-keyed-wrong"] = Connect(ConnectPage{Page: merchantPage("/connect/flexiti"), Provider: flexiti, Fields: fields, Errors: Errors{{"client_id", "swapped"}, {"client_secret", "missing"}}})
	all["connect-keyed-down"] = Connect(ConnectPage{Page: merchantPage("/connect/bookings"), Provider: bookings, Fields: fields[:2], Refused: "trouble", Reference: "K7M2-4QXD"})

	events := []Event{
		{At: ago(4 * time.Minute), Kind: "refreshed", Call: &Call{Name: "refresh", Class: "ok", Status: 200, Took: 240 * time.Millisecond, Reference: "5f0c2b7e9a1d4c3fb2e8d6a790314b5c"}},
		{At: ago(26 * time.Hour), Kind: "refresh.trouble", Call: &Call{Name: "refresh", Class: "trouble", Status: 503, Code: "service_unavailable", Took: 1240 * time.Millisecond}},
		{At: ago(4 * day), Kind: "reconnected", Actor: "Sok Dara", Where: "203.0.113.7"},
		{At: ago(90 * day), Kind: "connected", Actor: "Sok Dara"},
		{At: ago(400 * day), Kind: "somebody.elses_kind"},
	}
	own := ConnectionPage{
		Page: merchantPage("/connections/0198a"), ID: "0198a7c2-4b1e-7d63-9f10-6f2b8a4c1d77", Provider: camInvoice, Account: ch168, Health: Health{State: "fine"},
		ConnectedAt: ago(90 * day), RefreshedAt: ago(4 * time.Minute), AccessUntil: in(11 * time.Minute), Events: events, MayRefresh: true, MayReconnect: true, MayDisconnect: true,
	}
	all["connection"] = Connection(own)
	needs := own
	needs.Health = Health{State: "action-needed", Who: "merchant", Problem: "refused"}
	needs.Outcome = &Outcome{Class: "refused"}
	all["connection-action"] = Connection(needs)
	retrying := own
	retrying.Health = Health{State: "retrying", Who: "provider"}
	retrying.RenewsUntil = in(6 * day)
	retrying.Outcome = &Outcome{Class: "later", Retry: in(3 * time.Minute)}
	retrying.Provider = flexiti
	retrying.Account = Account{ID: "abc", Name: "Boulangerie de l’Étoile", Details: []Detail{{"client_id", "abc"}, {"scope", "merchant"}, {"form_values", `{"provinces":["QC","ON"]}`}, {"is_test", "false"}}}
	all["connection-retrying"] = Connection(retrying)
	ended := own
	ended.Health = Health{State: "disconnected"}
	ended.Disconnected = &Receipt{At: ago(time.Minute), By: "Sok Dara", Revoked: "done", DeletedAt: ago(time.Minute), RemainsUntil: in(11 * time.Minute), Reference: "K7M2-4QXD"}
	all["connection-disconnected"] = Connection(ended)
	ended.Disconnected = &Receipt{At: ago(time.Minute), By: "Sok Dara", Revoked: "not-offered", DeletedAt: ago(time.Minute), ProviderURL: "https://portal.example"}
	all["connection-disconnected-finish"] = Connection(ended)
	all["disconnect"] = Disconnect(DisconnectPage{Page: merchantPage("/connections/0198a/disconnect"), ID: "0198a", Provider: camInvoice, Account: ch168, Revokes: true, Until: in(11 * time.Minute)})
	all["disconnect-keyed"] = Disconnect(DisconnectPage{Page: merchantPage("/connections/0198a/disconnect"), ID: "0198a", Provider: flexiti, Account: Account{Name: "Boulangerie", ID: "abc"}})

	all["account"] = AccountSettings(AccountPage{
		Page: merchantPage("/account"), Name: "Sok Dara", Email: "dara@ch168.example", Locale: "km", Errors: Errors{{"current", "wrong"}},
		Sessions: []SessionLine{{ID: "1", Device: "Chrome on Android", Place: "203.0.113.7", Seen: ago(time.Minute), Current: true}, {ID: "2", Place: "198.51.100.20", Seen: ago(3 * day)}},
		People:   []PersonLine{{Name: "Sok Dara", Email: "dara@ch168.example", Seen: ago(time.Minute), You: true}, {Email: "sreymom@ch168.example", Seen: ago(20 * day), Locked: true}},
	})
	all["password"] = Password(PasswordPage{Page: Page{Path: "/password"}, Errors: Errors{{"email", "email"}}})
	all["password-sent"] = Password(PasswordPage{Page: Page{Path: "/password"}, Sent: true, Email: "dara@ch168.example"})
	all["password-no-mail"] = Password(PasswordPage{Page: Page{Path: "/password"}, Sent: true, NoMail: true})
	all["password-new"] = NewPassword(NewPasswordPage{Page: Page{Path: "/password/secret"}, Action: "/password/secret", Email: "dara@ch168.example", Errors: Errors{{"password", "too-short"}}})
	all["invitation"] = Invitation(InvitationPage{Page: Page{Path: "/invitations/secret"}, Action: "/invitations/secret", Merchant: "CH168 Shop", Email: "dara@ch168.example", InvitedBy: "Anna Tremblay"})
	all["invitation-reconnect"] = ReconnectAsk(ReconnectAskPage{Page: merchantPage("/invitations/secret"), Action: "/invitations/secret", Provider: camInvoice, Account: ch168})
	for _, status := range []int{400, 403, 404, 405, 413, 429, 500, 503} {
		all["error-"+statusText(status)] = Error(ErrorPage{Page: merchantPage("/x"), Status: status, Reference: "K7M2-4QXD", Wait: status / 429 * (429 / status) * 30})
	}
	all["error-link"] = Error(ErrorPage{Page: Page{Path: "/password/x"}, Status: 404, Code: "link"})
}

func flowStories(all map[string]templ.Component) {
	flow := func(outcome string) FlowPage {
		return FlowPage{Page: merchantPage("/flows/K7M2-4QXD"), Reference: "K7M2-4QXD", Provider: camInvoice, Outcome: outcome}
	}
	choice := func(c Choice) templ.Component {
		v := flow("choosing")
		c.Until = in(25 * time.Minute)
		v.Choice = &c
		return Flow(v)
	}
	all["flow-choosing"] = choice(Choice{Why: "confirm", Account: ch168, Options: []string{"connect", "cancel"}})
	all["flow-choosing-nameless"] = choice(Choice{Why: "confirm", Account: Account{Nameless: true}, Options: []string{"connect", "cancel"}})
	all["flow-choosing-differs"] = choice(Choice{Why: "differs", Account: mekong, Before: ch168, Options: []string{"replace", "keep-both", "cancel"}})
	all["flow-choosing-already"] = choice(Choice{Why: "already-connected", Account: ch168, Options: []string{"connect", "cancel"}})
	for _, outcome := range []string{
		"under-way", "denied", "cancelled", "expired", "other-browser", "other-user", "other-provider", "forged", "provider-down", "provider-busy",
		"provider-refused", "no-identity", "no-merchant", "ours", "interrupted", "unknown",
	} {
		v := flow(outcome)
		if outcome == "provider-busy" {
			v.RetryAfter = in(3 * time.Minute)
		}
		all["flow-"+outcome] = Flow(v)
	}
	connected := flow("connected")
	connected.Account, connected.ConnectionID = ch168, "0198a"
	all["flow-connected"] = Flow(connected)
	connected.Renewed = true
	all["flow-renewed"] = Flow(connected)
	again := flow("denied")
	again.Reconnect, again.ConnectionID = true, "0198a"
	all["flow-denied-reconnect"] = Flow(again)
	staff := flow("provider-down")
	staff.User = sampleAdmin
	staff.Staff = &StaffFlow{
		Merchant: "CH168 Shop", MerchantID: "m1", By: "Sok Dara", Stage: "failed", Created: ago(time.Hour), Expires: ago(50 * time.Minute),
		Events: []Event{{At: ago(time.Hour), Kind: "flow.failed", Call: &Call{Class: "trouble", Status: 502, Took: 900 * time.Millisecond}}},
	}
	all["flow-staff"] = Flow(staff)
}

func staffStories(all map[string]templ.Component) {
}
