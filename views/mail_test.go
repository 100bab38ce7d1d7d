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
