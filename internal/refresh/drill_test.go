package refresh_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/localpg"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/restore"
	"patchbay/internal/status"
)

// letters keeps the mails that are enqueued; nothing else is.
type letters struct {
	all []notify.Mail
}

func (l *letters) EnqueueMail(_ context.Context, _ pgx.Tx, m notify.Mail) error {
	l.all = append(l.all, m)
	return nil
}

// drill is a platform whose database is backed up, goes on for an hour of rotating refreshes, and is brought back.
type drill struct {
	*testing.T
	database    dbtest.Database
	server      *localpg.Server // of the database alone; nil if the cluster is shared
	clock       *dbtest.Clock
	acme, cruel *partner // cruel ends a family on reuse, acme merely refuses
	db          *db.DB
	engine      *refresh.Engine
	users       []pg.ID // one of each merchant
	used        []pg.ID // connections: refreshed after the backup
	unused      []pg.ID // not refreshed after it
	post        letters
}

const drilled = 5 // merchants: four whose connections at both providers are used, and one with two that are not

func newDrill(t *testing.T, database dbtest.Database, server *localpg.Server) *drill {
	x := &drill{T: t, database: database, server: server, clock: dbtest.NewClock(time.Now()), acme: newPartner("acme"), cruel: newPartner("cruel")}
	x.acme.life, x.cruel.life, x.cruel.ends = time.Hour, time.Hour, true
	x.start()
	for i := range drilled {
		m := dbtest.Merchant(t, x.db, fmt.Sprint("Shop ", i))
		x.users = append(x.users, dbtest.User(t, x.db, audit.RoleMerchant, fmt.Sprintf("user%d@shop.example", i), "correct horse", m.Name).ID)
		for _, p := range []*partner{x.acme, x.cruel} {
			account, age := fmt.Sprint(p.info.Name, i), 40*time.Minute
			id := connect(t, x.db, p, account, age, &m)
			if i < drilled-1 {
				x.used = append(x.used, id)
			} else {
				x.unused = append(x.unused, id)
			}
		}
	}
	return x
}

// start opens the database and begins as serve does.
func (x *drill) start() {
	x.Helper()
	x.db = x.database.Open(x.T, pg.Options{Clock: x.clock.Clock, MaxConns: 8})
	x.engine = refresh.New(refresh.Options{DB: x.db, Connectors: []connectors.Connector{x.acme, x.cruel}, Log: slog.New(slog.NewTextHandler(x.Output(), nil))})
	x.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := x.engine.Stop(ctx); err != nil {
			x.Errorf("stop: %v", err)
		}
	})
	x.look()
}

// look is what a process does each minute.
func (x *drill) look() {
	x.Helper()
	_, err := x.engine.CheckRestore(x.Context())
	if err == nil {
		err = restore.RecordServing(x.Context(), x.db.DB)
	}
	if err != nil {
		x.Fatal(err)
	}
}

// work lets programs use the connections for some minutes.
func (x *drill) work(minutes int, connections ...pg.ID) {
	x.Helper()
	for range minutes {
		x.clock.Advance(time.Minute)
		x.look()
		x.use(connections...)
		if _, err := x.engine.Sweep(x.Context()); err != nil {
			x.Fatal(err)
		}
		if _, err := notify.EnqueueWarnings(x.Context(), x.db.DB, status.Providers{"acme": {SetUp: true, Environment: "sandbox"}, "cruel": {SetUp: true, Environment: "sandbox"}}, &x.post); err != nil {
			x.Fatal(err)
		}
	}
}

// use has a program ask for fresh tokens.
func (x *drill) use(connections ...pg.ID) {
	for _, id := range connections {
		_, _ = x.engine.Fresh(x.Context(), id, 30*time.Minute, audit.System) // how it ended is on the connection
	}
}

// anHour uses connections as programs do. The others are not due.
func (x *drill) anHour() {
	x.Helper()
	for range 4 {
		x.clock.Advance(15 * time.Minute)
		x.look()
		for _, id := range x.used {
			if _, err := x.engine.Fresh(x.Context(), id, 40*time.Minute, audit.System); err != nil {
				x.Fatal(err)
			}
		}
	}
	if len(x.post.all) > 0 {
		x.Fatalf("%d mails before anything was lost", len(x.post.all))
	}
}

func (x *drill) say() refresh.RestoreDeclaration {
	x.Helper()
	done, err := refresh.DeclareRestored(x.Context(), x.db, time.Time{})
	if err != nil {
		x.Fatal(err)
	}
	return done
}

// run runs one of Postgres's programs, or of the system's.
func (x *drill) run(name string, args ...string) {
	x.Helper()
	if out, err := exec.CommandContext(x.Context(), name, args...).CombinedOutput(); err != nil {
		x.Fatalf("%s: %v: %s", name, err, out)
	}
}

// dump writes a dump and returns its path.
func (x *drill) dump() string {
	x.Helper()
	path := filepath.Join(x.TempDir(), "patchbay.dump")
	x.run("pg_dump", "--format=custom", "--file="+path, x.database.URL)
	return path
}

