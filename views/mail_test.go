package views

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/notify"
	"patchbay/internal/status"
)

func TestAMailSaysWhoSentIt(t *testing.T) {
	ctx := WithLocale(context.Background(), "en", storyNow, nil)
	for want, l := range map[string]Mail{
		"probably you, said that you forgot":       {Kind: "password"},
		"Sok Dara of our team has sent you a link": {Kind: "password", By: "Sok Dara", ByStaff: true},
		"Our team has sent you a link":             {Kind: "password", ByStaff: true},
	} {
		text := l.Text(ctx)
		if !strings.Contains(text, want) || l.ByStaff && strings.Contains(text, "forgot") {
			t.Errorf("without %q:\n%s", want, text)
		}
	}
}

func TestAMailListsAccountsWhereItAnnouncesThem(t *testing.T) {
	ctx := WithLocale(context.Background(), "en", storyNow, nil)
	l := Mail{
		Kind: "reconnect-by", Merchant: "CH168 Shop", Until: storyNow, Link: "https://connect.example.com/",
		Accounts: []MailAccount{{Provider: "ELECQ", ID: "100391", Link: "https://connect.example.com/connections/1", Until: time.Date(2026, 11, 24, 9, 30, 0, 0, time.UTC)}},
	}
	if text := l.Text(ctx); !strings.Contains(text, "confirm it again:\n\n* ELECQ, 100391\nEnds: 24 November 2026, 09:30 UTC\nhttps://connect.example.com/connections/1\n\nIf you do not") {
		t.Errorf("the account does not follow what announces it:\n%s", text)
	}
}

// TestAMailSaysTheSameTwice compares what a reader sees of the HTML with the plain text, of each kind in each language. Neither may hold a
// picture or a font from elsewhere, a script, or a key in place of its words.
func TestAMailSaysTheSameTwice(t *testing.T) {
	brand := &Brand{Name: "Phsar Pay", HomeURL: "https://phsar.example", Color: "#8a1c4a", SupportEmail: "help@phsar.example", SupportPhone: "+855 23 000 111", SupportURL: "https://phsar.example/help", LogoType: "image/png", Logo: []byte("x")}
	for name, m := range sampleMails() {
		for _, tag := range Languages() {
			ctx := WithBrand(WithLocale(context.Background(), tag, storyNow, nil), brand)
			html := mailDocument(ctx, t, m)
			plain := m.Text(ctx)
			for _, key := range append(rawKeys(ctx, html.Text()), rawKeys(ctx, plain+m.Subject(ctx))...) {
				t.Errorf("%s in %s shows the key %s", name, tag, key)
			}
			if m.Subject(ctx) == "" || strings.ContainsAny(m.Subject(ctx), "\r\n") {
				t.Errorf("%s in %s: the subject %q", name, tag, m.Subject(ctx))
			}
			if title := html.Find("h1").Text(); bare(title) != bare(m.Subject(ctx)) {
				t.Errorf("%s in %s: headed %q, and its subject is %q", name, tag, title, m.Subject(ctx))
			}
			for _, b := range html.Find("p").EachIter() {
				for _, line := range strings.Split(strings.TrimSpace(b.Text()), "\n") {
					if line = bare(line); !strings.Contains(bare(plain), line) {
						t.Errorf("%s in %s: the plain text lacks %q:\n%s", name, tag, line, plain)
					}
				}
			}
			seen := bare(html.Find("body").Text())
			for _, a := range html.Find("a").EachIter() {
				seen += " " + a.AttrOr("href", "")
			}
			for _, line := range strings.Split(plain, "\n") {
				if line = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(line), "* "), ":"); line != "--" && !strings.Contains(seen, bare(line)) {
					t.Errorf("%s in %s: the HTML lacks %q", name, tag, line)
				}
			}
			since := []string{Moment(ctx, storyNow), Moment(ctx, storyNow.Add(24*time.Hour))}
			if !strings.Contains(plain, since[0]) && !strings.Contains(plain, since[1]) {
				t.Errorf("%s in %s says no time:\n%s", name, tag, plain)
			}
			if html.Find("a.button").AttrOr("href", "") != m.Link || !strings.Contains(plain, m.Link+"\n") {
				t.Errorf("%s in %s does not link to %s", name, tag, m.Link)
			}
			for _, one := range []string{"help@phsar.example", "+855 23 000 111", "https://phsar.example/help", "Phsar Pay"} {
				if !strings.Contains(plain, one) || !strings.Contains(html.Text(), one) {
					t.Errorf("%s in %s lacks %s", name, tag, one)
				}
			}
			if html.Find("script, link, iframe, form").Length() > 0 || html.Find("img").AttrOr("src", "") != "cid:logo" {
				t.Errorf("%s in %s loads something", name, tag)
			}
			if html.Find("html").AttrOr("lang", "") != tag {
				t.Errorf("%s in %s: lang", name, tag)
			}
		}
	}
}

