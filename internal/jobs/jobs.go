// Package jobs runs what may be done later, by River on the same Postgres: mail, refreshes in bulk, revocations and upkeep. The
// arguments of a job hold ids and never a secret; everything else is read, and secrets are made, when it runs.
package jobs

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"patchbay/internal/account"
	"patchbay/internal/bulk"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/webhooks"
	"patchbay/views"
)

// Options are what Jobs is made of.
type Options struct {
	DB        *db.DB
	Accounts  *account.Store
	Refresh   *refresh.Engine // for many refreshes at once
	Webhooks  *webhooks.Webhooks
	Log       *slog.Logger
	Providers []connectors.Provider // their titles, and whose access ends on a known day
	PublicURL *url.URL              // where links in mail lead
	SMTPURL   string                // "" sends nothing: links are shown to staff instead
	MailFrom  string
	MailRoots *x509.CertPool // whose certificates are believed; nil for the system\'s
	Brand     views.Brand    // in mail; zero for Patchbay's
	Pooled    bool           // connections share Postgres's sessions (pg.Pooled), so that notifications reach none: jobs are looked for every second
	Outbox    bool           // mail is kept for GET /outbox instead of being sent: the demo and tests

	Middleware []rivertype.Middleware // around every job; may be empty
}

// Jobs enqueues jobs, and runs them between Start and Stop. Several processes on one Postgres share the work.
type Jobs struct {
	Options
	client *river.Client[pgx.Tx]
	life   context.Context // of work that takes hours: cancelled when Stop begins
	end    context.CancelFunc
	mailer *mailer // nil when mail is not sent
}