// restore restores a dump into a new database of a cluster, and starts there.
func (x *drill) restore(path, cluster string) {
	x.Helper()
	x.db.Close()
	name := fmt.Sprint("restored_", time.Now().UnixNano())
	conn, err := pgx.Connect(x.Context(), cluster)
	if err != nil {
		x.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(x.Context(), `CREATE DATABASE `+name+` TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'`); err != nil {
		x.Fatal(err)
	}
	x.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), cluster)
		if err == nil {
			_, err = conn.Exec(context.Background(), `DROP DATABASE `+name+` WITH (FORCE)`)
			conn.Close(context.Background())
		}
		if err != nil {
			x.Error(err)
		}
	})
	u, err := url.Parse(cluster)
	if err != nil {
		x.Fatal(err)
	}
	u.Path = "/" + name
	x.database.URL = u.String()
	x.run("pg_restore", "--no-owner", "--exit-on-error", "--single-transaction", "--dbname="+x.database.URL, path)
}

// files is where the database's own cluster has its data.
func (x *drill) files() (path string) {
	x.Helper()
	if err := x.db.Pool.QueryRow(x.Context(), `SHOW data_directory`).Scan(&path); err != nil {
		x.Fatal(err)
	}
	return path
}

// stopped stops the cluster, does something with its files, and starts it again.
func (x *drill) stopped(do func()) {
	x.Helper()
	x.server.Stop()
	do()
	if err := x.server.Again(x.Context()); err != nil {
		x.Fatal(err)
	}
	x.db.Pool.Reset()
}

// holds checks what a restore must leave: what was not used goes on, what was lost is interrupted, and each merchant of it has one mail.
func (x *drill) holds(lost bool) {
	x.Helper()
	for _, id := range x.unused {
		if r, err := x.engine.Fresh(x.Context(), id, refresh.DefaultValidity, audit.System); err != nil || !r.ExpiresAt.After(x.clock.Now()) {
			x.Errorf("one that was not refreshed meanwhile: %v", err)
		}
	}
	for _, id := range x.used {
		r, err := x.db.ReadGrant(x.Context(), id)
		if err != nil {
			x.Fatal(err)
		}
		if want := map[bool]status.Problem{true: status.ProblemInterrupted}[lost]; r.Problem != want {
			x.Errorf("one that was refreshed meanwhile: problem %q, want %q", r.Problem, want)
		}
		if lost {
			if _, err := x.engine.Fresh(x.Context(), id, refresh.DefaultValidity, audit.System); err == nil {
				x.Error("a token is handed out that is not known to be good")
			}
		}
	}
	if open, err := x.engine.Incidents(x.Context()); err != nil || len(open) != 0 {
		x.Errorf("incidents: %+v, %v", open, err)
	}
	of := map[pg.ID][]notify.Mail{}
	for _, m := range x.post.all {
		of[m.User] = append(of[m.User], m)
	}
	for i, user := range x.users {
		want := 0
		if lost && i < drilled-1 {
			want = 1
		}
		if got := of[user]; len(got) != want || want == 1 && (got[0].Kind != notify.MailRestored || len(got[0].Connections) == 0) {
			x.Errorf("merchant %d: mails %+v, want %d", i, got, want)
		}
	}
}

// counts checks what staff are shown.
func (x *drill) counts(since, interrupted int) {
	x.Helper()
	last, err := restore.Last(x.Context(), x.db.Pool)
	if err != nil {
		x.Fatal(err)
	}
	n, err := restore.Count(x.Context(), x.db.Pool, last)
	if err != nil || int(n.All) != 2*drilled || int(n.Since) != since || int(n.Interrupted) != interrupted {
		x.Errorf("counts %+v, %v; want %d of %d since, %d interrupted", n, err, since, 2*drilled, interrupted)
	}
}

