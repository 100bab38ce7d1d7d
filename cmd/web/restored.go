package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"patchbay/internal/db"
	"patchbay/internal/refresh"
	"patchbay/internal/restore"
)

// restored marks the database as brought back from a backup, before a process serves or while some do.
func restored(ctx context.Context, t terminal, args []string) error {
	f := t.flags("restored", "[-at TIME]")
	when := f.String("at", "", "when it was brought back, as `TIME` like 2026-05-01T09:30:00Z; without it: when that was noticed, else when a pause in which nothing served ended, else now")
	if err := parse(f, args); err != nil {
		return err
	}
	var at time.Time
	if *when != "" {
		var err error
		if at, err = time.Parse(time.RFC3339, *when); err != nil {
			return misused(f, "-at wants a time like 2026-05-01T09:30:00Z")
		}
	}
	d, err := openDatabase(ctx, t.environ)
	if err != nil {
		return err
	}
	defer d.Close()
	if now := d.Now(); at.After(now) {
		return fmt.Errorf("-at is in the future: the database's clock says %s", now.UTC().Format(time.RFC3339))
	}
	done, err := refresh.DeclareRestored(ctx, d, at)
	if err != nil {
		return err
	}
	if done.Changed {
		fmt.Fprintf(t.out, "this database is marked as brought back on %s\n", done.At.UTC().Format(time.RFC3339))
	} else {
		fmt.Fprintf(t.out, "this database was marked as brought back on %s before: nothing is changed\n", done.At.UTC().Format(time.RFC3339))
	}
	if done.Repaired > 0 {
		fmt.Fprintf(t.out, "%d connections that were taken for rejected are interrupted by the restore\n", done.Repaired)
	}
	if done.Ended > 0 {
		fmt.Fprintf(t.out, "%d incidents that the restore explains are ended\n", done.Ended)
	}
	return sayRestore(ctx, t.out, d, done.State)
}

// sayRestore prints what a restore means for the connections.
func sayRestore(ctx context.Context, out io.Writer, d *db.DB, r restore.State) error {
	n, err := restore.Count(ctx, d.Pool, r)
	if err != nil {
		return err
	}
	if !r.AsOf.IsZero() {
		fmt.Fprintf(out, "it knows what happened until %s\n", r.AsOf.UTC().Format(time.RFC3339))
	}
	fmt.Fprintf(out, "%d of %d connections have been refreshed since\n", n.Since, n.All)
	fmt.Fprintf(out, "%d were due before it and have not been refreshed since: where the state that is lost refreshed them, a provider that rotates refresh tokens rejects them\n", n.Due)
	fmt.Fprintf(out, "%d have been rejected since: their merchants get one mail and reconnect\n", n.Interrupted)
	return nil
}
