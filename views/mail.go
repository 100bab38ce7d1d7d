package views

import (
	"context"
	"strings"
	"time"
)

// Letter is a mail. Its kinds: "invitation", "password", "reconnect" (staff ask for it), "action-needed",
// "reconnect-by", "back-to-normal".
type Letter struct {
	Kind     string
	Name     string    // the reader's; "" when unknown
	Merchant string    // "" for staff
	By       string    // who caused it; "" for nobody
	Link     string    // where its one button leads
	Until    time.Time // until when the link is good; zero for always
	Accounts []LetterAccount
}

// LetterAccount is one connection that a letter is about.
type LetterAccount struct {
	Provider, Account string
	ID                string    // the provider's own for the account, named where there is no other name; "" when it has none
	Until             time.Time // reconnect-by: when it ends
}

// Subject is the letter's subject in the reader's language.
func (l Letter) Subject(ctx context.Context) string {
	if len(l.Accounts) > 0 {
		return T(ctx, "mail."+l.Kind+".subject", "Count", len(l.Accounts), "Provider", l.Accounts[0].Provider)
	}
	return T(ctx, "mail."+l.Kind+".subject", "Merchant", l.Merchant)
}

func (l Letter) greeting(ctx context.Context) string {
	if l.Name == "" {
		return T(ctx, "mail.hello")
	}
	return T(ctx, "mail.hello-name", "Name", l.Name)
}

// before is what stands above the list and the button.
func (l Letter) before(ctx context.Context) []string {
	var all []string
	if l.Kind == "invitation" {
		key := "mail.invitation.staff"
		if l.Merchant != "" {
			key = "mail.invitation.merchant"
		}
		if l.By != "" {
			key += "-by"
		}
		all = append(all, T(ctx, key, "Merchant", l.Merchant, "By", l.By))
	} else {
		all = append(all, T(ctx, "mail."+l.Kind+".what", "Count", max(1, len(l.Accounts)), "Merchant", l.Merchant))
	}
	return append(all, T(ctx, "mail."+l.Kind+".how"))
}

// after is what stands beneath the button.
func (l Letter) after(ctx context.Context) []string {
	var all []string
	if !l.Until.IsZero() {
		all = append(all, T(ctx, "mail.until", "Until", Exact(ctx, l.Until)))
	}
	return append(all, T(ctx, "mail."+l.Kind+".why"))
}

func (l Letter) button(ctx context.Context) string { return T(ctx, "mail."+l.Kind+".button") }

func (a LetterAccount) line(ctx context.Context) string {
	line := a.Provider
	if a.Account != "" {
		line += ": " + a.Account
	} else if a.ID != "" {
		line += ", " + a.ID
	}
	if !a.Until.IsZero() {
		line += " – " + T(ctx, "mail.ends", "Day", Day(ctx, a.Until))
	}
	return line
}

// Text is the letter as plain text.
func (l Letter) Text(ctx context.Context) string {
	parts := append([]string{l.greeting(ctx)}, l.before(ctx)...)
	if len(l.Accounts) > 0 {
		var lines []string
		for _, a := range l.Accounts {
			lines = append(lines, "* "+a.line(ctx))
		}
		parts = append(parts, strings.Join(lines, "\n"))
	}
	parts = append(parts, l.button(ctx)+":\n"+l.Link)
	parts = append(parts, l.after(ctx)...)
	return strings.Join(parts, "\n\n") + "\n\n-- \n" + T(ctx, "layout.name") + "\n"
}

// paragraphs are the lines of a kept mail's text, by paragraph.
func (m OutboxMail) paragraphs() [][]string {
	var all [][]string
	for _, p := range strings.Split(strings.TrimSpace(m.Text), "\n\n") {
		all = append(all, strings.Split(p, "\n"))
	}
	return all
}

func isLink(line string) bool {
	return strings.HasPrefix(line, "http://") || strings.HasPrefix(line, "https://")
}
