package views

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"patchbay/internal/db"
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
		Accounts: []MailAccount{{Provider: "ELECQ", ID: "100391", Until: time.Date(2026, 11, 24, 9, 30, 0, 0, time.UTC)}},
	}
	if text := l.Text(ctx); !strings.Contains(text, "confirm it again:\n\n* ELECQ, 100391 – ends 24 November 2026, 09:30 UTC\n\nEverything works") {
		t.Errorf("the account does not follow what announces it:\n%s", text)
	}
	var html bytes.Buffer
	if err := MailHTML(l).Render(ctx, &html); err != nil || !strings.Contains(html.String(), "confirm it again:</p><ul>") {
		t.Errorf("nor as HTML: %v\n%s", err, html.String())
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
		"its reader":       {Kind: db.MailPassword, Name: "سوق", Link: "https://connect.example.com/"},
		"who sent it":      {Kind: db.MailPassword, By: "דוד", ByStaff: true, Link: "https://connect.example.com/"},
		"the merchant":     {Kind: db.MailInvitation, Merchant: "متجر", By: "Dara", Link: "https://connect.example.com/"},
		"an account":       {Kind: db.MailActionNeeded, Merchant: "Shop", Accounts: []MailAccount{{Provider: "ELECQ", Account: "חנות"}}, Link: "https://connect.example.com/"},
		"an id":            {Kind: db.MailActionNeeded, Merchant: "Shop", Accounts: []MailAccount{{Provider: "ELECQ", Account: "\u200b", ID: "חשבון"}}, Link: "https://connect.example.com/"},
		"a provider":       {Kind: db.MailReconnectBy, Merchant: "Shop", Accounts: []MailAccount{{Provider: "مزود", ID: "1"}}, Link: "https://connect.example.com/"},
		"a name of before": {Kind: db.MailPassword, Name: "\u202eSok", Link: "https://connect.example.com/"},
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
