package views

import (
	"context"
	"strings"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/notify"
	"patchbay/internal/status"
	"patchbay/internal/text"
)

// Mail is the content of a mail.
type Mail struct {
	Kind     notify.MailKind
	Name     string    // the reader's; "" when unknown
	Merchant string    // "" for staff
	By       string    // the name of the user who caused it; "" if none did, or without a name
	ByStaff  bool      // staff caused it
	At       time.Time // when what it is about happened
	Link     string    // of its one button
	Until    time.Time // when the link ends; zero for never
	Accounts []MailAccount
	Switch   string      // the page where an admin switches such mails off; "" for mails that all get
	Endpoint string      // of webhooks, which was switched off; "" for other mails
	Receipt  *db.Receipt // of the account that was disconnected; nil for other mails

	// Of mails to admins about a provider.
	Provider, Environment string
	Code                  string // an incident's status.Reason, or the status.Problem of the connections
	Count                 int    // of the connections
	Since                 time.Time
}

// MailAccount is one connection that a mail is about.
type MailAccount struct {
	Provider, Account string
	ID                string        // the provider's id for the account, shown if it has no name; "" if it has none
	Link              string        // of the connection's page
	Reference         string        // for support
	Status            status.Status // why the mail is written, if it asks the merchant to act
	Until             time.Time     // reconnect-by: when it ends
}

// Subject returns the subject in the context's language, in one line.
func (m Mail) Subject(ctx context.Context) string {
	provider, count := m.Provider, m.Count
	if len(m.Accounts) > 0 {
		provider, count = m.Accounts[0].Provider, len(m.Accounts)
	}
	pairs := []any{"Merchant", m.Merchant, "Endpoint", m.Endpoint, "Brand", brandName(ctx), "Provider", provider, "Count", count}
	return strings.Join(strings.Fields(T(ctx, "mail."+string(m.Kind)+".subject", pairs...)), " ")
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
	case m.Kind == notify.MailInvitation:
		key := "mail.invitation.staff"
		if m.Merchant != "" {
			key = "mail.invitation.merchant"
		}
		if m.By != "" {
			key += "-by"
		}
		return T(ctx, key, "Merchant", m.Merchant, "By", m.By, "Brand", brandName(ctx))
	case m.Kind == notify.MailPassword && m.ByStaff && m.By != "":
		return T(ctx, "mail.password.what-by", "By", m.By)
	case m.Kind == notify.MailPassword && m.ByStaff:
		return T(ctx, "mail.password.what-staff")
	}
	return T(ctx, "mail."+string(m.Kind)+".what", "Count", max(1, len(m.Accounts), m.Count), "Merchant", m.Merchant, "Endpoint", m.Endpoint, "Provider", m.Provider)
}

// after returns the paragraphs beneath the button.
func (m Mail) after(ctx context.Context) []string {
	var all []string
	if !m.Until.IsZero() {
		all = append(all, T(ctx, "mail.until", "Until", Moment(ctx, m.Until)))
	}
	if m.Kind == notify.MailPassword && m.ByStaff {
		return append(all, T(ctx, "mail.password.why-staff"))
	}
	why := m.part(ctx, "why")
	if m.Switch != "" {
		why += " " + T(ctx, "mail.switch", "Address", m.Switch)
	}
	return append(all, why)
}

// part returns one of the texts that each kind of mail has.
func (m Mail) part(ctx context.Context, name string) string {
	return T(ctx, "mail."+string(m.Kind)+"."+name, "Count", max(1, len(m.Accounts)), "Brand", brandName(ctx))
}

// mailBlock is a piece of a mail. Its plain text and its HTML are made of the same ones.
type mailBlock struct {
	Kind  blockKind
	Text  string   // of an account its name, of a button its label
	Lines []string // beneath an account's name
	Link  string   // of an account, "" for none; of a button
}

type blockKind int

const (
	blockText blockKind = iota
	blockFacts
	blockAccount
	blockButton
	blockSmall
)

// blocks returns the mail between the greeting and the foot.
func (m Mail) blocks(ctx context.Context) []mailBlock {
	all := []mailBlock{{Text: m.greeting(ctx)}, {Text: m.what(ctx)}}
	for _, a := range m.Accounts {
		all = append(all, a.block(ctx))
	}
	if facts := m.facts(ctx); len(facts) > 0 {
		all = append(all, mailBlock{Kind: blockFacts, Lines: facts})
	}
	if m.hasConsequence(ctx) {
		all = append(all, mailBlock{Text: m.part(ctx, "consequence")})
	}
	all = append(all, mailBlock{Text: m.part(ctx, "how")}, mailBlock{Kind: blockButton, Text: m.part(ctx, "button"), Link: m.Link})
	for _, p := range m.after(ctx) {
		all = append(all, mailBlock{Kind: blockSmall, Text: p})
	}
	return all
}

