package jobs

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/riverqueue/river"

	"patchbay/internal/db"
	"patchbay/internal/pg"
)

const (
	erasuresFor       = 80 * time.Second // then the next run goes on
	revocationsAtOnce = 8                // calls to providers at the same time
	oneErasureAt      = 10 * time.Second // of the request that erases: what is left is done by the job
)

// erasuresArgs does what erasures have left to do.
type erasuresArgs struct{}

// Kind names the job in River's table.
func (erasuresArgs) Kind() string { return "erasures" }

// InsertOpts keeps the job from the version before, which does not know it.
func (a erasuresArgs) InsertOpts() river.InsertOpts { return ownQueue(a) }

func (j *Jobs) runErasures(ctx context.Context, _ *river.Job[erasuresArgs]) error {
	end := time.Now().Add(erasuresFor)
	merchants, err := j.DB.UnfinishedErasures(ctx)
	for _, id := range merchants {
		err = errors.Join(err, j.finishErasure(ctx, id, end))
	}
	return err
}

// FinishErasure empties the events of an erased merchant, and asks its providers to end access, for about as long as a program waits for an
// answer. What is left is done by a job, every minute. The error is the database's.
func (j *Jobs) FinishErasure(ctx context.Context, merchant pg.ID) error {
	return j.finishErasure(context.WithoutCancel(ctx), merchant, time.Now().Add(oneErasureAt))
}

func (j *Jobs) finishErasure(ctx context.Context, merchant pg.ID, end time.Time) error {
	err := j.DB.EmptyEvents(ctx, merchant)
	for time.Now().Before(end) && j.life.Err() == nil {
		due, failed := j.DB.DueRevocations(ctx, merchant, revocationsAtOnce)
		err = errors.Join(err, failed)
		if len(due) == 0 {
			break
		}
		errs := make([]error, len(due))
		var group sync.WaitGroup
		for i, one := range due {
			group.Go(func() { errs[i] = j.revokeDue(ctx, one) })
		}
		group.Wait()
		err = errors.Join(append(errs, err)...)
	}
	return err
}

// revokeDue asks one provider, and notes how it took it.
func (j *Jobs) revokeDue(ctx context.Context, o db.DueRevocation) error {
	revoked, call, err := j.Revoke(ctx, o.Revocation)
	j.Log.InfoContext(ctx, "erased", "provider", o.Connection.Provider, "connection", o.Connection.ID, "revoked", revoked, "status", call.Status, "err", err)
	return errors.Join(err, j.DB.RecordDueRevocation(context.WithoutCancel(ctx), o, revoked, call))
}
