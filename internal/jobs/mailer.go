package jobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	stdmail "net/mail"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"patchbay/internal/account"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/views"
)

// mailer is the way to a mail server.
type mailer struct {
	host     string
	options  []mail.Option
	password string
	from     stdmail.Address
}

// newMailer reads SMTP_URL and MAIL_FROM: smtp://user:password@host:587, or smtps:// for TLS from the first byte. Its errors
// never quote the address, which holds a password. A password is only ever sent over TLS, or to this same machine.
func newMailer(address, from, ehlo string) (*mailer, error) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.Scheme != "smtp" && u.Scheme != "smtps" {
		return nil, errors.New("SMTP_URL is not like smtp://user:password@host:587")
	}
	sender, err := stdmail.ParseAddress(from)
	if err != nil {
		return nil, errors.New("MAIL_FROM is not an e-mail address, which SMTP_URL needs")
	}
	p := &mailer{host: u.Hostname(), from: *sender}
	port := u.Port()
	if port == "" {
		port = map[string]string{"smtp": "587", "smtps": "465"}[u.Scheme]
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, errors.New("SMTP_URL has no port that is a number")
	}
	p.options = []mail.Option{mail.WithPort(number), mail.WithTimeout(20 * time.Second)}
	if ehlo != "" {
		p.options = append(p.options, mail.WithHELO(ehlo))
	}
	password, hasPassword := u.User.Password()
	p.password = password
	ip := net.ParseIP(p.host)
	here := p.host == "localhost" || ip != nil && ip.IsLoopback()
	switch {
	case u.Scheme == "smtps":
		p.options = append(p.options, mail.WithSSL())
	case hasPassword && !here:
		p.options = append(p.options, mail.WithTLSPolicy(mail.TLSMandatory))
	default:
		p.options = append(p.options, mail.WithTLSPolicy(mail.TLSOpportunistic))
	}
	if hasPassword {
		p.options = append(p.options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(u.User.Username()), mail.WithPassword(password))
	}
	return p, nil
}

// send sends a mail, or keeps it in the outbox.
func (j *Jobs) send(ctx context.Context, to account.User, page views.Mail) error {
	if j.Outbox {
		return j.DB.AddOutboxMail(ctx, db.OutboxMail{Recipient: to.Email, Subject: page.Subject(ctx), Text: page.Text(ctx)})
	}
	if j.mailer == nil {
		return nil
	}
	message, err := j.mailer.message(ctx, to, page)
	if err != nil {
		return err
	}
	client, err := mail.NewClient(j.mailer.host, j.mailer.options...)
	if err != nil {
		return errors.New("the settings of mail are not usable") // err may quote them
	}
	if err := client.DialAndSendWithContext(ctx, message); err != nil {
		return fmt.Errorf("mail not taken: %s", j.mailer.reason(err, to.Email))
	}
	return nil
}

// reason returns what a mail server or its certificate said, without the password and the recipient.
func (p *mailer) reason(err error, to string) string {
	text := strings.ReplaceAll(err.Error(), to, "the recipient")
	if p.password != "" {
		text = strings.ReplaceAll(text, p.password, "…")
	}
	return strings.Join(strings.Fields(text), " ")
}

// message returns the mail for the wire, as plain text and HTML with the same words.
func (p *mailer) message(ctx context.Context, to account.User, page views.Mail) (*mail.Msg, error) {
	var html bytes.Buffer
	if err := views.MailHTML(page).Render(ctx, &html); err != nil {
		return nil, fmt.Errorf("render mail: %w", err)
	}
	m := mail.NewMsg(mail.WithNoDefaultUserAgent())
	m.FromMailAddress(&p.from)
	m.ToMailAddress(&stdmail.Address{Name: to.Name, Address: to.Email})
	m.Subject(page.Subject(ctx))
	m.SetDate()
	m.SetMessageIDWithValue(pg.NewID().String() + "@" + domain(p.from.Address))
	m.SetUserAgent("Patchbay")
	m.SetGenHeader("Auto-Submitted", "auto-generated")
	m.SetBodyString(mail.TypeTextPlain, page.Text(ctx))
	m.AddAlternativeString(mail.TypeTextHTML, html.String())
	return m, nil
}

func domain(address string) string {
	for i := len(address) - 1; i >= 0; i-- {
		if address[i] == '@' {
			return address[i+1:]
		}
	}
	return address
}
