package views

import (
	"context"
	"strings"
	"time"

	"patchbay/internal/db"
	"patchbay/internal/text"
)

// Mail is the content of a mail.
type Mail struct {
	Kind     db.MailKind
	Name     string    // the reader's; "" when unknown
	Merchant string    // "" for staff
	By       string    // the name of the user who caused it; "" if none did, or without a name
	ByStaff  bool      // staff caused it
	Link     string    // of its one button
	Until    time.Time // when the link ends; zero for never
	Accounts []MailAccount
	Endpoint string // of webhooks, which was switched off; "" for other mails
}

// MailAccount is one connection that a mail is about.
type MailAccount struct {
	Provider, Account string
	ID                string    // the provider's id for the account, shown if it has no name; "" if it has none
	Until             time.Time // reconnect-by: when it ends
}

// Subject returns the subject in the context's language.
func (m Mail) Subject(ctx context.Context) string {
	if len(m.Accounts) > 0 {
		return T(ctx, "mail."+string(m.Kind)+".subject", "Count", len(m.Accounts), "Provider", m.Accounts[0].Provider)
	}
	return T(ctx, "mail."+string(m.Kind)+".subject", "Merchant", m.Merchant, "Endpoint", m.Endpoint, "Brand", brandName(ctx))
}

func (m Mail) greeting(ctx context.Context) string {
	if m.Name == "" {
		return T(ctx, "mail.hello")
	}
	return T(ctx, "mail.hello-name", "Name", m.Name)
}

// what returns the reason for the mail. The list of accounts, if there is one, follows it.
func (m Mail) what(ctx context.Context) string {
	switch {
	case m.Kind == db.MailInvitation:
		key := "mail.invitation.staff"
		if m.Merchant != "" {
			key = "mail.invitation.merchant"
		}
		if m.By != "" {
			key += "-by"
		}
		return T(ctx, key, "Merchant", m.Merchant, "By", m.By, "Brand", brandName(ctx))
	case m.Kind == db.MailPassword && m.ByStaff && m.By != "":
		return T(ctx, "mail.password.what-by", "By", m.By)
	case m.Kind == db.MailPassword && m.ByStaff:
		return T(ctx, "mail.password.what-staff")
	}
	return T(ctx, "mail."+string(m.Kind)+".what", "Count", max(1, len(m.Accounts)), "Merchant", m.Merchant, "Endpoint", m.Endpoint)
}

func (m Mail) how(ctx context.Context) string { return T(ctx, "mail."+string(m.Kind)+".how") }

// after returns the paragraphs beneath the button.
func (m Mail) after(ctx context.Context) []string {
	var all []string
	if !m.Until.IsZero() {
		all = append(all, T(ctx, "mail.until", "Until", Moment(ctx, m.Until)))
	}
	if m.Kind == db.MailPassword && m.ByStaff {
		return append(all, T(ctx, "mail.password.why-staff"))
	}
	return append(all, T(ctx, "mail."+string(m.Kind)+".why"))
}

func (m Mail) button(ctx context.Context) string { return T(ctx, "mail."+string(m.Kind)+".button") }

func (a MailAccount) line(ctx context.Context) string {
	line := text.Isolated(a.Provider)
	if name := text.Name(a.Account); name != "" {
		line += ": " + text.Isolated(name)
	} else if a.ID != "" {
		line += ", " + text.Isolated(a.ID)
	}
	if !a.Until.IsZero() {
		line += " – " + T(ctx, "mail.ends", "Until", Moment(ctx, a.Until))
	}
	return line
}

// Text returns the mail as plain text.
func (m Mail) Text(ctx context.Context) string {
	parts := []string{m.greeting(ctx), m.what(ctx)}
	if len(m.Accounts) > 0 {
		var lines []string
		for _, a := range m.Accounts {
			lines = append(lines, "* "+a.line(ctx))
		}
		parts = append(parts, strings.Join(lines, "\n"))
	}
	parts = append(parts, m.how(ctx), m.button(ctx)+":\n"+m.Link)
	parts = append(parts, m.after(ctx)...)
	foot := append([]string{brandName(ctx)}, brandOf(ctx).supportLines()...)
	return strings.Join(parts, "\n\n") + "\n\n-- \n" + strings.Join(foot, "\n") + "\n"
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