func TestADumpIsBroughtBackAfterAnHourOfRefreshes(t *testing.T) {
	for what, c := range map[string]struct {
		before, after bool // when the command is run: before the start, or while serving
		cluster       bool // into a new cluster
		idle          bool // nothing was refreshed in between
	}{
		"without the command":                      {},
		"with the command before the start":        {before: true},
		"with the command while serving":           {after: true},
		"with the command before and while":        {before: true, after: true},
		"into a new cluster":                       {cluster: true},
		"into a new cluster, with the command":     {cluster: true, before: true},
		"nothing was refreshed in between":         {idle: true},
		"nothing was refreshed, with the command":  {idle: true, before: true},
		"nothing was refreshed, and a new cluster": {idle: true, cluster: true},
	} {
		t.Run(what, func(t *testing.T) {
			x := newDrill(t, dbtest.Make(t), nil)
			cluster := x.database.URL
			path := x.dump()
			if !c.idle {
				x.anHour()
			}
			if c.cluster {
				_, server := dbtest.Own(t)
				cluster = server.URL("postgres")
			}
			x.restore(path, cluster)
			if c.before { // in a process of its own
				x.db = x.database.Open(t, pg.Options{Clock: x.clock.Clock, MaxConns: 2})
				if done := x.say(); !done.Changed {
					t.Error("the command changed nothing")
				}
				x.counts(0, 0)
				x.clock.Advance(10 * time.Minute)
			}
			x.start()
			x.work(1, x.used[0], x.used[4], x.unused[0])
			if c.after {
				if done := x.say(); done.Changed == c.before {
					t.Errorf("the command while serving: %+v", done)
				}
			}
			x.work(9, x.used[2:]...)
			x.work(9, append(x.unused, x.used...)...) // the one of whose merchant a mail has gone is met late
			lost := len(x.used)
			if c.idle {
				lost = 0
			}
			x.holds(!c.idle)
			x.counts(2*drilled-lost, lost)
			last, err := restore.Last(t.Context(), x.db.Pool)
			if err != nil || last.Declared != (c.before || c.after) || last.Suspected() || last.Lost() != (last.Declared || !c.idle) {
				t.Errorf("the mark: %+v, %v", last, err)
			}
			if done := x.say(); done.Changed == last.Declared {
				t.Errorf("once more: changed %t", done.Changed)
			}
			if n := dbtest.Events(t, x.db, status.DatabaseRestored); n != 1 {
				t.Errorf("noticed %d times", n)
			}
			if n := dbtest.Events(t, x.db, status.DatabaseBroughtBack); n != 1 {
				t.Errorf("said %d times", n)
			}
		})
	}
}

// A recovery to a point in time is of the same cluster, by its identifier, on another timeline.
func TestAPointInTimeIsBroughtBack(t *testing.T) {
	database, server := dbtest.Own(t)
	x := newDrill(t, database, server)
	files := x.files()
	archive := filepath.Join(filepath.Dir(files), "archive")
	for _, sql := range []string{`ALTER SYSTEM SET archive_mode = on`, `ALTER SYSTEM SET archive_command = 'mkdir -p ` + archive + ` && cp %p ` + archive + `/%f'`} {
		if _, err := x.db.Pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	x.stopped(func() { x.run("cp", "-a", files, files+".base") })
	if _, err := x.db.Pool.Exec(t.Context(), `SELECT pg_create_restore_point('before')`); err != nil {
		t.Fatal(err)
	}
	x.anHour()
	if _, err := x.db.Pool.Exec(t.Context(), `SELECT pg_switch_wal()`); err != nil {
		t.Fatal(err)
	}
	x.db.Close()
	x.stopped(func() {
		x.run("rm", "-rf", files)
		x.run("mv", files+".base", files)
		x.run("cp", "-a", filepath.Join(files, "PG_VERSION"), filepath.Join(files, "recovery.signal")) // as its owner
		conf, err := os.OpenFile(filepath.Join(files, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer conf.Close()
		if _, err := fmt.Fprintf(conf, "restore_command = 'cp %s/%%f %%p'\nrecovery_target_name = 'before'\nrecovery_target_action = 'promote'\n", archive); err != nil {
			t.Fatal(err)
		}
	})
	dbtest.Eventually(t, "the recovery ends", func() bool {
		conn, err := pgx.Connect(t.Context(), x.database.URL)
		if err != nil {
			return false
		}
		defer conn.Close(t.Context())
		var recovers bool
		return conn.QueryRow(t.Context(), `SELECT pg_is_in_recovery()`).Scan(&recovers) == nil && !recovers
	})
	x.start()
	x.work(20, slices.Concat(x.unused, x.used)...)
	x.holds(true)
	x.counts(2, len(x.used))
}

// Files of a cluster that are put back while nothing serves are as after a crash. Staff are shown what that may be, and the command
// puts right what was done meanwhile.
func TestFilesThatArePutBackAreSuspectedUntilTheCommandIsRun(t *testing.T) {
	database, server := dbtest.Own(t)
	x := newDrill(t, database, server)
	files := x.files()
	x.stopped(func() { x.run("cp", "-a", files, files+".copy") })
	x.anHour()
	x.db.Close()
	x.stopped(func() {
		x.run("rm", "-rf", files)
		x.run("mv", files+".copy", files)
	})
	x.start()
	x.use(x.used...) // and nothing else: the sweep's probe, of one that works, may end an incident at once
	last, err := restore.Last(t.Context(), x.db.Pool)
	if err != nil || !last.Suspected() || !last.At.IsZero() {
		t.Fatalf("the pause: %+v, %v", last, err)
	}
	if n, err := restore.RejectedAfterPause(t.Context(), x.db.Pool, last); err != nil || n == 0 {
		t.Errorf("%d connections that a restore would explain, %v", n, err)
	}
	if open, err := x.engine.Incidents(t.Context()); err != nil || len(open) == 0 {
		t.Errorf("no incident: %v", err)
	}
	if done := x.say(); !done.Changed || done.Ended == 0 || !done.At.Equal(last.PauseUntil) {
		t.Errorf("the command: %+v", done)
	}
	x.work(20, slices.Concat(x.unused, x.used)...)
	x.holds(true)
	x.counts(2, len(x.used))
	if done := x.say(); done.Changed {
		t.Errorf("once more: %+v", done)
	}
}
