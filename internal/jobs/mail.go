package jobs

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/riverqueue/river"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
	"patchbay/internal/status"
	"patchbay/internal/webhooks"
	"patchbay/views"
)

// mailArgs is one mail to one person.
type mailArgs struct {
	Mail notify.Mail `json:"mail"`
}

// Kind names the job in River's table.
func (mailArgs) Kind() string { return MailKind }

// InsertOpts gives up after about four hours: a mail that comes later would only confuse its reader.
func (mailArgs) InsertOpts() river.InsertOpts { return river.InsertOpts{MaxAttempts: 10} }

// runMail writes a mail and sends it, unless the reason for it has gone since it was enqueued. One for a user whom another key signed
// waits for a process that has it.
func (j *Jobs) runMail(ctx context.Context, job *river.Job[mailArgs]) error {
	err := j.writeMail(ctx, job.Args.Mail)
	if errors.Is(err, seal.ErrUnknownKey) {
		return river.JobSnooze(30 * time.Second)
	}
	return err
}

func (j *Jobs) writeMail(ctx context.Context, m notify.Mail) error {
	user, err := j.Accounts.User(ctx, m.User)
	if errors.Is(err, pg.ErrNotFound) || err == nil && (!user.LockedAt.IsZero() || user.Email == "") {
		return nil
	}
	if err != nil {
		return err
	}
	var merchant db.Merchant // zero for staff
	if !user.Staff() {
		merchant, err = j.DB.Merchant(ctx, user.MerchantID)
		if errors.Is(err, pg.ErrNotFound) { // erased since the user was read
			return nil
		}
		if err != nil {
			return err
		}
	}
	page, err := j.compose(ctx, m, user, merchant)
	if errors.Is(err, errNeedless) {
		return nil
	}
	if err != nil {
		return err
	}
	locale := user.Locale
	if locale == "" {
		locale = merchant.Locale
	}
	return j.send(views.WithBrand(views.WithLocale(ctx, locale, j.DB.Now(), nil), &j.Brand), user, page)
}

var errNeedless = errors.New("the reason for this mail has gone")

// compose writes a mail. The secret of its link is made here and is kept nowhere else. It returns errNeedless when there is no
// reason to send it any more.
func (j *Jobs) compose(ctx context.Context, m notify.Mail, user account.User, merchant db.Merchant) (views.Mail, error) {
	page := views.Mail{Kind: m.Kind, Name: user.Name, Merchant: merchant.Name, At: m.At, Since: m.Since, Code: m.Code, Count: m.Count, Link: j.address("/")}
	if m.Provider != "" {
		page.Provider, page.Environment = j.title(m.Provider), m.Environment
	}
	by := audit.System
	if m.By != (pg.ID{}) {
		author, err := j.Accounts.User(ctx, m.By)
		if err != nil && !errors.Is(err, pg.ErrNotFound) {
			return page, err
		}
		by = audit.Actor{Role: author.Role, ID: author.ID}
		page.By, page.ByStaff = author.Name, author.Staff()
	}
	providers, err := j.statuses(ctx)
	if err != nil {
		return page, err
	}
	about, err := j.about(ctx, m, user, providers)
	if err != nil {
		return page, err
	}
	for _, c := range about {
		line := views.MailAccount{Provider: j.title(c.Provider), Account: cmp.Or(c.Nickname, c.Account.Name), Link: j.address("/connections/" + c.ID.String()), Reference: c.Reference()}
		if c.Account.ID != c.ID.String() { // the connection's own id, which an account without an id has, means nothing to its reader
			line.ID = c.Account.ID
		}
		if m.Kind == notify.MailReconnectBy {
			line.Until = c.AccessEnds
		} else if s := status.Of(c.Row(), providers[c.Provider]); s.Party == status.PartyMerchant {
			line.Status = s
		}
		page.Accounts = append(page.Accounts, line)
	}
	if len(page.Accounts) == 1 {
		page.Link = page.Accounts[0].Link
	}
	switch m.Kind {
	case notify.MailWebhookOff, notify.MailIncident, notify.MailIncidentEnded, notify.MailPlatformActionNeeded: // those of notify.Admins
		if !user.Notices {
			return page, errNeedless
		}
		page.Switch = j.address("/account")
	}
	switch m.Kind {
	case notify.MailInvitation:
		if !user.Invited {
			return page, errNeedless
		}
		return page, j.link(ctx, &page, by, account.LinkInvitation, "/invitations/", user.ID, pg.ID{})
	case notify.MailPassword:
		if user.SSO {
			return page, errNeedless
		}
		if err := j.link(ctx, &page, by, account.LinkPassword, "/password/", user.ID, pg.ID{}); err != nil || m.By != (pg.ID{}) {
			return page, err
		}
		// Somebody asked for it who is not signed in. It is noted here, so that their answer takes as long whoever has an account.
		asked := audit.Event{Kind: status.UserPasswordLink, Actor: by, MerchantID: user.MerchantID, Note: user.Email}
		return page, j.DB.Audit.Record(ctx, asked)
	case notify.MailReconnect:
		return page, j.link(ctx, &page, by, account.LinkReconnect, "/reconnect/", user.ID, about[0].ID)
	case notify.MailWebhookOff:
		e, err := j.Webhooks.Endpoint(ctx, m.Endpoint)
		if errors.Is(err, pg.ErrNotFound) || err == nil && e.State() != webhooks.Off {
			return page, errNeedless
		}
		page.Endpoint, page.Link = e.Shown, j.address("/admin/webhooks")
		return page, err
	case notify.MailIncident, notify.MailIncidentEnded:
		page.Link = j.address("/admin/providers/" + m.Provider)
		return page, nil
	case notify.MailPlatformActionNeeded:
		page.Link = j.address("/admin/connections?" + url.Values{"provider": {m.Provider}, "problem": {m.Code}}.Encode())
		return page, nil
	case notify.MailPasswordChanged:
		if user.SSO {
			return page, errNeedless
		}
		page.Link = j.address("/password")
		return page, nil
	case notify.MailDisconnected:
		receipt, err := j.Receipt(ctx, about[0])
		page.Receipt = &receipt
		return page, err
	case notify.MailFactorOn, notify.MailFactorOff, notify.MailRecoveryUsed:
		page.Link = j.address("/account")
		return page, nil
	default:
		return page, nil
	}
}

