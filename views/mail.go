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
	By       string    // who caused it; "" for nobody, and for somebody without a name
	ByStaff  bool      // one of the platform's people caused it
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

// what says why the letter is written; the list of accounts, where there is one, follows it.
func (l Letter) what(ctx context.Context) string {
	switch {
	case l.Kind == "invitation":
		key := "mail.invitation.staff"
		if l.Merchant != "" {
			key = "mail.invitation.merchant"
		}
		if l.By != "" {
			key += "-by"
		}
		return T(ctx, key, "Merchant", l.Merchant, "By", l.By)
	case l.Kind == "password" && l.ByStaff && l.By != "":
		return T(ctx, "mail.password.what-by", "By", l.By)
	case l.Kind == "password" && l.ByStaff:
		return T(ctx, "mail.password.what-staff")
	}
	return T(ctx, "mail."+l.Kind+".what", "Count", max(1, len(l.Accounts)), "Merchant", l.Merchant)
}

func (l Letter) how(ctx context.Context) string { return T(ctx, "mail."+l.Kind+".how") }

// after is what stands beneath the button.
func (l Letter) after(ctx context.Context) []string {
	var all []string
	if !l.Until.IsZero() {
		all = append(all, T(ctx, "mail.until", "Until", Moment(ctx, l.Until)))
	}
	if l.Kind == "password" && l.ByStaff {
		return append(all, T(ctx, "mail.password.why-staff"))
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
		line += " – " + T(ctx, "mail.ends", "Until", Moment(ctx, a.Until))
	}
	return line
}

// Text is the letter as plain text.
func (l Letter) Text(ctx context.Context) string {
	parts := []string{l.greeting(ctx), l.what(ctx)}
	if len(l.Accounts) > 0 {
		var lines []string
		for _, a := range l.Accounts {
			lines = append(lines, "* "+a.line(ctx))
		}
		parts = append(parts, strings.Join(lines, "\n"))
	}
	parts = append(parts, l.how(ctx), l.button(ctx)+":\n"+l.Link)
	parts = append(parts, l.after(ctx)...)
	return strings.Join(parts, "\n\n") + "\n\n-- \n" + T(ctx, "layout.name") + "\n"
}

// paragraphs returns the lines of a mail's text, by paragraph.
func paragraphs(text string) [][]string {
	var all [][]string
	for _, p := range strings.Split(strings.TrimSpace(text), "\n\n") {
		all = append(all, strings.Split(p, "\n"))
	}
	return all
}

func isLink(line string) bool {
	return strings.HasPrefix(line, "http://") || strings.HasPrefix(line, "https://")
}