// New makes Jobs. The error says what is wrong with the settings of mail.
func New(o Options) (*Jobs, error) {
	j := &Jobs{Options: o}
	j.life, j.end = context.WithCancel(context.Background())
	if o.SMTPURL != "" {
		var err error
		if j.mailer, err = newMailer(o.SMTPURL, o.MailFrom, o.PublicURL.Hostname(), o.MailRoots); err != nil {
			return nil, err
		}
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(j.runMail))
	river.AddWorker(workers, river.WorkFunc(j.runWarnings))
	river.AddWorker(workers, river.WorkFunc(j.runUpkeep))
	river.AddWorker(workers, river.WorkFunc(j.runReseal))
	bulks := &bulkWorker{jobs: j}
	river.AddWorker(workers, bulks)
	river.AddWorker(workers, &askWorker{bulks: bulks})
	river.AddWorker(workers, river.WorkFunc(j.resumeBulks))
	river.AddWorker(workers, river.WorkFunc(j.runRevocation))
	river.AddWorker(workers, river.WorkFunc(j.runErasures))
	client, err := river.NewClient(riverpgxv5.New(o.DB.Pool), &river.Config{
		Logger:       slog.New(onlyWarnings{o.Log.Handler()}),
		ErrorHandler: failures{o.Log},
		Workers:      workers,
		Queues: map[string]river.QueueConfig{
			river.QueueDefault: {MaxWorkers: 4}, bulkQueue: {MaxWorkers: 2}, askArgs{}.Kind(): {MaxWorkers: 2}, resealArgs{}.Kind(): {MaxWorkers: 1}, erasuresArgs{}.Kind(): {MaxWorkers: 1},
		},
		JobTimeout:      2 * time.Minute,
		PollOnly:        o.Pooled,
		Middleware:      o.Middleware,
		SoftStopTimeout: 20 * time.Second,
		// River's nightly REINDEX needs the owner of its tables, which the serving role is not: see docs/operating.md.
		ReindexerSchedule: river.NeverSchedule(),
		PeriodicJobs: []*river.PeriodicJob{
			periodic(warningsArgs{}, time.Minute),
			periodic(upkeepArgs{}, time.Minute),
			periodic(resealArgs{Key: o.DB.Keyset.Primary()}, time.Minute),
			periodic(abandonedArgs{}, time.Minute),
			periodic(erasuresArgs{}, time.Minute),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("set up jobs: %w", err)
	}
	j.client = client
	return j, nil
}

// ownQueue puts a kind of job on a queue of its name. A process works only on the queues that it knows, so that one of the version before does
// not take a job of a kind that is new.
func ownQueue(args river.JobArgs) river.InsertOpts { return river.InsertOpts{Queue: args.Kind()} }

// periodic runs a job at the start and at every interval, in one process of all.
func periodic(args river.JobArgs, every time.Duration) *river.PeriodicJob {
	return river.NewPeriodicJob(river.PeriodicInterval(every), func() (river.JobArgs, *river.InsertOpts) {
		return args, &river.InsertOpts{MaxAttempts: 3, UniqueOpts: river.UniqueOpts{ByArgs: true, ByPeriod: every}}
	}, &river.PeriodicJobOpts{ID: args.Kind(), RunOnStart: true})
}

// Start begins to run jobs, until ctx is done or Stop.
func (j *Jobs) Start(ctx context.Context) error {
	if err := j.client.Start(ctx); err != nil {
		return fmt.Errorf("start jobs: %w", err)
	}
	return nil
}

// Stop lets running jobs finish, until ctx is done.
func (j *Jobs) Stop(ctx context.Context) error {
	j.end()
	return j.client.Stop(ctx)
}

// receiptAfter is how long the mail of a receipt waits: by then the provider has been asked, and what it answered is on it.
const receiptAfter = 45 * time.Second

// EnqueueMail adds a mail in the caller's transaction.
func (j *Jobs) EnqueueMail(ctx context.Context, tx pgx.Tx, m notify.Mail) error {
	var options *river.InsertOpts
	if m.Kind == notify.MailDisconnected {
		options = &river.InsertOpts{ScheduledAt: j.DB.Now().Add(receiptAfter)}
	}
	return j.enqueue(ctx, tx, j.dated(m), options)
}

// EnqueueBulk adds the work on a bulk in the caller's transaction.
func (j *Jobs) EnqueueBulk(ctx context.Context, tx pgx.Tx, bulk pg.ID, kind bulk.Kind) error {
	return j.enqueue(ctx, tx, bulkJob(bulk, kind), nil)
}

// EnqueueRevocation adds a revocation in the caller's transaction. It waits for revokeAfter: the process that ends a connection
// revokes its access itself, and the job finds nothing left to do. It adds none if the job could do nothing.
func (j *Jobs) EnqueueRevocation(ctx context.Context, tx pgx.Tx, c db.Connection, at time.Time) error {
	if !j.RevokesByAccount(c.Provider, c.Environment) {
		return nil
	}
	args := revokeArgs{Connection: c.ID, Account: c.Account.ID, At: at}
	return j.enqueue(ctx, tx, args, &river.InsertOpts{ScheduledAt: j.DB.Now().Add(revokeAfter)})
}

func (j *Jobs) enqueue(ctx context.Context, tx pgx.Tx, args river.JobArgs, options *river.InsertOpts) error {
	if _, err := j.client.InsertTx(ctx, tx, args, options); err != nil {
		return fmt.Errorf("enqueue %s: %w", args.Kind(), err)
	}
	return nil
}

// SendMail enqueues a mail that belongs to no row of its own.
func (j *Jobs) SendMail(ctx context.Context, m notify.Mail) error {
	if _, err := j.client.Insert(ctx, j.dated(m), nil); err != nil {
		return fmt.Errorf("enqueue mail: %w", err)
	}
	return nil
}

// dated returns the job of a mail. What it is about happened now, unless the mail says when.
func (j *Jobs) dated(m notify.Mail) mailArgs {
	if m.At.IsZero() {
		m.At = j.DB.Now()
	}
	return mailArgs{m}
}

// SendsMail reports whether mail is sent or kept in the outbox. Where it is not, staff are shown the links instead.
func (j *Jobs) SendsMail() bool { return j.mailer != nil || j.Outbox }

// onlyWarnings drops River's records below the level of warnings.
type onlyWarnings struct{ slog.Handler }

func (h onlyWarnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}

func (h onlyWarnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return onlyWarnings{h.Handler.WithAttrs(attrs)}
}

func (h onlyWarnings) WithGroup(name string) slog.Handler {
	return onlyWarnings{h.Handler.WithGroup(name)}
}

// failures logs every failed try of a job with its reason: River itself does so below the level of warnings.
type failures struct{ log *slog.Logger }

// HandleError logs the error of a try.
func (f failures) HandleError(ctx context.Context, job *rivertype.JobRow, err error) *river.ErrorHandlerResult {
	f.log.WarnContext(ctx, "job failed", "kind", job.Kind, "job", job.ID, "try", job.Attempt, "of", job.MaxAttempts, "err", err)
	return nil
}

// HandlePanic logs that a try panicked. The panic's value is not logged, since it may hold a secret.
func (f failures) HandlePanic(ctx context.Context, job *rivertype.JobRow, _ any, _ string) *river.ErrorHandlerResult {
	f.log.ErrorContext(ctx, "job panicked", "kind", job.Kind, "job", job.ID, "try", job.Attempt, "of", job.MaxAttempts)
	return nil
}