// bare returns text without isolates and without the white space that HTML folds.
func bare(s string) string {
	return strings.Join(strings.Fields(strings.NewReplacer("\u2068", "", "\u2069", "").Replace(s)), " ")
}

func mailDocument(ctx context.Context, t *testing.T, m Mail) *goquery.Document {
	t.Helper()
	var b bytes.Buffer
	if err := MailHTML(m).Render(ctx, &b); err != nil {
		t.Fatal(err)
	}
	doc, err := goquery.NewDocumentFromReader(&b)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// sampleMails are mails of every kind.
func sampleMails() map[string]Mail {
	const at = "https://connect.example.com"
	refused := MailAccount{Provider: "CamInvoice", Account: "ហាង CH168", Link: at + "/connections/1", Status: status.Status{Health: status.ActionNeeded, Problem: status.ProblemRejected, Party: status.PartyMerchant, Since: storyNow}}
	lapsed := MailAccount{Provider: "ELECQ", ID: "100391", Link: at + "/connections/2", Status: status.Status{Health: status.ActionNeeded, Problem: status.ProblemLapsed, Party: status.PartyMerchant, Since: storyNow}}
	fine := MailAccount{Provider: "Flexiti", Account: "CH168 Co., Ltd", Link: at + "/connections/3", Reference: "K7M2-4QXD"}
	ending := fine
	ending.Until = storyNow.Add(24 * time.Hour)
	one, two := []MailAccount{refused}, []MailAccount{refused, lapsed}
	return map[string]Mail{
		"an invitation of a merchant's user": {Kind: notify.MailInvitation, Name: "Sok", Merchant: "CH168 Shop", By: "Dara", At: storyNow, Link: at + "/invitations/x", Until: storyNow.Add(72 * time.Hour)},
		"an invitation of staff":             {Kind: notify.MailInvitation, At: storyNow, Link: at + "/invitations/x"},
		"a forgotten password":               {Kind: notify.MailPassword, Name: "Sok", At: storyNow, Link: at + "/password/x", Until: storyNow.Add(time.Hour)},
		"a password's link by staff":         {Kind: notify.MailPassword, By: "Dara", ByStaff: true, At: storyNow, Link: at + "/password/x"},
		"to be reconnected":                  {Kind: notify.MailReconnect, Merchant: "CH168 Shop", At: storyNow, Accounts: one, Link: at + "/reconnect/x"},
		"to be reconnected though it works":  {Kind: notify.MailReconnect, Merchant: "CH168 Shop", At: storyNow, Accounts: []MailAccount{fine}, Link: at + "/reconnect/x"},
		"one that needs the merchant":        {Kind: notify.MailActionNeeded, Merchant: "CH168 Shop", At: storyNow, Accounts: one, Link: refused.Link},
		"two that need the merchant":         {Kind: notify.MailActionNeeded, Merchant: "CH168 Shop", At: storyNow, Accounts: two, Link: at + "/"},
		"one that a restore has interrupted": {Kind: notify.MailRestored, Merchant: "CH168 Shop", At: storyNow, Accounts: one, Link: at + "/"},
		"one that ends soon":                 {Kind: notify.MailReconnectBy, Merchant: "CH168 Shop", At: storyNow, Accounts: []MailAccount{ending}, Link: fine.Link},
		"one that works again":               {Kind: notify.MailBackToNormal, Merchant: "CH168 Shop", At: storyNow, Accounts: []MailAccount{fine}, Link: fine.Link},
		"webhooks that are off":              {Kind: notify.MailWebhookOff, Endpoint: "https://hooks.phsar.example", At: storyNow, Link: at + "/admin/webhooks", Switch: at + "/account"},
		"an account that was connected":      {Kind: notify.MailConnected, Merchant: "CH168 Shop", At: storyNow, Accounts: []MailAccount{fine}, Link: fine.Link},
		"a receipt of a colleague":           {Kind: notify.MailDisconnected, Merchant: "CH168 Shop", At: storyNow, Accounts: []MailAccount{fine}, Link: fine.Link, Receipt: &db.Receipt{At: storyNow, Revoked: status.RevokedDone, Actor: audit.RoleMerchant, By: "Dara"}},
		"a receipt of staff":                 {Kind: notify.MailDisconnected, Merchant: "CH168 Shop", At: storyNow, Accounts: []MailAccount{fine}, Link: fine.Link, Receipt: &db.Receipt{At: storyNow, Revoked: status.RevokedKept, Actor: audit.RoleSupport, By: "Secret Agent", RemainsUntil: storyNow.Add(time.Hour)}},
		"a password that was changed":        {Kind: notify.MailPasswordChanged, Name: "Sok", At: storyNow, Link: at + "/password"},
		"a provider in trouble":              {Kind: notify.MailIncident, Provider: "CamInvoice", Environment: "production", Code: "trouble", Since: storyNow, At: storyNow, Link: at + "/admin/providers", Switch: at + "/account"},
		"our key that is suspected":          {Kind: notify.MailIncident, Provider: "CamInvoice", Environment: "production", Code: "ours", Since: storyNow, At: storyNow, Link: at + "/admin/providers", Switch: at + "/account"},
		"an incident that was declared":      {Kind: notify.MailIncident, Provider: "CamInvoice", Environment: "production", Code: "declared", Since: storyNow, At: storyNow, Link: at + "/admin/providers", Switch: at + "/account"},
		"an incident that has ended":         {Kind: notify.MailIncidentEnded, Provider: "CamInvoice", Environment: "production", Since: storyNow, At: storyNow.Add(time.Hour), Link: at + "/admin/providers", Switch: at + "/account"},
		"a key of ours that is refused":      {Kind: notify.MailPlatformActionNeeded, Provider: "CamInvoice", Environment: "production", Code: "client-rejected", Count: 1, Since: storyNow, At: storyNow, Link: at + "/admin/connections?problem=client-rejected", Switch: at + "/account"},
		"connections that cannot be opened":  {Kind: notify.MailPlatformActionNeeded, Provider: "CamInvoice", Environment: "production", Code: "sealed", Count: 1200, Since: storyNow, At: storyNow, Link: at + "/admin/connections?problem=sealed", Switch: at + "/account"},
		"a second factor that is on":         {Kind: notify.MailFactorOn, At: storyNow, Link: at + "/account"},
		"a second factor that is off":        {Kind: notify.MailFactorOff, At: storyNow, Link: at + "/account"},
		"a recovery code that was used":      {Kind: notify.MailRecoveryUsed, At: storyNow, Link: at + "/account"},
	}
}

// TestNamesAreTextInMail has names that would be markup, a header, a link or a style.
func TestNamesAreTextInMail(t *testing.T) {
	ctx := WithLocale(context.Background(), "en", storyNow, nil)
	for _, name := range []string{
		`<img src=x onerror=alert(1)>`, "Shop\r\nBcc: all@evil.example", `"><a href="https://evil.example">`, "{{.Brand}}", "</style><script>x</script>", "javascript:alert(1)",
	} {
		for _, kind := range []notify.MailKind{notify.MailInvitation, notify.MailReconnect, notify.MailActionNeeded, notify.MailReconnectBy, notify.MailBackToNormal} {
			m := Mail{Kind: kind, Name: name, Merchant: name, By: name, Link: "https://connect.example.com/", At: storyNow}
			if kind != notify.MailInvitation {
				m.Accounts = []MailAccount{{Provider: name, Account: name, ID: name, Link: "https://connect.example.com/connections/1"}}
			}
			html := mailDocument(WithBrand(ctx, &Brand{Name: name}), t, m)
			if n := html.Find("img, script, a[href*=evil], a[href^=javascript]").Length(); n > 0 || html.Find("style").Length() != 1 {
				t.Errorf("%s of %q: %d elements of its own", kind, name, n)
			}
			if subject := m.Subject(ctx); strings.ContainsAny(subject, "\r\n") {
				t.Errorf("%s of %q: the subject is %q", kind, name, subject)
			}
		}
	}
}

func TestStaffAreNotTheMerchantsYou(t *testing.T) {
	ctx := WithLocale(context.Background(), "en", storyNow, nil)
	for _, revoked := range status.Revocations() {
		v := ConnectionPage{Page: adminPage("/connections/1"), Provider: camInvoice, Receipt: &db.Receipt{At: storyNow, Revoked: revoked}, Staff: &StaffConnection{}}
		var b bytes.Buffer
		if err := Connection(v).Render(ctx, &b); err != nil {
			t.Fatal(err)
		}
		_, page, _ := strings.Cut(b.String(), "<main")
		page, _, _ = strings.Cut(page, "</main>")
		if strings.Contains(page, " you") {
			t.Errorf("the receipt of %q speaks to the merchant:\n%s", revoked, page)
		}
		if strings.Contains(page, "<dd>Nothing</dd>") != (revoked == status.RevokedDone) {
			t.Errorf("the receipt of %q says wrongly that nothing remains", revoked)
		}
	}
}

// TestNamesDoNotTurnAMailRound: plain text isolates them by U+2068 and U+2069, HTML by <bdi>.
func TestNamesDoNotTurnAMailRound(t *testing.T) {
	ctx := WithLocale(context.Background(), "en", storyNow, nil)
	for what, m := range map[string]Mail{
		"its reader":       {Kind: notify.MailPassword, Name: "سوق", Link: "https://connect.example.com/"},
		"who sent it":      {Kind: notify.MailPassword, By: "דוד", ByStaff: true, Link: "https://connect.example.com/"},
		"the merchant":     {Kind: notify.MailInvitation, Merchant: "متجر", By: "Dara", Link: "https://connect.example.com/"},
		"an account":       {Kind: notify.MailActionNeeded, Merchant: "Shop", Accounts: []MailAccount{{Provider: "ELECQ", Account: "חנות"}}, Link: "https://connect.example.com/"},
		"an id":            {Kind: notify.MailActionNeeded, Merchant: "Shop", Accounts: []MailAccount{{Provider: "ELECQ", Account: "\u200b", ID: "חשבון"}}, Link: "https://connect.example.com/"},
		"a provider":       {Kind: notify.MailReconnectBy, Merchant: "Shop", Accounts: []MailAccount{{Provider: "مزود", ID: "1"}}, Link: "https://connect.example.com/"},
		"a name of before": {Kind: notify.MailPassword, Name: "\u202eSok", Link: "https://connect.example.com/"},
	} {
		var html bytes.Buffer
		if err := MailHTML(m).Render(ctx, &html); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{m.Subject(ctx), m.Text(ctx), html.String()} {
			for _, r := range text {
				if r == '\u202e' {
					t.Errorf("%s: an override stays:\n%s", what, text)
				}
			}
			if strings.Count(text, "\u2068") != strings.Count(text, "\u2069") {
				t.Errorf("%s: isolates do not end:\n%s", what, text)
			}
		}
		if !strings.Contains(m.Text(ctx), "\u2068") || !strings.Contains(html.String(), "<bdi>") {
			t.Errorf("%s is not isolated:\n%s", what, m.Text(ctx))
		}
	}
}
