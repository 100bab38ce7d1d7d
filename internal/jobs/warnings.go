package jobs

import (
	"context"

	"github.com/riverqueue/river"

	"patchbay/internal/connectors"
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
	_, err := j.DB.EnqueueWarnings(ctx, connectors.Statuses(j.Providers), j)
	return err
}