func (m Mail) hasConsequence(ctx context.Context) bool {
	return has(ctx, "mail."+string(m.Kind)+".consequence")
}

// facts are the lines about the mail as a whole: when it happened, where no account says since when.
func (m Mail) facts(ctx context.Context) []string {
	var all []string
	switch m.Kind {
	case notify.MailIncident:
		all = append(all, T(ctx, "mail.reason", "Reason", T(ctx, "incident."+m.Code)))
	case notify.MailPlatformActionNeeded:
		all = append(all, T(ctx, "mail.reason", "Reason", problemText(ctx, status.Problem(m.Code).Status(m.Since), Provider{Title: m.Provider}, true)))
	case notify.MailDisconnected:
		return m.receipt(ctx)
	}
	if m.Provider != "" {
		all = append(all, T(ctx, "mail.environment", "Environment", m.Environment), T(ctx, "mail.since", "Since", Moment(ctx, m.Since)))
		if m.Kind == notify.MailIncidentEnded {
			all = append(all, T(ctx, "mail.ended", "Ended", Moment(ctx, m.At)))
		}
		return all
	}
	for _, a := range m.Accounts {
		if !a.Status.Since.IsZero() || !a.Until.IsZero() {
			return nil
		}
	}
	if m.At.IsZero() {
		return nil
	}
	return []string{T(ctx, "mail.when", "When", Moment(ctx, m.At))}
}

// receipt says what became of the access.
func (m Mail) receipt(ctx context.Context) []string {
	all := []string{T(ctx, "mail.when", "When", Moment(ctx, m.At))}
	switch r := m.Receipt; {
	case r == nil || len(m.Accounts) == 0:
		return all
	case r.Actor == audit.RoleMerchant && r.By != "":
		all = append(all, T(ctx, "mail.by", "By", r.By))
	case r.Actor == audit.RoleSupport || r.Actor == audit.RoleAdmin:
		all = append(all, T(ctx, "mail.by-team"))
	}
	all = append(all, T(ctx, "mail.deleted"), revokedText(ctx, *m.Receipt, Provider{Title: m.Accounts[0].Provider}, false))
	if until := m.Receipt.RemainsUntil; !until.IsZero() {
		all = append(all, T(ctx, "mail.remains", "Until", Moment(ctx, until)))
	}
	return all
}

// name returns how the connection is called.
func (a MailAccount) name() string {
	name := text.Isolated(a.Provider)
	if account := text.Name(a.Account); account != "" {
		name += ": " + text.Isolated(account)
	} else if a.ID != "" {
		name += ", " + text.Isolated(a.ID)
	}
	return name
}

func (a MailAccount) block(ctx context.Context) mailBlock {
	b := mailBlock{Kind: blockAccount, Text: a.name(), Link: a.Link}
	if a.Status.Party == status.PartyMerchant {
		b.Lines = append(b.Lines, T(ctx, "mail.reason", "Reason", problemText(ctx, a.Status, Provider{Title: a.Provider}, false)))
	}
	if !a.Status.Since.IsZero() {
		b.Lines = append(b.Lines, T(ctx, "mail.since", "Since", Moment(ctx, a.Status.Since)))
	}
	if !a.Until.IsZero() {
		b.Lines = append(b.Lines, T(ctx, "mail.ends", "Until", Moment(ctx, a.Until)))
	}
	if a.Reference != "" {
		b.Lines = append(b.Lines, T(ctx, "mail.reference", "Reference", a.Reference))
	}
	return b
}

// Text returns the mail as plain text.
func (m Mail) Text(ctx context.Context) string {
	var parts []string
	for _, b := range m.blocks(ctx) {
		switch b.Kind {
		case blockFacts:
			parts = append(parts, strings.Join(b.Lines, "\n"))
		case blockAccount:
			lines := append([]string{"* " + b.Text}, b.Lines...)
			if b.Link != "" && b.Link != m.Link {
				lines = append(lines, b.Link)
			}
			parts = append(parts, strings.Join(lines, "\n"))
		case blockButton:
			parts = append(parts, b.Text+":\n"+b.Link)
		default:
			parts = append(parts, b.Text)
		}
	}
	foot := []string{brandName(ctx)}
	if home := brandOf(ctx).HomeURL; home != "" {
		foot = append(foot, home)
	}
	for i, one := range brandOf(ctx).supportContacts() {
		if i == 0 {
			foot = append(foot, T(ctx, "layout.support"))
		}
		foot = append(foot, one.Text)
	}
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
