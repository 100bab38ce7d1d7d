package jobs

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/riverqueue/river"
	"golang.org/x/time/rate"

	"patchbay/internal/audit"
	"patchbay/internal/bulk"
	"patchbay/internal/connectors"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/seal"
	"patchbay/internal/status"
)

// BulkPace is how many refreshes a minute many-at-once sends to one provider.
const BulkPace = 300

// AskPace is how many asks a minute many-at-once sends to merchants of one provider, so that a mail server takes them.
const AskPace = 120

const (
	bulkQueue  = "bulk"
	bulkAtOnce = 4                // calls to one provider under way together
	bulkLease  = 30 * time.Second // after this another process takes over from one that died
)

// bulkArgs works on a bulk.
type bulkArgs struct {
	Bulk pg.ID `json:"bulk"`
}

// Kind names the job in River's table.
func (bulkArgs) Kind() string { return "bulk" }

// InsertOpts keeps work that takes hours from holding up mail. River does not try it again: resumeBulks does.
func (bulkArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: bulkQueue, MaxAttempts: 1}
}

// askArgs works on a bulk of asks to reconnect.
type askArgs struct {
	Bulk pg.ID `json:"bulk"`
}

// Kind names the job in River's table.
func (askArgs) Kind() string { return "bulk-ask" }

// InsertOpts keeps the job from the version before, which does not know it. River does not try it again: resumeBulks does.
func (a askArgs) InsertOpts() river.InsertOpts {
	options := ownQueue(a)
	options.MaxAttempts = 1
	return options
}

// bulkJob returns the job that works on a bulk.
func bulkJob(id pg.ID, kind bulk.Kind) river.JobArgs {
	if kind == bulk.Ask {
		return askArgs{id}
	}
	return bulkArgs{id}
}

type bulkWorker struct {
	river.WorkerDefaults[bulkArgs]
	jobs *Jobs
}

type askWorker struct {
	river.WorkerDefaults[askArgs]
	bulks *bulkWorker
}

// Timeout lets a bulk take as long as it needs.
func (w *askWorker) Timeout(*river.Job[askArgs]) time.Duration { return -1 }

// Work asks for one connection after the other.
func (w *askWorker) Work(ctx context.Context, job *river.Job[askArgs]) error {
	return w.bulks.work(ctx, job.Args.Bulk)
}

// Timeout lets a bulk take as long as it needs.
func (w *bulkWorker) Timeout(*river.Job[bulkArgs]) time.Duration { return -1 }

// Work refreshes one connection after the other.
func (w *bulkWorker) Work(ctx context.Context, job *river.Job[bulkArgs]) error {
	return w.work(ctx, job.Args.Bulk)
}

// work gathers what a dry run is still short of, or works on one connection after the other, each provider at its own
// pace. What is left when the process stops is taken up by another: see resumeBulks.
func (w *bulkWorker) work(ctx context.Context, id pg.ID) error {
	owner, d := pg.NewID(), w.jobs.DB
	leased, err := bulk.Lease(ctx, d, id, owner, bulkLease)
	if err != nil || !leased {
		return err
	}
	defer func() { _ = bulk.Release(context.WithoutCancel(ctx), d, id, owner) }() // else it lapses by itself
	b, err := bulk.Read(ctx, d, id)
	if errors.Is(err, pg.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(w.jobs.life, stop)()
	go w.renewLease(ctx, stop, id, owner)
	if b.State.Gathering() {
		return w.gather(ctx, id)
	}
	var providers sync.WaitGroup
	failed := make([]error, len(b.Providers))
	for i, p := range b.Providers {
		providers.Go(func() { failed[i] = w.part(ctx, b, p.Provider) })
	}
	providers.Wait()
	if err := errors.Join(append(failed, ctx.Err())...); err != nil {
		return nil // not finished: resumeBulks takes it up again
	}
	return bulk.End(ctx, d, id)
}

// renewLease keeps the lease of a bulk, and stops the work when another owner has it.
func (w *bulkWorker) renewLease(ctx context.Context, stop context.CancelFunc, id, owner pg.ID) {
	tick := time.NewTicker(bulkLease / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if leased, err := bulk.Lease(ctx, w.jobs.DB, id, owner, bulkLease); err == nil && !leased {
				stop()
			}
		}
	}
}

