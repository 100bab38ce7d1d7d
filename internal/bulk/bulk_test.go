package bulk_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/bulk"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/sample"
	"patchbay/internal/search"
	"patchbay/internal/status"
)

// "Retry all that failed in yesterday's outage": each connection once, however often it failed, whatever became of it since,
// and nothing that has been disconnected, failed on another day or in another way.
func TestABulkOfYesterdaysFailures(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	ctx := context.Background()
	if err := sample.Fill(ctx, d, sample.Scale{Connections: 60, Merchants: 3}); err != nil {
		t.Fatal(err)
	}
	staff := dbtest.User(t, d, audit.RoleSupport, "lin@platform.example", "", "")
	var ids []pg.ID
	rows, err := d.Pool.Query(ctx, `SELECT id FROM connections WHERE provider = 'caminvoice' AND disconnected_at IS NULL ORDER BY id LIMIT 5`)
	if err != nil {
		t.Fatal(err)
	}
	if ids, err = pgx.CollectRows(rows, pgx.RowTo[pg.ID]); err != nil || len(ids) != 5 {
		t.Fatal(len(ids), err)
	}
	noon := d.Now().Truncate(24 * time.Hour).Add(-12 * time.Hour)
	for i, one := range []audit.Event{
		{ConnectionID: ids[0], Outcome: status.Temporary, At: noon},
		{ConnectionID: ids[0], Outcome: status.Temporary, At: noon.Add(time.Hour)},
		{ConnectionID: ids[0], Outcome: status.OK, At: noon.Add(2 * time.Hour)},
		{ConnectionID: ids[1], Outcome: status.Temporary, At: noon.Add(11 * time.Hour)},
		{ConnectionID: ids[2], Outcome: status.Temporary, At: noon.Add(-24 * time.Hour)},
		{ConnectionID: ids[3], Outcome: status.Rejected, At: noon},
		{ConnectionID: ids[4], Outcome: status.Temporary, At: noon},
	} {
		one.Kind, one.Provider = status.KindOfFailure(one.Outcome), "caminvoice"
		if err := d.Audit.Record(ctx, one); err != nil {
			t.Fatal(i, err)
		}
	}
	if _, err := d.Pool.Exec(ctx, `UPDATE connections SET disconnected_at = now() WHERE id = $1`, ids[4]); err != nil {
		t.Fatal(err)
	}
	day := noon.Truncate(24 * time.Hour)
	asked := audit.Filter{Kind: audit.Refreshes, Outcome: status.Temporary, Provider: "caminvoice", From: day, To: day.AddDate(0, 0, 1)}
	id, err := bulk.Add(ctx, d, audit.Actor{Role: audit.RoleSupport, ID: staff.ID}, bulk.Refresh, bulk.Filter{Events: &asked}, "")
	if err != nil {
		t.Fatal(err)
	}
	for complete := false; !complete; {
		if complete, err = bulk.Gather(ctx, d, id, nil, 2); err != nil {
			t.Fatal(err)
		}
	}
	rows, err = d.Pool.Query(ctx, `SELECT connection_id FROM bulk_items WHERE bulk_id = $1 ORDER BY 1`, id)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := pgx.CollectRows(rows, pgx.RowTo[pg.ID]); err != nil || !slices.Equal(got, ids[:2]) {
		t.Errorf("gathered %v, %v; want %v", got, err, ids[:2])
	}
}

