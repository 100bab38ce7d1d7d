package views

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/a-h/templ"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/bulk"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/status"
	"patchbay/internal/webhooks"
	"patchbay/static"
)

var storyDir = flag.String("story", "", "write every page in every language to this folder, to be looked at")

var storyNow = time.Date(2026, 11, 22, 7, 5, 30, 0, time.UTC)

// TestStory renders every page with sample values in every language: none may fail, show a raw key, or carry what the
// content security policy forbids, nor a class of a type that templ does not know.
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
			for _, bad := range []string{" style=", "<style", " onclick=", "javascript:", "%!", "<no value>", "templ-css-class-unknown-type"} {
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
		if slices.Contains(webhooks.Types(), webhooks.Type(piece)) {
			continue // shown beside its words, as programs know it
		}
		if dotted && !strings.ContainsAny(piece, " /:@") && keyPrefixes(ctx)[prefix] {
			found = append(found, piece)
		}
	}
	return found
}

func keyPrefixes(ctx context.Context) map[string]bool {
	out := map[string]bool{}
	for key := range localeOf(ctx).messages {
		prefix, _, _ := strings.Cut(key, ".")
		out[prefix] = true
	}
	return out
}

var (
	sampleMerchant = &Person{User: account.User{ID: pg.NewID(), Name: "Sok Dara", Email: "dara@ch168.example", Role: "merchant"}, Merchant: "CH168 Shop"}
	sampleAdmin    = &Person{User: account.User{ID: pg.NewID(), Name: "Anna Tremblay", Email: "anna@platform.example", Role: "admin"}}
	camInvoice     = Provider{Name: "caminvoice", Title: "CamInvoice", Environment: "sandbox", Color: "#1f5fa8"}
	elecq          = Provider{Name: "elecq", Title: "ELECQ", Environment: "sandbox", Color: "#2c7a3f"}
	flexiti        = Provider{Name: "flexiti", Title: "Flexiti", Environment: "production", Color: "#d9480f", Keyed: true}
	bookings       = Provider{Name: "bookings", Title: "Rivière Réservations", Environment: "sandbox", Color: "#7a3f9d", Keyed: true}
	acme           = Provider{Name: "acme", Title: "Acme", Environment: "production", Color: "#f2c14e"}
	keys           = connectors.AccountKeys{OtherName: "company_name_kh", Identifier: "tin"}
	ch168          = Account{Keys: keys, Account: connectors.Account{
		ID: "KHUID00001234", Name: "CH168 Co., Ltd",
		Details: []connectors.Detail{
			{Key: "endpoint_id", Value: "KHUID00001234"},
			{Key: "moc_id", Value: "00012345"},
			{Key: "company_name_en", Value: "CH168 Co., Ltd"},
			{Key: "company_name_kh", Value: "ក្រុមហ៊ុនស៊ីអេច១៦៨"},
			{Key: "tin", Value: "1234567890"},
			{Key: "date_of_incorporation", Value: "2019-03-01"},
			{Key: "business_type", Value: "Private Limited Company"},
			{Key: "city", Value: "Phnom Penh"},
			{Key: "country", Value: "KH"},
			{Key: "phone_number", Value: "+855 12 345 678"},
			{Key: "email", Value: "accounts@ch168.example"},
			{Key: "branch_code", Value: "01"},
		},
	}}
	shop   = db.Merchant{ID: pg.NewID(), Name: "CH168 Shop", ExternalID: "shop-17", CreatedAt: storyNow.AddDate(-1, -1, 0)}
	mekong = Account{Keys: keys, Account: connectors.Account{
		ID: "KHUID00009876", Name: "Mekong Trading Import Export Co., Ltd",
		Details: []connectors.Detail{{Key: "company_name_kh", Value: "មេគង្គ ត្រេឌីង"}, {Key: "tin", Value: "K001-3333333"}, {Key: "city", Value: "Siem Reap"}},
	}}
)