// about reads the mail's connections for which its reason still holds. It returns errNeedless when there are none left.
func (j *Jobs) about(ctx context.Context, m notify.Mail, user account.User, providers status.Providers) ([]db.Connection, error) {
	if len(m.Connections) == 0 {
		return nil, nil
	}
	all, err := j.DB.MailConnections(ctx, user.MerchantID, m.Connections)
	if err != nil {
		return nil, err
	}
	var gone []pg.ID
	still := slices.DeleteFunc(all, func(c db.Connection) bool {
		s := status.Of(c.Row(), providers[c.Provider])
		needless := s.Health == status.Disconnected
		switch m.Kind {
		case notify.MailActionNeeded, notify.MailRestored:
			needless = s.Party != status.PartyMerchant
		case notify.MailReconnectBy:
			needless = s.ReconnectBy.IsZero()
		case notify.MailBackToNormal:
			needless = s.Health != status.Fine
		case notify.MailDisconnected:
			needless = !c.DisconnectedAt.Equal(m.At) // it was connected again
		}
		if needless {
			gone = append(gone, c.ID)
		}
		return needless
	})
	if m.Kind == notify.MailActionNeeded && len(gone) > 0 {
		if err := notify.ClearWarnings(ctx, j.DB.Pool, user.ID, gone); err != nil {
			return nil, err
		}
	}
	if len(still) == 0 {
		return nil, errNeedless
	}
	return still, nil
}

// link makes a link for the mail's button.
func (j *Jobs) link(ctx context.Context, page *views.Mail, by audit.Actor, kind account.LinkKind, path string, user, connection pg.ID) error {
	secret, until, err := j.Accounts.AddLink(ctx, by, kind, user, connection)
	if err != nil {
		return err
	}
	page.Link, page.Until = j.address(path+string(secret)), until
	return nil
}

func (j *Jobs) address(path string) string {
	return strings.TrimSuffix(j.PublicURL.String(), "/") + path
}

func (j *Jobs) title(provider string) string {
	for _, p := range j.Providers {
		if p.Name == provider {
			return p.Title
		}
	}
	return provider
}

// statuses returns what the providers' settings and open incidents mean for their connections.
func (j *Jobs) statuses(ctx context.Context) (status.Providers, error) {
	return j.DB.ProviderStatuses(ctx, connectors.Statuses(j.Providers))
}
