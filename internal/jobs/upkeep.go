package jobs

import (
	"context"
	"errors"
	"time"

	"github.com/riverqueue/river"
)

// upkeepArgs deletes what is old and brings counts up to date.
type upkeepArgs struct{}

// Kind names the job in River's table.
func (upkeepArgs) Kind() string { return "upkeep" }

// runUpkeep does every chore, even when one fails.
func (j *Jobs) runUpkeep(ctx context.Context, _ *river.Job[upkeepArgs]) error {
	began := time.Now()
	d := j.DB
	keep, err := d.Audit.Retention(ctx)
	if err != nil {
		return err
	}
	dropped, err := d.Audit.DropMonths(ctx, keep)
	if dropped > 0 {
		j.Log.InfoContext(ctx, "old events dropped", "months", dropped)
	}
	_, lapsing := d.ExpireFlows(ctx)
	err = errors.Join(err, lapsing, d.FoldCounts(ctx), d.Audit.MakeMonths(ctx), d.DropOld(ctx), d.PurgeSearchWords(ctx), j.Accounts.DropExpired(ctx), j.Refresh.DropOld(ctx), j.dropUnconfirmed(ctx))
	j.Log.DebugContext(ctx, "upkeep", "ms", time.Since(began).Milliseconds())
	return err
}

// resealArgs seals anew what older keys have sealed.
type resealArgs struct {
	Key uint32 `json:"key"` // seals in the process that adds the job, which thus does not wait for another keyset's minute to end
}

// Kind names the job in River's table.
func (resealArgs) Kind() string { return "reseal" }

// InsertOpts keeps the job from the version before, which does not know it.
func (a resealArgs) InsertOpts() river.InsertOpts { return ownQueue(a) }

const (
	resealFor   = time.Minute           // then the next run goes on
	resealPause = 50 * time.Millisecond // between batches, so that serving does not feel it
)

func (j *Jobs) runReseal(ctx context.Context, _ *river.Job[resealArgs]) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(j.life, stop)()
	done, left, err := j.DB.ResealOlder(ctx, resealFor, resealPause)
	if done > 0 {
		j.Log.InfoContext(ctx, "sealed anew", "rows", done, "left", left)
	}
	if j.life.Err() != nil { // another process goes on
		return nil
	}
	return err
}