func event(e audit.Event, actor string) Event {
	return Event{Line: audit.Line{Event: e, ActorName: actor}}
}

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
	all["login-sso"] = Login(LoginPage{Page: Page{Path: "/login"}, Next: "/connections/0198", SSO: "Canal Accounts"})
	for _, code := range []string{"away", "denied", "stale", "invalid", "no-role", "no-merchant", "several-merchants", "locked"} {
		all["sso-"+code] = SSOEnded(SSOEndedPage{Page: Page{Path: "/login"}, Code: code, Title: "Canal Accounts", Next: "/connections/0198", Reference: "K7M2-4QXD"})
	}
	all["login-wait"] = Login(LoginPage{Page: Page{Path: "/login"}, Email: "dara@ch168.example", Wait: 12})
	incident := merchantPage("/")
	incident.Incidents = []Incident{{Provider: "ELECQ", Since: ago(40 * time.Minute)}}
	all["connections"] = Connections(ConnectionsPage{
		Page: incident,
		Needed: []OwnedConnection{
			{ID: "0198b", Provider: camInvoice, Account: mekong, Status: status.Status{Health: status.ActionNeeded, Party: status.PartyMerchant, Problem: status.ProblemRejected}},
			{ID: "0198c", Provider: elecq, Account: Account{Account: connectors.Account{ID: "88120045", Name: "88120045"}}, Status: status.Status{Health: status.Retrying, Party: status.PartyProvider}, ReconnectBy: in(2 * day)},
		},
		Waiting:   []WaitingFlow{{Reference: "K7M2-4QXD", Account: ch168, Until: in(25 * time.Minute)}},
		Connected: []OwnedConnection{{ID: "0198a", Provider: camInvoice, Account: ch168, Status: status.Status{Health: status.Fine}}},
		Offered:   []Offer{{Provider: flexiti}, {Provider: bookings}, {Provider: acme, Another: true}},
		Ended:     true,
	})
	all["connections-many"] = Connections(ConnectionsPage{Page: merchantPage("/"), Many: true, Query: "pay", Offered: []Offer{{Provider: flexiti}, {Provider: bookings}, {Provider: acme}}})
	all["connections-found-nothing"] = Connections(ConnectionsPage{Page: merchantPage("/"), Many: true, Query: "<x>"})
	all["connections-ended"] = Ended(EndedPage{Page: merchantPage("/"), Ended: []EndedConnection{{OwnedConnection{ID: "0198a", Provider: camInvoice, Account: ch168, Status: status.Status{Health: status.Disconnected}}, ago(2 * day)}}})
	all["connections-ended-none"] = Ended(EndedPage{Page: merchantPage("/")})
	all["connections-none"] = Connections(ConnectionsPage{Page: merchantPage("/"), Offered: []Offer{{Provider: camInvoice}, {Provider: elecq}, {Provider: flexiti}, {Provider: bookings}}})
	all["connections-nothing"] = Connections(ConnectionsPage{Page: merchantPage("/")})

	all["connect"] = Connect(ConnectPage{Page: merchantPage("/connect/caminvoice"), Provider: camInvoice})
	all["connect-reconnect"] = Connect(ConnectPage{Page: merchantPage("/connect/acme"), Provider: acme, ReconnectID: "0198a", ReconnectAs: &ch168})
	fields := []Field{
		{Field: connectors.Field{Name: "client_id"}, Value: "f31120ee-b5cb-41c4-9529-288d02e91cd6"},
		{Field: connectors.Field{Name: "client_secret", Secret: true}},
		{Field: connectors.Field{Name: "scope", Options: []string{"merchant", "customer"}}},
		{Field: connectors.Field{Name: "merchant_username", Optional: true}},
		{Field: connectors.Field{Name: "merchant_password", Secret: true, Optional: true}},
	}
	all["connect-keyed"] = Connect(ConnectPage{Page: merchantPage("/connect/flexiti"), Provider: flexiti, Fields: fields, AlreadyHas: true})
	all["connect-keyed-wrong"] = Connect(ConnectPage{Page: merchantPage("/connect/flexiti"), Provider: flexiti, Fields: fields, Errors: Errors{{Field: "client_id", Code: "swapped"}, {Field: "client_secret", Code: "missing"}}})
	asked := []Field{
		{Field: connectors.Field{
			Name: "shop", Suffix: ".myshopify.com", Example: "ch168", Title: connectors.Words{"en": "Shop", "km": "ហាង", "fr": "Boutique"},
			Help: connectors.Words{"en": "The name in your shop’s address.", "km": "ឈ្មោះក្នុងអាសយដ្ឋានហាងរបស់អ្នក។", "fr": "Le nom dans l’adresse de votre boutique."},
		}, Value: "ch168.evil.com"},
		{Field: connectors.Field{Name: "region", Options: []string{"eu", "us"}, Title: connectors.Words{"en": "Region", "km": "តំបន់", "fr": "Région"}}, Value: "us"},
		{Field: connectors.Field{Name: "pin", Secret: true, Title: connectors.Words{"en": "Partner PIN", "km": "លេខសម្ងាត់ដៃគូ", "fr": "Code partenaire"}}},
		{Field: connectors.Field{Name: "note", Optional: true, Title: connectors.Words{"en": "Branch", "km": "សាខា", "fr": "Succursale"}}},
	}
	asks := Provider{Name: "shopify", Title: "Shopify", Environment: "production", Color: "#3d6b21"}
	key := Provider{Name: "depot", Title: "Depot", Environment: "sandbox", Color: "#8a3b12", Keyed: true, Key: true, Unproved: true}
	all["connect-asks"] = Connect(ConnectPage{Page: merchantPage("/connect/shopify"), Provider: asks, Fields: asked, Errors: Errors{{Field: "shop", Code: "malformed"}}})
	all["connect-key"] = Connect(ConnectPage{Page: merchantPage("/connect/depot"), Provider: key, Fields: asked[2:3]})
	all["connect-keyed-down"] = Connect(ConnectPage{Page: merchantPage("/connect/bookings"), Provider: bookings, Fields: fields[:2], Refused: "trouble", Reference: "K7M2-4QXD"})

	events := []Event{
		event(audit.Event{At: ago(4 * time.Minute), Kind: status.RefreshSaved, Outcome: status.OK, Millis: 240, Reference: "5f0c2b7e9a1d4c3fb2e8d6a790314b5c"}, ""),
		event(audit.Event{At: ago(26 * time.Hour), Kind: status.RefreshTemporary, Outcome: status.Temporary, Status: 503, Code: "service_unavailable", Millis: 1240}, ""),
		event(audit.Event{At: ago(4 * day), Kind: status.ConnectionReconnected, Actor: audit.Actor{Address: "203.0.113.7"}}, "Sok Dara"),
		event(audit.Event{At: ago(90 * day), Kind: status.ConnectionConnected}, "Sok Dara"),
		event(audit.Event{At: ago(400 * day), Kind: "somebody.elses_kind"}, ""),
	}
	own := ConnectionPage{
		Page: merchantPage("/connections/0198a"), Provider: camInvoice, Account: ch168, Status: status.Status{Health: status.Fine},
		Connection: db.ConnectionDetail{ConnectionRow: db.ConnectionRow{Connection: db.Connection{ID: pg.NewID(), ConnectedAt: ago(90 * day)}, RefreshedAt: ago(4 * time.Minute), ExpiresAt: in(11 * time.Minute)}},
		Events:     events, MayRefresh: true, MayReconnect: true, MayDisconnect: true,
	}
	all["connection"] = Connection(own)
	needs := own
	needs.Status = status.Status{Health: status.ActionNeeded, Party: status.PartyMerchant, Problem: status.ProblemRejected}
	needs.Outcome = &Outcome{Code: string(status.Rejected), Health: status.ActionNeeded}
	all["connection-action"] = Connection(needs)
	retrying := own
	retrying.Status = status.Status{Health: status.Retrying, Party: status.PartyProvider}
	retrying.RenewsUntil = in(6 * day)
	retrying.Outcome = &Outcome{Code: string(status.RateLimited), Health: status.Retrying, Retry: in(3 * time.Minute)}
	retrying.Provider = flexiti
	retrying.Account = Account{Account: connectors.Account{ID: "abc", Name: "Boulangerie de l’Étoile", Details: []connectors.Detail{
		{Key: "client_id", Value: "abc"}, {Key: "scope", Value: "merchant"}, {Key: "form_values", Value: `{"provinces":["QC","ON"]}`}, {Key: "is_test", Value: "false"},
	}}}
	all["connection-retrying"] = Connection(retrying)
	ended := own
	ended.Status = status.Status{Health: status.Disconnected}
	ended.Receipt = &db.Receipt{At: ago(time.Minute), By: "Sok Dara", Revoked: status.RevokedDone, RemainsUntil: in(11 * time.Minute)}
	all["connection-disconnected"] = Connection(ended)
	ended.Receipt = &db.Receipt{At: ago(time.Minute), By: "Sok Dara", Revoked: status.RevokedNotOffered}
	ended.Provider.HomeURL = "https://portal.example"
	all["connection-disconnected-finish"] = Connection(ended)
	all["disconnect"] = Disconnect(DisconnectPage{Page: merchantPage("/connections/0198a/disconnect"), ID: "0198a", Provider: camInvoice, Account: ch168, Revokes: true, Until: in(11 * time.Minute)})
	all["disconnect-keyed"] = Disconnect(DisconnectPage{Page: merchantPage("/connections/0198a/disconnect"), ID: "0198a", Provider: flexiti, Account: Account{Account: connectors.Account{Name: "Boulangerie", ID: "abc"}}})

	all["account"] = AccountSettings(AccountPage{
		Page: merchantPage("/account"), Name: "Sok Dara", Email: "dara@ch168.example", Locale: "km", Errors: Errors{{Field: "current", Code: "wrong"}},
		Sessions: []account.Session{
			{Hash: []byte("a session's hash"), Agent: "Mozilla/5.0 (Linux; Android 14; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36", Address: "203.0.113.7", SeenAt: ago(time.Minute)},
			{Hash: []byte("another session's hash"), Address: "198.51.100.20", SeenAt: ago(3 * day)},
		},
		Session: account.Session{Hash: []byte("a session's hash")}.Name(),
		People:  []account.UserRow{{User: sampleMerchant.User, SeenAt: ago(time.Minute)}, {User: account.User{Email: "sreymom@ch168.example", LockedAt: ago(day)}, SeenAt: ago(20 * day)}},
	})
	all["password"] = Password(PasswordPage{Page: Page{Path: "/password"}, Errors: Errors{{Field: "email", Code: "email"}}})
	all["password-sent"] = Password(PasswordPage{Page: Page{Path: "/password"}, Sent: true, Email: "dara@ch168.example"})
	all["password-no-mail"] = Password(PasswordPage{Page: Page{Path: "/password"}, Sent: true, NoMail: true})
	all["password-new"] = NewPassword(NewPasswordPage{Page: Page{Path: "/password/secret"}, Action: "/password/secret", Email: "dara@ch168.example", Errors: Errors{{Field: "password", Code: "short"}}})
	all["invitation"] = Invitation(InvitationPage{Page: Page{Path: "/invitations/secret"}, Action: "/invitations/secret", Merchant: "CH168 Shop", Email: "dara@ch168.example", InvitedBy: "Anna Tremblay"})
	all["invitation-reconnect"] = ReconnectAsk(ReconnectAskPage{Page: merchantPage("/invitations/secret"), Action: "/invitations/secret", Provider: camInvoice, Account: ch168})
	all["invitation-reconnect-staff"] = ReconnectAsk(ReconnectAskPage{Page: adminPage("/reconnect/secret"), Provider: camInvoice, Account: ch168, Merchant: "CH168 Shop", ConnectionID: "0198b"})
	all["invitation-elsewhere"] = ReconnectElsewhere(ReconnectElsewherePage{Page: merchantPage("/reconnect/secret"), Next: "/reconnect/secret"})
	all["login-reconnect"] = Login(LoginPage{Page: Page{Path: "/login"}, Next: "/reconnect/secret"})
	for _, status := range []int{400, 403, 404, 405, 413, 421, 429, 500, 503} {
		all["error-"+statusText(status)] = Error(ErrorPage{Page: merchantPage("/x"), Status: status, Reference: "K7M2-4QXD", Wait: status / 429 * (429 / status) * 30})
	}
	all["error-link"] = Error(ErrorPage{Page: Page{Path: "/password/x"}, Status: 404, Code: "link"})
}