func TestBulksGatherOnceAndMoveInOrder(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	ctx := context.Background()
	if err := sample.Fill(ctx, d, sample.Scale{Connections: 1500, Merchants: 20}); err != nil {
		t.Fatal(err)
	}
	staff := dbtest.User(t, d, audit.RoleSupport, "lin@platform.example", "", "")
	by := audit.Actor{Role: audit.RoleSupport, ID: staff.ID}
	f := search.Filter{Provider: "caminvoice"}
	id, err := bulk.Add(ctx, d, by, bulk.Refresh, bulk.Filter{Connections: &f}, "")
	if err != nil {
		t.Fatal(err)
	}
	steps := 0
	for complete := false; !complete; steps++ {
		if complete, err = bulk.Gather(ctx, d, id, nil, 200); err != nil {
			t.Fatal(err)
		}
	}
	var live int64
	if err := d.Pool.QueryRow(ctx, `SELECT count(*) FROM connections WHERE provider = 'caminvoice' AND disconnected_at IS NULL`).Scan(&live); err != nil {
		t.Fatal(err)
	}
	b, err := bulk.Read(ctx, d, id)
	if err != nil || b.Total != live || b.State != bulk.DryRun || steps < 3 {
		t.Fatalf("%d of %d gathered in %d steps, %s, %v", b.Total, live, steps, b.State, err)
	}
	if err := bulk.Stop(ctx, d, by, b); !errors.Is(err, bulk.ErrState) {
		t.Errorf("a dry run was stopped: %v", err)
	}
	if waiting, err := bulk.Waiting(ctx, d, id, "caminvoice", 5); err != nil || len(waiting) != 0 {
		t.Errorf("a dry run has work: %d, %v", len(waiting), err)
	}
	var jobs notedJobs
	if err := bulk.Start(ctx, d, by, b, &jobs); err != nil {
		t.Fatal(err)
	}
	if err := bulk.Start(ctx, d, by, b, &jobs); !errors.Is(err, bulk.ErrState) || !slices.Equal(jobs.bulks, []pg.ID{id}) {
		t.Errorf("started twice: %v, %d jobs", err, len(jobs.bulks))
	}
	one, other := pg.NewID(), pg.NewID()
	if ours, err := bulk.Lease(ctx, d, id, one, time.Minute); err != nil || !ours {
		t.Fatalf("carry: %v, %v", ours, err)
	}
	if theirs, err := bulk.Lease(ctx, d, id, other, time.Minute); err != nil || theirs {
		t.Errorf("carried by two: %v, %v", theirs, err)
	}
	if again, err := bulk.Lease(ctx, d, id, one, -time.Minute); err != nil || !again {
		t.Errorf("renew: %v, %v", again, err)
	}
	if abandoned, err := bulk.ListAbandoned(ctx, d); err != nil || !slices.Equal(abandoned, []bulk.Abandoned{{ID: id, Kind: bulk.Refresh}}) {
		t.Errorf("abandoned: %v, %v", abandoned, err)
	}
	waiting, err := bulk.Waiting(ctx, d, id, "caminvoice", 5)
	if err != nil || len(waiting) != 5 {
		t.Fatalf("%d wait, %v", len(waiting), err)
	}
	if err := bulk.RecordOutcome(ctx, d.Pool, id, waiting[0], "ok", d.Now()); err != nil {
		t.Fatal(err)
	}
	if err := bulk.RecordOutcome(ctx, d.Pool, id, waiting[0], "refused", d.Now()); err != nil {
		t.Fatal(err)
	}
	if err := bulk.Stop(ctx, d, by, b); err != nil {
		t.Fatal(err)
	}
	if err := bulk.End(ctx, d, id); err != nil {
		t.Fatal(err)
	}
	if b, err = bulk.Read(ctx, d, id); err != nil || b.State != bulk.Stopped || b.Outcomes["ok"] != 1 || b.Done != 1 || b.EndedAt.IsZero() || b.ByName == "" {
		t.Errorf("in the end: %+v, %v", b, err)
	}
	if page, err := d.Connections(ctx, search.Filter{Bulk: id, Outcome: "ok"}, nil, "", 10); err != nil || len(page.Rows) != 1 || page.Rows[0].ID != waiting[0] {
		t.Errorf("what ended well: %d, %v", len(page.Rows), err)
	}
}

// notedJobs notes the bulks that are to be worked on.
type notedJobs struct{ bulks []pg.ID }

func (j *notedJobs) EnqueueBulk(_ context.Context, _ pgx.Tx, bulk pg.ID, _ bulk.Kind) error {
	j.bulks = append(j.bulks, bulk)
	return nil
}