func (w *bulkWorker) gather(ctx context.Context, id pg.ID) error {
	providers, err := w.jobs.statuses(ctx)
	if err != nil {
		return err
	}
	for {
		done, err := bulk.Gather(ctx, w.jobs.DB, id, providers, 10_000)
		if err != nil || done {
			return err
		}
	}
}

// part works through one provider's part. During an incident nobody is refreshed or asked; while the provider has asked us to wait,
// nothing is refreshed.
func (w *bulkWorker) part(ctx context.Context, b bulk.Bulk, provider string) error {
	asks := b.State == bulk.Asking // not by kind: a process of the version before starts a dry run of asks as refreshes
	perMinute, most := BulkPace, bulkAtOnce
	if asks {
		perMinute, most = AskPace, 1
	}
	pace := rate.NewLimiter(rate.Limit(perMinute)/60, 1)
	by := audit.Actor{Role: b.ByRole, ID: b.CreatedBy}
	for {
		waiting, err := bulk.Waiting(ctx, w.jobs.DB, b.ID, provider, most)
		if err != nil || len(waiting) == 0 {
			return err
		}
		state, err := w.jobs.Refresh.ProviderState(ctx, provider, connectors.Environments(w.jobs.Providers)[provider])
		if err != nil {
			return err
		}
		if !state.IncidentSince.IsZero() || !asks && state.PausedUntil.After(w.jobs.DB.Now()) {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(2 * time.Second):
				continue
			}
		}
		var calls sync.WaitGroup
		failed := make([]error, len(waiting))
		for i, connection := range waiting {
			if err := pace.Wait(ctx); err != nil {
				failed[i] = err
				break
			}
			calls.Go(func() {
				if asks {
					failed[i] = w.ask(ctx, b, connection)
					return
				}
				outcome, err := w.one(ctx, connection, by)
				if outcome == status.Busy && ctx.Err() != nil { // this process stops: the next owner begins with it
					err = ctx.Err()
				}
				if err != nil {
					failed[i] = err
					return
				}
				failed[i] = bulk.RecordOutcome(context.WithoutCancel(ctx), w.jobs.DB.Pool, b.ID, connection, outcome, w.jobs.DB.Now())
			})
		}
		calls.Wait()
		if err := errors.Join(failed...); err != nil {
			return err
		}
	}
}

// ask asks the merchant to reconnect a connection. What has begun is finished when this process stops.
func (w *bulkWorker) ask(ctx context.Context, b bulk.Bulk, connection pg.ID) error {
	providers, err := w.jobs.statuses(ctx)
	if err != nil {
		return err
	}
	return bulk.AskOne(context.WithoutCancel(ctx), w.jobs.DB, b, connection, providers, w.jobs)
}

// one refreshes a connection and says how that ended. It returns seal.ErrUnknownKey if that is for another process.
func (w *bulkWorker) one(ctx context.Context, connection pg.ID, by audit.Actor) (status.Outcome, error) {
	outcome, err := w.jobs.Refresh.RefreshNow(ctx, connection, by)
	if known, ok := refresh.ResultOf(err); ok {
		return known.Outcome, nil
	}
	switch {
	case err == nil:
		return outcome.Outcome, nil
	case errors.Is(err, pg.ErrNotFound):
		return status.Skipped, nil
	case errors.Is(err, seal.ErrUnknownKey):
		return "", err
	default:
		w.jobs.Log.ErrorContext(ctx, "refresh in bulk failed", "connection", connection, "err", err)
		return status.Temporary, nil
	}
}

// ResumeBulk enqueues the job of a bulk.
func (j *Jobs) ResumeBulk(ctx context.Context, bulk pg.ID, kind bulk.Kind) error {
	_, err := j.client.Insert(ctx, bulkJob(bulk, kind), nil)
	return err
}

// abandonedArgs finds bulks whose process has died.
type abandonedArgs struct{}

// Kind names the job in River's table.
func (abandonedArgs) Kind() string { return "abandoned-bulks" }

// resumeBulks enqueues a job for each.
func (j *Jobs) resumeBulks(ctx context.Context, _ *river.Job[abandonedArgs]) error {
	bulks, err := bulk.ListAbandoned(ctx, j.DB)
	for _, b := range bulks {
		err = errors.Join(err, j.ResumeBulk(ctx, b.ID, b.Kind))
	}
	return err
}
