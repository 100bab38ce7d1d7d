package jobs

import (
	"context"

	"github.com/riverqueue/river"

	"patchbay/internal/connectors"
	"patchbay/internal/notify"
)

// warningsArgs looks for warnings that are due.
type warningsArgs struct{}

// Kind names the job in River's table.
func (warningsArgs) Kind() string { return "warnings" }

// runWarnings enqueues the mails that are due.
func (j *Jobs) runWarnings(ctx context.Context, _ *river.Job[warningsArgs]) error {
	if !j.SendsMail() {
		return nil
	}
	providers := connectors.Statuses(j.Providers)
	if _, err := notify.EnqueueWarnings(ctx, j.DB.DB, providers, j); err != nil {
		return err
	}
	_, err := notify.EnqueueNotices(ctx, j.DB.DB, providers, j)
	return err
}
