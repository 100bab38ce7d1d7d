package jobs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	stdmail "net/mail"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/wneessen/go-mail"

	"patchbay/internal/account"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/text"
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
// never quote the address, which holds a password. A password is only ever sent over
// TLS. roots are the authorities whose certificates are believed; nil for the system's.
func newMailer(address, from, ehlo string, roots *x509.CertPool) (*mailer, error) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.Scheme != "smtp" && u.Scheme != "smtps" {
		return nil, errors.New("SMTP_URL is not like smtp://user:password@host:587")
	}
	sender, err := stdmail.ParseAddress(from)
	if err != nil {
		return nil, errors.New("MAIL_FROM is not an e-mail address, which SMTP_URL needs")
	}
	sender.Address = text.ASCIIEmail(sender.Address)
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
	trust := &tls.Config{ServerName: p.host, MinVersion: tls.VersionTLS12, RootCAs: roots}
	switch {
	case u.Scheme == "smtps":
		p.options = append(p.options, mail.WithSSL())
	case hasPassword, roots != nil:
		p.options = append(p.options, mail.WithTLSPolicy(mail.TLSMandatory))
	default:
		// Nothing secret is sent to sign in, and plain text would do: a certificate that cannot be verified is better than that (RFC 7435).
		trust.InsecureSkipVerify = true
		p.options = append(p.options, mail.WithTLSPolicy(mail.TLSOpportunistic))
	}
	p.options = append(p.options, mail.WithTLSConfig(trust))
	if hasPassword {
		p.options = append(p.options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(u.User.Username()), mail.WithPassword(password))
	}
	return p, nil
}

// send sends a mail, or keeps it in the outbox.
func (j *Jobs) send(ctx context.Context, to account.User, page views.Mail) error {
	if j.Outbox {
		html, err := renderHTML(ctx, page)
		if err != nil {
			return err
		}
		return notify.AddOutboxMail(ctx, j.DB.Keyring, notify.OutboxMail{User: to.ID, Recipient: to.Email, Subject: page.Subject(ctx), Text: page.Text(ctx), HTML: html})
	}
	if j.mailer == nil {
		return nil
	}
	message, err := j.mailer.message(ctx, to, page, &j.Brand)
	if err != nil {
		return err
	}
	client, err := j.mailer.client(to.Email)
	if err != nil {
		return err
	}
	if err := client.DialAndSendWithContext(ctx, message); err != nil {
		return fmt.Errorf("mail not taken: %s", j.mailer.reason(err, to.Email))
	}
	return nil
}

// client returns a client for a letter to an address, "" for none. It asks for SMTPUTF8 only where an address needs it: the next server
// may not know it (RFC 6531 section 3.1).
func (p *mailer) client(to string) (*mail.Client, error) {
	options := p.options
	if isASCII(p.from.Address + text.ASCIIEmail(to)) {
		options = append(slices.Clip(options), mail.WithoutSMTPUTF8())
	}
	client, err := mail.NewClient(p.host, options...)
	if err != nil {
		return nil, errors.New("the settings of mail are not usable") // err may quote them
	}
	return client, nil
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
}

// reason returns what a mail server or its certificate said, without the password and the recipient.
func (p *mailer) reason(err error, to string) string {
	said := err.Error()
	if to != "" {
		said = strings.NewReplacer(to, "the recipient", text.ASCIIEmail(to), "the recipient").Replace(said)
	}
	if p.password != "" {
		said = strings.ReplaceAll(said, p.password, "…")
	}
	return strings.Join(strings.Fields(said), " ")
}

func renderHTML(ctx context.Context, page views.Mail) (string, error) {
	var html strings.Builder
	if err := views.MailHTML(page).Render(ctx, &html); err != nil {
		return "", fmt.Errorf("render mail: %w", err)
	}
	return html.String(), nil
}

// message returns the mail for the wire: plain text and HTML with the same words, and the logo that the HTML shows.
func (p *mailer) message(ctx context.Context, to account.User, page views.Mail, brand *views.Brand) (*mail.Msg, error) {
	html, err := renderHTML(ctx, page)
	if err != nil {
		return nil, err
	}
	m := mail.NewMsg(mail.WithNoDefaultUserAgent())
	m.FromMailAddress(&p.from)
	m.ToMailAddress(&stdmail.Address{Name: to.Name, Address: text.ASCIIEmail(to.Email)})
	m.Subject(page.Subject(ctx))
	m.SetDate()
	m.SetMessageIDWithValue(pg.NewID().String() + "@" + domain(p.from.Address))
	m.SetUserAgent("Patchbay")
	m.SetGenHeader("Auto-Submitted", "auto-generated")
	m.SetBodyString(mail.TypeTextPlain, page.Text(ctx))
	m.AddAlternativeString(mail.TypeTextHTML, html)
	if name, id, image, ok := brand.MailLogo(); ok {
		if err := m.EmbedReader(name, bytes.NewReader(image), mail.WithFileContentID("<"+id+">"), mail.WithFileContentType("image/png")); err != nil {
			return nil, fmt.Errorf("add the logo to a mail: %w", err)
		}
	}
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

// CheckMail signs in to a mail server, and sends a test mail if to is not "". Its error says what the server
// or its certificate said.
func CheckMail(ctx context.Context, o Options, to string) error {
	p, err := newMailer(o.SMTPURL, o.MailFrom, o.PublicURL.Hostname(), o.MailRoots)
	if err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok { // of the dialogue too, which ctx does not end
		p.options = append(p.options, mail.WithTimeout(time.Until(deadline)))
	}
	if to != "" {
		address, err := stdmail.ParseAddress(text.Email(to))
		if err != nil {
			return errors.New("the address to send to is not a mail address")
		}
		to = text.ASCIIEmail(address.Address)
	}
	client, err := p.client(to)
	if err != nil {
		return err
	}
	if to == "" {
		if err := client.DialWithContext(ctx); err != nil {
			return errors.New(p.reason(err, ""))
		}
		return client.Close()
	}
	m := mail.NewMsg(mail.WithNoDefaultUserAgent())
	m.FromMailAddress(&p.from)
	m.ToMailAddress(&stdmail.Address{Address: to})
	m.Subject("Patchbay: a test")
	m.SetDate()
	m.SetBodyString(mail.TypeTextPlain, "This letter was sent by patchbay doctor -mail. Mail works.\n")
	if err := client.DialAndSendWithContext(ctx, m); err != nil {
		return errors.New(p.reason(err, to))
	}
	return nil
}
