package pg_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
)

// where reads whether the server that was asked is a standby, and the newest row it has.
type where struct {
	standby bool
	newest  string
}

func readWhere(ctx context.Context, d *pg.DB) (where, error) {
	return pg.Read(ctx, d, func(ctx context.Context, q pg.Querier) (w where, err error) {
		return w, q.QueryRow(ctx, `SELECT pg_is_in_recovery(), coalesce((SELECT value FROM settings WHERE name = 'test'), '')`).Scan(&w.standby, &w.newest)
	})
}

// TestReadsFromAReplica takes a streaming standby through what may happen to it.
func TestReadsFromAReplica(t *testing.T) {
	t.Parallel()
	database, primary := dbtest.Own(t)
	standby := dbtest.Standby(t, primary)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var log strings.Builder
	clock := dbtest.NewClock(time.Now())
	d, err := pg.Open(ctx, database.URL, pg.Options{Clock: clock.Clock, Replica: standby.URL("patchbay"), Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	write := func(value string) {
		t.Helper()
		if _, err := d.Pool.Exec(ctx, `INSERT INTO settings (name, value) VALUES ('test', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, value); err != nil {
			t.Fatal(err)
		}
	}
	read := func(ctx context.Context) where {
		t.Helper()
		w, err := readWhere(ctx, d)
		if err != nil {
			t.Error(err)
		}
		return w
	}
	onStandby := func(sql string) {
		t.Helper()
		conn, err := pgx.Connect(ctx, standby.URL("patchbay"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	state := func(want pg.ReplicaState) func() bool {
		return func() bool { return d.ReplicaState() == want }
	}

	write("first")
	if got := read(pg.FromReplica(ctx)); got != (where{false, "first"}) {
		t.Errorf("before the first comparison: %v", got)
	}
	watched, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		d.WatchReplica(watched)
		close(ended)
	}()

	dbtest.Eventually(t, "a replica that is used", state(pg.ReplicaUsed))
	dbtest.Eventually(t, "what was written", func() bool { return read(pg.FromReplica(ctx)) == where{true, "first"} })
	if got := read(ctx); got.standby {
		t.Error("what did not ask for the replica was read from it")
	}

	t.Log("a statement that the replica breaks off, refuses or does not end")
	for name, fail := range map[string]string{"refused": `SELECT 1 / 0`, "broken off": `SELECT pg_terminate_backend(pg_backend_pid())`, "hanging": `SELECT pg_sleep(3600)`} {
		dbtest.Eventually(t, "a replica that is used", state(pg.ReplicaUsed))
		sticky := pg.FromReplica(ctx)
		calls := 0
		got, err := pg.Read(sticky, d, func(ctx context.Context, q pg.Querier) (w where, err error) {
			calls++
			if err := q.QueryRow(ctx, `SELECT pg_is_in_recovery()`).Scan(&w.standby); err != nil || !w.standby {
				return w, err
			}
			_, err = q.Exec(ctx, fail)
			return w, errors.Join(err, errors.New("done on the standby"))
		})
		if err != nil || got.standby || calls != 2 {
			t.Errorf("%s: %v, %v, %d calls", name, got, err, calls)
		}
		if got := read(sticky); got.standby {
			t.Errorf("%s: the same request went back to the replica", name)
		}
	}

	dbtest.Eventually(t, "a replica that is used", state(pg.ReplicaUsed))
	t.Log("behind by less than ten seconds")
	onStandby(`SELECT pg_wal_replay_pause()`)
	write("second")
	clock.Advance(pg.MaxLag - time.Second)
	if got := read(ctx); got != (where{false, "second"}) {
		t.Errorf("what was just written: %v", got)
	}
	if got := read(pg.FromReplica(ctx)); got != (where{true, "first"}) {
		t.Errorf("a list: %v", got)
	}

	t.Log("behind by more than ten seconds")
	if _, err := d.CompareReplica(ctx); err != nil { // a comparison after the write, and within what a replica may lag
		t.Error(err)
	}
	clock.Advance(2 * time.Second)
	if got := read(pg.FromReplica(ctx)); got != (where{false, "second"}) {
		t.Errorf("just behind: %v", got)
	}
	clock.Advance(pg.MaxLag - 3*time.Second)
	dbtest.Eventually(t, "a replica that lags", state(pg.ReplicaLags))
	if got := read(pg.FromReplica(ctx)); got != (where{false, "second"}) {
		t.Errorf("behind: %v", got)
	}
	onStandby(`SELECT pg_wal_replay_resume()`)
	dbtest.Eventually(t, "a replica that is used again", func() bool { return read(pg.FromReplica(ctx)) == where{true, "second"} })

	t.Log("stopped, and back")
	standby.Stop()
	for range 20 {
		if got := read(pg.FromReplica(ctx)); got != (where{false, "second"}) {
			t.Errorf("stopped: %v", got)
		}
	}
	dbtest.Eventually(t, "a replica that is away", state(pg.ReplicaUnreachable))
	if err := standby.Again(ctx); err != nil {
		t.Fatal(err)
	}
	dbtest.Eventually(t, "a replica that is used again", func() bool { return read(pg.FromReplica(ctx)) == where{true, "second"} })

	t.Log("promoted")
	onStandby(`SELECT pg_promote()`)
	onStandby(`UPDATE settings SET value = 'elsewhere' WHERE name = 'test'`)
	for range 20 {
		if got := read(pg.FromReplica(ctx)); got != (where{false, "second"}) {
			t.Errorf("promoted: %v", got)
		}
	}
	dbtest.Eventually(t, "a replica that is none", state(pg.ReplicaNotStandby))

	stop()
	dbtest.Receive(t, ended, "the end of watching")
	for _, says := range []string{"lists are read from the replica", "why=lagging", "why=away", "why=no-standby"} {
		if !strings.Contains(log.String(), says) {
			t.Errorf("the log lacks %q:\n%s", says, log.String())
		}
	}
}

// TestReplicasOfOthers: what is no standby of the primary's database is not read from, whatever is in it.
func TestReplicasOfOthers(t *testing.T) {
	t.Parallel()
	database := dbtest.Make(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, and nothing answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	for name, c := range map[string]struct {
		address string
		want    pg.ReplicaState
	}{
		"the primary itself":              {database.URL, pg.ReplicaNotStandby},
		"another database of the cluster": {dbtest.Make(t).URL, pg.ReplicaNotStandby},
		"a port where nothing listens":    {"postgres://patchbay@127.0.0.1:1/patchbay", pg.ReplicaUnreachable},
		"a server that says nothing":      {"postgres://patchbay@" + silent.Addr().String() + "/patchbay?sslmode=disable", pg.ReplicaUnreachable},
		"a database that is not there":    {strings.Replace(database.URL, "/patchbay", "/nowhere", 1) + "&dbname=nowhere", pg.ReplicaUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			d, err := pg.Open(ctx, database.URL, pg.Options{Replica: c.address})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if state, err := d.CompareReplica(ctx); state != c.want || err == nil {
				t.Errorf("%q, %v", state, err)
			}
			if got, err := readWhere(pg.FromReplica(ctx), d); err != nil || got.standby {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}