func flowStories(all map[string]templ.Component) {
	flow := func(stage status.Stage, outcome status.End) FlowPage {
		return FlowPage{
			Page: merchantPage("/flows/K7M2-4QXD"), Provider: camInvoice,
			Flow: db.Flow{Reference: "K7M2-4QXD", Stage: stage, Outcome: outcome, ResultID: pg.NewID(), CreatedAt: ago(time.Hour), ExpiresAt: in(25 * time.Minute)},
		}
	}
	choice := func(o db.ConnectOffer, account, before Account) templ.Component {
		v := flow(status.StageChoosing, "")
		v.Offer, v.Account, v.Before = &o, account, before
		return Flow(v)
	}
	all["flow-choosing"] = choice(db.ConnectOffer{Why: db.AskConfirm, Options: []db.Choice{"connect", "cancel"}}, ch168, Account{})
	all["flow-choosing-nameless"] = choice(db.ConnectOffer{Why: db.AskConfirm, Options: []db.Choice{"connect", "cancel"}}, Account{}, Account{})
	all["flow-choosing-differs"] = choice(db.ConnectOffer{Why: db.AskDiffers, Options: []db.Choice{"replace", "keep-both", "cancel"}}, mekong, ch168)
	all["flow-choosing-already"] = choice(db.ConnectOffer{Why: db.AskConnected, Options: []db.Choice{"connect", "cancel"}}, ch168, Account{})
	all["flow-under-way"] = Flow(flow(status.StageExchanging, ""))
	for _, outcome := range []status.End{
		status.EndDenied, status.EndCancelled, status.EndExpired, status.EndOtherBrowser, status.EndOtherUser, status.EndOtherProvider, status.EndForged, status.EndInput,
		status.EndTemporary, status.EndRateLimited, status.EndRejected, status.EndNoIdentity, status.EndUnverified, status.EndNoMerchant, status.EndClientRejected, status.EndInterrupted, "of-tomorrow",
	} {
		all["flow-"+string(outcome)] = Flow(flow(status.StageFailed, outcome))
	}
	connected := flow(status.StageConnected, status.EndConnected)
	connected.Account = ch168
	all["flow-connected"] = Flow(connected)
	connected.Flow.Outcome = status.EndRenewed
	all["flow-renewed"] = Flow(connected)
	again := flow(status.StageDenied, status.EndDenied)
	again.Flow.ConnectionID = pg.NewID()
	all["flow-denied-reconnect"] = Flow(again)
	staff := flow(status.StageFailed, status.EndTemporary)
	staff.User = sampleAdmin
	staff.Staff = &StaffFlow{
		Merchant: "CH168 Shop", By: "Sok Dara",
		Events: []Event{event(audit.Event{At: ago(time.Hour), Kind: status.FlowFailed, Outcome: status.Temporary, Status: 502, Millis: 900}, "")},
	}
	all["flow-staff"] = Flow(staff)
}

