package jobs

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/riverqueue/river"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/status"
	"patchbay/views"
)

// mailArgs is one letter to one person.
type mailArgs struct {
	Letter db.Mail `json:"letter"`
}

// Kind names the job in River's table.
func (mailArgs) Kind() string { return "letter" }

// InsertOpts gives up after some four hours: what came later than that would only be puzzling.
func (mailArgs) InsertOpts() river.InsertOpts { return river.InsertOpts{MaxAttempts: 10} }

type mailWorker struct {
	river.WorkerDefaults[mailArgs]
	jobs *Jobs
}

// Work writes a letter and sends it. One that has become needless meanwhile is not sent.
func (w *mailWorker) Work(ctx context.Context, job *river.Job[mailArgs]) error {
	letter := job.Args.Letter
	user, merchant, err := w.jobs.DB.Recipient(ctx, letter.User)
	if errors.Is(err, pg.ErrNotFound) || err == nil && !user.LockedAt.IsZero() {
		return nil
	}
	if err != nil {
		return err
	}
	page, err := w.jobs.compose(ctx, letter, user, merchant)
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
	return w.jobs.send(views.WithLocale(ctx, locale, w.jobs.DB.Now(), nil), user, page)
}

var errNeedless = errors.New("nothing to write any more")

// compose fills in what a letter says. The secret of its link is made here, and stands nowhere but in the letter.
func (j *Jobs) compose(ctx context.Context, letter db.Mail, user db.User, merchant db.Merchant) (views.Mail, error) {
	page := views.Mail{Kind: letter.Kind, Name: user.Name, Merchant: merchant.Name, Link: j.address("/")}
	by := audit.System
	if letter.By != (pg.ID{}) {
		author, err := j.DB.User(ctx, letter.By)
		if err != nil && !errors.Is(err, pg.ErrNotFound) {
			return page, err
		}
		by = audit.Actor{Kind: author.Role, ID: author.ID}
		page.By, page.ByStaff = author.Name, author.Staff()
	}
	about, err := j.about(ctx, letter, user)
	if err != nil {
		return page, err
	}
	for _, c := range about {
		line := views.MailAccount{Provider: j.title(c.Provider), Account: c.Account.Name}
		if c.Account.ID != c.ID.String() { // an account without an id goes by the connection's, which tells nobody anything
			line.ID = c.Account.ID
		}
		if letter.Kind == db.MailReconnectBy {
			line.Until = c.AccessEnds
		}
		page.Accounts = append(page.Accounts, line)
	}
	switch letter.Kind {
	case db.MailInvitation:
		if !user.Invited {
			return page, errNeedless
		}
		return page, j.link(ctx, &page, by, db.LinkInvitation, "/invitations/", user.ID, pg.ID{})
	case db.MailPassword:
		return page, j.link(ctx, &page, by, db.LinkPassword, "/password/", user.ID, pg.ID{})
	case db.MailReconnect:
		return page, j.link(ctx, &page, by, db.LinkReconnect, "/reconnect/", user.ID, about[0].ID)
	default:
		return page, nil
	}
}

// about reads the connections that the letter is still about.
func (j *Jobs) about(ctx context.Context, letter db.Mail, user db.User) ([]db.Connection, error) {
	if len(letter.Connections) == 0 {
		return nil, nil
	}
	all, err := j.DB.MailConnections(ctx, user.MerchantID, letter.Connections)
	if err != nil {
		return nil, err
	}
	providers, err := j.statuses(ctx)
	if err != nil {
		return nil, err
	}
	var gone []pg.ID
	still := slices.DeleteFunc(all, func(c db.Connection) bool {
		s := status.Of(c.Row(), providers[c.Provider])
		needless := s.Health == status.Disconnected
		switch letter.Kind {
		case db.MailActionNeeded:
			needless = s.Party != status.PartyMerchant
		case db.MailReconnectBy:
			needless = s.ReconnectBy.IsZero()
		case db.MailBackToNormal:
			needless = s.Health != status.Fine
		}
		if needless {
			gone = append(gone, c.ID)
		}
		return needless
	})
	if letter.Kind == db.MailActionNeeded && len(gone) > 0 {
		if err := j.DB.ClearWarnings(ctx, user.ID, gone); err != nil {
			return nil, err
		}
	}
	if len(still) == 0 {
		return nil, errNeedless
	}
	return still, nil
}

// statuses returns what the providers' settings and open incidents make of their connections.
func (j *Jobs) statuses(ctx context.Context) (status.Providers, error) {
	providers := connectors.Statuses(j.Providers)
	open, err := j.DB.Incidents(ctx)
	for _, one := range open {
		providers.SetIncident(one.Name, one.Environment, one.Reason)
	}
	return providers, err
}

func (j *Jobs) link(ctx context.Context, page *views.Mail, by audit.Actor, kind, path string, user, connection pg.ID) error {
	secret, until, err := j.DB.AddLink(ctx, by, kind, user, connection)
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

// warningsArgs looks for letters that are due.
type warningsArgs struct{}

// Kind names the job in River's table.
func (warningsArgs) Kind() string { return "warnings" }

type warningsWorker struct {
	river.WorkerDefaults[warningsArgs]
	jobs *Jobs
}

// Work enqueues the letters that are due.
func (w *warningsWorker) Work(ctx context.Context, _ *river.Job[warningsArgs]) error {
	if !w.jobs.SendsMail() {
		return nil
	}
	_, err := w.jobs.DB.EnqueueWarnings(ctx, connectors.Statuses(w.jobs.Providers), w.jobs.Enqueue)
	return err
}

// upkeepArgs tidies up.
type upkeepArgs struct{}

// Kind names the job in River's table.
func (upkeepArgs) Kind() string { return "upkeep" }

type upkeepWorker struct {
	river.WorkerDefaults[upkeepArgs]
	jobs *Jobs
}

// Work does every chore, whatever became of the others.
func (w *upkeepWorker) Work(ctx context.Context, _ *river.Job[upkeepArgs]) error {
	began := time.Now()
	d := w.jobs.DB
	keep, err := d.Audit.Retention(ctx)
	if err != nil {
		return err
	}
	dropped, err := d.Audit.DropMonths(ctx, keep)
	if dropped > 0 {
		w.jobs.Log.InfoContext(ctx, "old events dropped", "months", dropped)
	}
	_, lapsing := d.LapseFlows(ctx)
	err = errors.Join(err, lapsing, d.FoldCounts(ctx), d.Audit.MakeMonths(ctx), d.DropOld(ctx), d.DropOldFigures(ctx), d.CountOldSeals(ctx))
	w.jobs.Log.DebugContext(ctx, "upkeep", "ms", time.Since(began).Milliseconds())
	return err
}

// gramsArgs counts anew what searches choose their way by.
type gramsArgs struct{}

// Kind names the job in River's table.
func (gramsArgs) Kind() string { return "grams" }

type gramsWorker struct {
	river.WorkerDefaults[gramsArgs]
	jobs *Jobs
}

// Work reads the sample: seconds at a million connections.
func (w *gramsWorker) Work(ctx context.Context, _ *river.Job[gramsArgs]) error {
	return w.jobs.DB.CountGrams(ctx)
}