func staffStories(all map[string]templ.Component) {
	rows := []ConnectionRow{
		{ConnectionRow: db.ConnectionRow{Connection: db.Connection{ID: pg.NewID(), ConnectedAt: ago(90 * day)}, MerchantName: "CH168 Shop", RefreshedAt: ago(4 * time.Minute)}, Provider: camInvoice, Account: ch168, Status: status.Status{Health: status.Fine}},
		{ConnectionRow: db.ConnectionRow{Connection: db.Connection{ID: pg.NewID(), ConnectedAt: ago(200 * day)}, MerchantName: "ហាងមេគង្គ", RefreshedAt: ago(3 * day)}, Provider: camInvoice, Account: mekong, Status: status.Status{Health: status.ActionNeeded, Party: status.PartyMerchant, Problem: status.ProblemRejected}},
		{ConnectionRow: db.ConnectionRow{Connection: db.Connection{ID: pg.NewID(), ConnectedAt: ago(2 * day)}, MerchantName: "Boulangerie de l’Étoile", RefreshedAt: ago(time.Hour)}, Provider: flexiti, Account: Account{Account: connectors.Account{ID: "9b1e82a7-0a59-4e7e-add5-b9ffa37aade1", Name: "9b1e82a7-0a59-4e7e-add5-b9ffa37aade1"}}, Status: status.Status{Health: status.Retrying, Party: status.PartyProvider}},
		{ConnectionRow: db.ConnectionRow{Connection: db.Connection{ID: pg.NewID(), ConnectedAt: ago(500 * day)}, MerchantName: "Laadpunt Rotterdam", RefreshedAt: ago(40 * day)}, Provider: elecq, Account: Account{Account: connectors.Account{ID: "88120045", Name: "88120045"}}, Status: status.Status{Health: status.Disconnected}},
	}
	list := AdminConnectionsPage{
		Page: adminPage("/admin/connections?q=ch168&health=action-needed"), Query: "ch168",
		Providers: []Option{{}, {Value: "caminvoice", Label: "CamInvoice"}, {Value: "elecq", Label: "ELECQ"}}, Healths: []Option{{}, {Value: "fine"}, {Value: "retrying"}, {Value: "action-needed", Selected: true}, {Value: "disconnected"}},
		Whos: []Option{{}, {Value: "merchant"}, {Value: "provider"}, {Value: "platform"}}, Problems: []Option{{}, {Value: "refused"}, {Value: "something_new"}},
		Environment: []Option{{}, {Value: "sandbox"}, {Value: "production"}}, Used: []Option{{}, {Value: "1d"}, {Value: "7d"}, {Value: "30d"}, {Value: "never"}}, Since: "2026-01-01", Merchant: "m1", MerchantName: "CH168 Shop",
		Rows: rows, ByMerchant: Column{URL: "?sort=merchant"}, ByConnected: Column{URL: "?sort=connected", Sorted: "descending"},
		Pager: Pager{First: "?", Prev: "?before=1", Next: "?after=2"}, Shown: 4, About: 1234567, CSVURL: "/admin/connections.csv", BookURL: "/admin/connections.xlsx", BulkFields: []Filter{{Key: "health", Value: "action-needed"}},
		Flow: &db.Flow{Reference: "K7M2-4QXD", Stage: status.StageFailed, CreatedAt: ago(time.Hour)},
	}
	all["admin-connections"] = AdminConnections(list)
	all["admin-connections-none"] = AdminConnections(AdminConnectionsPage{Page: adminPage("/admin/connections"), Query: "zzz", About: -1})

	one := ConnectionPage{
		Page: adminPage("/connections/0198b"), Provider: camInvoice, Account: ch168, Status: status.Status{Health: status.Retrying, Party: status.PartyProvider},
		Connection: db.ConnectionDetail{
			ConnectionRow: db.ConnectionRow{
				Connection: db.Connection{ID: pg.NewID(), MerchantID: shop.ID, ConnectedAt: ago(90 * day)}, MerchantName: "CH168 Shop", ExternalID: "shop-17",
				RefreshedAt: ago(2 * time.Hour), ExpiresAt: in(4 * time.Minute), UsedAt: ago(time.Minute),
			},
			Generation: 8123, Version: 2, Failures: 3, UsedBy: "invoice worker",
		},
		NextRefresh: in(2 * time.Minute), MayRefresh: true, MayDisconnect: true,
		Outcome: &Outcome{
			Code: string(status.Temporary), Health: status.Retrying, Retry: in(time.Minute),
			Call: &connectors.Call{Name: "refresh", Outcome: status.Temporary, Status: 503, Code: "unavailable", Took: 800 * time.Millisecond, Sent: true},
		},
		Events: []Event{
			event(audit.Event{At: ago(time.Minute), Kind: status.RefreshTemporary, Outcome: status.Temporary, Status: 503, Code: "unavailable", Millis: 800, Reference: "5f0c2b7e9a1d4c3fb2e8d6a790314b5c", Actor: audit.Actor{Address: "198.51.100.4"}}, "Anna Tremblay"),
			event(audit.Event{At: ago(20 * time.Minute), Kind: status.RefreshLost, Outcome: status.Temporary, Millis: 20_000}, ""),
			event(audit.Event{At: ago(2 * time.Hour), Kind: status.RefreshSaved, Outcome: status.OK, Millis: 210}, ""),
			event(audit.Event{At: ago(90 * day), Kind: status.ConnectionConnected, Actor: audit.Actor{Address: "203.0.113.7"}}, "Sok Dara"),
		},
		Staff: &StaffConnection{
			RefreshWhy: status.NextFailing,
			Flows: []FlowLine{
				{Flow: db.Flow{Reference: "K7M2-4QXD", Stage: status.StageConnected, CreatedAt: ago(90 * day)}, By: "Sok Dara"},
				{Flow: db.Flow{Reference: "P2AA-11ZT", Stage: status.StageFailed, Outcome: status.EndTemporary, CreatedAt: ago(91 * day)}, By: "Sok Dara"},
				{Flow: db.Flow{Reference: "Q3BB-22ZV", Stage: status.StageConnected, Outcome: status.EndKeptBoth, CreatedAt: ago(92 * day)}, By: "Sok Dara"},
			},
			Report: "Patchbay report\nprovider: CamInvoice (sandbox)\naccount: KHUID00001234\n2026-11-22T07:04:30Z refresh 503 unavailable 800 ms", AskURL: "/connections/0198b/ask", AskedLink: "https://connect.example.com/reconnect/4f9d2c", AskedWhy: NoMailUnset,
		},
	}
	all["admin-connection"] = Connection(one)
	staff := *one.Staff
	staff.AskedLink, staff.AskedWhy, staff.Mails, staff.AskTo = "", "", true, []string{"dara@ch168.example", "bopha@ch168.example"}
	one.Staff = &staff
	all["admin-connection-mail"] = Connection(one)
	invited := staff
	invited.AskTo, invited.Invited, invited.MayInvite = nil, []account.UserRow{{User: account.User{ID: pg.NewID(), Email: "new@ch168.example", Role: "merchant", Invited: true}}}, true
	one.Staff = &invited
	all["admin-connection-invited"] = Connection(one)

	overview := OverviewPage{
		Page: adminPage("/admin"), At: storyNow, RiskURL: "/admin/connections?risk=7d",
		Providers: []ProviderFigures{
			{Provider: camInvoice, Connections: map[status.Health]int64{status.Fine: 812345, status.Retrying: 12, status.ActionNeeded: 310, status.Disconnected: 40122}, URLs: map[status.Health]string{status.Fine: "/admin/connections?provider=caminvoice&health=fine", status.Retrying: "/x", status.ActionNeeded: "/x", status.Disconnected: "/x"}, Median: 220 * time.Millisecond, Slow: 900 * time.Millisecond},
			{Provider: elecq, Connections: map[status.Health]int64{status.Fine: 80123, status.Retrying: 4123}, Incident: &Incident{Provider: "ELECQ", Since: ago(40 * time.Minute)}},
		},
		AtRisk: []ConnectionRow{{ConnectionRow: db.ConnectionRow{MerchantName: "Laadpunt Rotterdam"}, Provider: elecq, Account: Account{Account: connectors.Account{ID: "88120045"}}, Status: status.Status{ReconnectBy: in(2 * day)}}},
		Todo: []TodoItem{
			{Code: "not-set-up", Provider: "Flexiti", Detail: "FLEXITI_API_URL, FLEXITI_ENVIRONMENT"},
			{Code: "callback", Provider: "CamInvoice"},
			{Code: "environment", Provider: "ELECQ", Count: 3},
			{Code: "of-tomorrow", Provider: "Acme"},
			{Code: "mail-waiting", Count: 3, Since: ago(2 * time.Hour), Detail: "mail not taken: dial tcp: connection refused", Retry: true},
			{Code: "mail-given-up", Count: 1, Since: ago(3 * day), Detail: "mail not taken: 550 relaying denied"},
		},
	}
	for i := range 48 {
		h := HourFigures{Hour: storyNow.Truncate(time.Hour).Add(time.Duration(i-47) * time.Hour), Calls: map[status.Outcome]int64{status.OK: int64(3000 + 900*(i%7)), status.RateLimited: int64(i % 5 * 40), status.Rejected: int64(i % 11)}}
		if i > 40 {
			h.Calls[status.Temporary] = int64(600 * (i - 40))
		}
		overview.Hours = append(overview.Hours, h)
	}
	all["admin-overview"] = Overview(overview)
	all["admin-overview-new"] = Overview(OverviewPage{Page: adminPage("/admin"), At: storyNow})

	all["admin-merchants"] = AdminMerchants(AdminMerchantsPage{
		Page: adminPage("/admin/merchants"), MayAdd: true, Form: MerchantForm{Name: "", Errors: Errors{{Field: "name", Code: "missing"}}},
		Merchants: []db.MerchantRow{{Merchant: shop, People: 2, Connections: []db.Count{{Provider: "caminvoice", Environment: "sandbox", Health: status.Fine, Connections: 3}}}, {Merchant: db.Merchant{ID: pg.NewID(), Name: "ហាងមេគង្គ", CreatedAt: ago(3 * day)}, People: 1, Connections: []db.Count{{Provider: "elecq", Environment: "sandbox", Health: status.ActionNeeded, Connections: 1}}}},
	})
	people := []account.UserRow{
		{User: sampleAdmin.User, SeenAt: ago(time.Minute), Sessions: 1},
		{User: account.User{ID: pg.NewID(), Email: "help@platform.example", Role: "support", Invited: true}},
		{User: account.User{ID: pg.NewID(), MerchantID: shop.ID, Name: "Sok Dara", Email: "dara@ch168.example", Role: "merchant", LockedAt: ago(day)}, Merchant: "CH168 Shop", SeenAt: ago(4 * day), Sessions: 2},
	}
	all["admin-merchant"] = AdminMerchant(AdminMerchantPage{Page: adminPage("/admin/merchants/m1"), Merchant: shop, People: people[2:], Connections: rows[:2], MayInvite: true, Invite: InviteForm{Merchant: "m1", MerchantFixed: true}})
	all["admin-merchant-new"] = AdminMerchant(AdminMerchantPage{Page: adminPage("/admin/merchants/m1"), Merchant: db.Merchant{Name: "ហាងមេគង្គ"}})
	all["admin-users"] = AdminUsers(AdminUsersPage{Page: adminPage("/admin/users"), Roles: []Option{{}, {Value: "merchant"}, {Value: "support"}, {Value: "admin"}}, People: people, Invite: InviteForm{Link: "https://connect.example.com/invitations/4f9d2c0b1a", Errors: Errors{{Field: "merchant", Code: "unknown"}}}})
	all["admin-providers"] = AdminProviders(AdminProvidersPage{Page: adminPage("/admin/providers"), Providers: []ProviderLine{
		{ProviderFigures: overview.Providers[0], Ready: true, LastOK: ago(time.Minute), Todo: overview.Todo[:2]},
		{ProviderFigures: ProviderFigures{Provider: elecq, Incident: &Incident{Since: ago(time.Hour)}}, Ready: true},
		{ProviderFigures: ProviderFigures{Provider: acme, PausedUntil: in(time.Minute)}, Ready: true},
		{ProviderFigures: ProviderFigures{Provider: Provider{Name: "flexiti", Title: "Flexiti", Keyed: true}}},
	}})
	for name, setup := range map[string]ProviderSetup{
		"": {
			Provider: camInvoice, Ready: true, Callback: "https://connect.example.com/connect/caminvoice/callback", MayRegister: true, RegisteredAt: ago(day), Hooked: true, HookSet: true, Connections: map[status.Health]int64{status.Fine: 812345}, URLs: map[status.Health]string{status.Fine: "/admin/connections?provider=caminvoice"}, Todo: overview.Todo[:2], Refreshes: 74123, Errors: 310,
			Median: 220 * time.Millisecond, Slow: 900 * time.Millisecond, Record: db.ProviderRecord{HookRegisteredAt: ago(day), CheckedAt: ago(time.Minute), CheckResult: status.OK, CheckTook: 180 * time.Millisecond, CheckSkew: 90 * time.Second},
		},
		"-trouble":  {Provider: elecq, Ready: true, Callback: "https://connect.example.com/connect/elecq/callback", NoState: true, Record: db.ProviderRecord{StateEchoed: true}, Incident: &IncidentState{Began: ago(40 * time.Minute), Reason: "trouble", NextProbe: in(time.Minute)}},
		"-unset":    {Provider: Provider{Name: "flexiti", Title: "Flexiti", Keyed: true}, Missing: []string{"FLEXITI_API_URL", "FLEXITI_ENVIRONMENT"}},
		"-declared": {Provider: acme, Ready: true, Callback: "https://connect.example.com/connect/acme/callback", Incident: &IncidentState{Began: ago(time.Hour), Reason: "they called us", By: "Anna Tremblay"}, Hooked: true},
	} {
		all["admin-provider"+name] = AdminProvider(AdminProviderPage{Page: adminPage("/admin/providers/" + setup.Name), ProviderSetup: setup})
	}
	support := AdminProviderPage{Page: adminPage("/admin/providers/caminvoice"), ProviderSetup: ProviderSetup{Provider: camInvoice, Ready: true}}
	support.User = &Person{User: people[1].User}
	all["admin-provider-support"] = AdminProvider(support)
	all["admin-events"] = Events(EventsPage{
		Page: adminPage("/admin/events"), Kinds: []Option{{}, {Value: "connected", Selected: true}, {Value: "somebody.elses"}}, From: "2026-11-01", CSVURL: "/admin/events.csv", BookURL: "/admin/events.xlsx", Pager: Pager{Next: "?after=1"},
		Rows: []Event{
			{Line: audit.Line{Event: audit.Event{At: ago(time.Minute), Kind: status.ConnectionViewed, ConnectionID: pg.NewID(), Actor: audit.Actor{Address: "198.51.100.4"}}, ActorName: "Anna Tremblay", AccountName: "CH168 Co., Ltd", MerchantName: "CH168 Shop"}},
			{Line: audit.Line{Event: audit.Event{At: ago(time.Hour), Kind: status.RefreshTemporary, Outcome: status.Temporary, Status: 503, Millis: 800}}, Title: "ELECQ"},
			{Line: audit.Line{Event: audit.Event{At: ago(day), Kind: status.ConnectionsExported, Note: "health=action-needed"}, ActorName: "Anna Tremblay"}, Filter: []Filter{{"health", "action-needed"}}},
		},
	})
	all["admin-events-none"] = Events(EventsPage{Page: adminPage("/admin/events"), MaySet: true, Months: 6, KeptSince: ago(180 * day), Oldest: ago(170 * day)})
	all["admin-events-delete"] = Retention(RetentionPage{Page: adminPage("/admin/events"), Months: 6, Since: ago(180 * day), Oldest: ago(400 * day), Old: 1234, CSVURL: "/admin/events.csv?to=2026-05-25", BookURL: "/admin/events.xlsx?to=2026-05-25"})
	all["admin-events-delete-more"] = Retention(RetentionPage{Page: adminPage("/admin/events"), Months: 6, Since: ago(180 * day), Oldest: ago(400 * day), Old: 10000, More: true})
	scopes := []string{"connections:read", "tokens:read", "connections:refresh", "connections:write", "links:write", "merchants:write", "webhooks:write"}
	all["admin-keys"] = Keys(KeysPage{
		Page: adminPage("/admin/keys"), Scopes: scopes, Made: &MadeKey{Name: "invoice worker", Key: "pb_live_4Qf9d2c0b1aXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX"}, Form: KeyForm{Scopes: scopes[:1], Errors: Errors{{Field: "scope", Code: "missing"}}},
		Rows: []KeyRow{
			{APIKey: db.APIKey{Prefix: "pb_4Qf9", Name: "invoice worker", Scopes: scopes, CreatedAt: ago(day), LastUsedAt: ago(time.Minute)}, Days: []db.DayReads{{Day: storyNow, Count: 12345}, {Day: ago(day), Count: 1222222}}},
			{APIKey: db.APIKey{Prefix: "pb_a1b2", Name: "old", Scopes: scopes[:1], RevokedAt: ago(day)}, Merchant: "CH168 Shop"},
		},
	})
	all["admin-keys-none"] = Keys(KeysPage{Page: adminPage("/admin/keys"), Scopes: scopes})
	endpoint := webhooks.Endpoint{ID: pg.NewID(), Shown: "https://platform.example/patchbay", CreatedAt: ago(day), DeliveredAt: ago(time.Minute)}
	failing := webhooks.Endpoint{ID: pg.NewID(), Shown: "https://hooks.platform.example/v2?…", Types: []webhooks.Type{webhooks.ConnectionActionNeeded, webhooks.IncidentOpened}, CreatedAt: ago(day), FailingSince: ago(3 * time.Hour), FailedAt: ago(time.Minute), FailedStatus: 503, Waiting: 1240, Failed: 2, RotatedUntil: ago(-day)}
	off := webhooks.Endpoint{ID: pg.NewID(), Shown: "https://old.platform.example/", CreatedAt: ago(9 * day), OffAt: ago(day), OffReason: webhooks.OffFailing, FailedAt: ago(day), FailedReason: webhooks.ReasonTimeout, Failed: 12}
	hooks := WebhooksPage{
		Page: adminPage("/admin/webhooks"), MayChange: true, Endpoints: []webhooks.Endpoint{endpoint, failing, off}, Since: "2026-11-29T09:00", Zone: "Asia/Phnom_Penh",
		Filter: []Option{{Selected: true}, {Value: endpoint.ID.String(), Label: endpoint.Shown}}, States: []Option{{Selected: true}, {Value: "waiting"}, {Value: "delivered"}, {Value: "failed"}}, Pager: Pager{Next: "?at=1"},
		Deliveries: []webhooks.Delivery{
			{ID: pg.NewID(), Event: pg.NewID(), Type: webhooks.Test, Host: endpoint.Shown, At: ago(time.Minute), State: webhooks.Waiting},
			{ID: pg.NewID(), Event: pg.NewID(), Connection: pg.NewID(), Type: webhooks.ConnectionActionNeeded, Host: failing.Shown, At: ago(time.Hour), State: webhooks.Waiting, Tries: 3, TriedAt: ago(time.Minute), DueAt: ago(-time.Hour), Status: 503, Took: 1240 * time.Millisecond},
			{ID: pg.NewID(), Event: pg.NewID(), Connection: pg.NewID(), Type: webhooks.ConnectionConnected, Host: endpoint.Shown, At: ago(2 * time.Hour), State: webhooks.Delivered, Tries: 1, Status: 204, Took: 38 * time.Millisecond},
			{ID: pg.NewID(), Event: pg.NewID(), Type: webhooks.IncidentOpened, Host: off.Shown, At: ago(day), State: webhooks.Failed, Tries: 10, Reason: webhooks.ReasonTimeout, Took: 15 * time.Second},
		},
	}
	all["admin-webhooks"] = Webhooks(hooks)
	hooks.Made, hooks.Form = &MadeSecret{Address: endpoint.Shown, Secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=", Until: ago(-day)}, WebhookForm{URL: "ftp://x", Types: []string{"incident.opened"}, Errors: Errors{{Field: "url", Code: "public"}}}
	all["admin-webhooks-made"] = Webhooks(hooks)
	all["admin-webhooks-support"] = Webhooks(WebhooksPage{Page: adminPage("/admin/webhooks"), Endpoints: hooks.Endpoints})
	all["admin-webhooks-none"] = Webhooks(WebhooksPage{Page: adminPage("/admin/webhooks"), MayChange: true})
	refreshes := BulkPage{
		Page: adminPage("/admin/bulk/b1"), Filter: []Filter{{"provider", "ELECQ"}, {"health", "retrying"}}, ListURL: "/admin/connections?provider=elecq",
		Bulk:      bulk.Bulk{ID: pg.NewID(), State: "dry-run", ByName: "Anna Tremblay", CreatedAt: ago(4 * time.Minute), Total: 1240},
		Providers: []BulkProvider{{ProviderCount: bulk.ProviderCount{Provider: "elecq", Total: 1200, Waiting: 1200}, Title: "ELECQ", PerMinute: 240, Paused: true}, {ProviderCount: bulk.ProviderCount{Provider: "caminvoice", Total: 40, Waiting: 40}, Title: "CamInvoice", PerMinute: 600}},
	}
	all["bulk-dry-run"] = Bulk(refreshes)
	refreshes.Bulk.State, refreshes.Bulk.Done, refreshes.Left, refreshes.Outcomes = "running", 512, 3*time.Minute, []BulkOutcome{{Outcome: "ok", Count: 500, URL: "/x"}, {Outcome: "trouble", Count: 10}, {Outcome: "skipped", Count: 2}}
	all["bulk-running"] = Bulk(refreshes)
	refreshes.Bulk.State, refreshes.Bulk.EndedAt = "stopped", ago(time.Minute)
	all["bulk-stopped"] = Bulk(refreshes)
	ask := BulkPage{
		Page: adminPage("/admin/bulk/b2"), Filter: []Filter{{"who", "merchant"}}, ListURL: "/admin/connections?who=merchant",
		Bulk:      bulk.Bulk{ID: pg.NewID(), Kind: bulk.Ask, State: bulk.DryRun, ByName: "Anna Tremblay", CreatedAt: ago(time.Minute), Total: 163, Done: 3, Merchants: 158},
		Providers: []BulkProvider{{ProviderCount: bulk.ProviderCount{Provider: "caminvoice", Total: 163, Waiting: 160}, Title: "CamInvoice", PerMinute: 120}},
		Outcomes:  []BulkOutcome{{Outcome: status.AskedBefore, Count: 2, URL: "/x"}, {Outcome: status.NoPerson, Count: 1, URL: "/x"}},
	}
	all["bulk-ask-dry-run"] = Bulk(ask)
	ask.Bulk.State, ask.Bulk.Done, ask.Left, ask.Outcomes = bulk.Asking, 65, time.Minute, append([]BulkOutcome{{Outcome: status.Asked, Count: 62, URL: "/x"}}, ask.Outcomes...)
	all["bulk-ask-running"] = Bulk(ask)
}
