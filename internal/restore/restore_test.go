package restore_test

import (
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/restore"
	"patchbay/internal/status"
)

func TestARestoredDatabaseIsNoticedOnce(t *testing.T) {
	const setting = `WHERE name = 'database.identity'`
	for what, c := range map[string]struct {
		sql     string
		noticed bool
	}{
		"nothing happened":                        {`SELECT 1`, false},
		"a dump restored into the same database":  {`CREATE TEMP TABLE dump AS SELECT * FROM settings; DELETE FROM settings; INSERT INTO settings SELECT * FROM dump`, true},
		"a dump restored over it":                 {`CREATE TEMP TABLE dump AS SELECT * FROM settings; TRUNCATE settings; INSERT INTO settings SELECT * FROM dump`, true},
		"another cluster":                         {`UPDATE settings SET value = '1' || value ` + setting, true},
		"another timeline":                        {`UPDATE settings SET value = replace(value, '/1 ', '/2 ') ` + setting, true},
		"the table was rewritten":                 {`CLUSTER settings USING settings_pkey; ALTER TABLE settings ALTER name TYPE varchar; ALTER TABLE settings ALTER name TYPE text`, false},
		"written by a program of before":          {`UPDATE settings SET value = split_part(value, ' ', 1) ` + setting, false},
		"many transactions, and another setting":  {`INSERT INTO settings VALUES ('x', '1'); UPDATE settings SET value = '2' WHERE name = 'x'`, false},
		"of before, and elsewhere":                {`UPDATE settings SET value = '1' || split_part(value, ' ', 1) ` + setting, true},
		"the setting is missing: the first start": {`DELETE FROM settings ` + setting, false},
	} {
		t.Run(what, func(t *testing.T) {
			d := dbtest.New(t, pg.Options{MaxConns: 4})
			watch := restore.NewWatch(d.DB, d.Audit)
			look := func() (time.Time, bool) {
				t.Helper()
				last, first, err := watch.Check(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return last.At, first
			}
			for range 2 {
				if at, first := look(); first || !at.IsZero() {
					t.Fatalf("noticed in a new database: %v", at)
				}
			}
			if _, err := d.Pool.Exec(t.Context(), c.sql); err != nil {
				t.Fatal(err)
			}
			at, first := look()
			if first != c.noticed || at.IsZero() == c.noticed {
				t.Errorf("noticed %t at %v, want %t", first, at, c.noticed)
			}
			if again, first := look(); first || !again.Equal(at) {
				t.Errorf("looked again: noticed %t at %v, before at %v", first, again, at)
			}
			if n := dbtest.Events(t, d, status.DatabaseRestored); n != map[bool]int{true: 1}[c.noticed] {
				t.Errorf("%d events", n)
			}
		})
	}
}

func TestOfManyProcessesOneNoticesARestore(t *testing.T) {
	base := dbtest.Make(t)
	d := base.Open(t, pg.Options{MaxConns: 4})
	var all []*restore.Watch
	for range 4 {
		d := base.Open(t, pg.Options{MaxConns: 4})
		watch := restore.NewWatch(d.DB, d.Audit)
		if _, _, err := watch.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		all = append(all, watch)
	}
	if _, err := d.Pool.Exec(t.Context(), `UPDATE settings SET value = '1' || value WHERE name = 'database.identity'`); err != nil {
		t.Fatal(err)
	}
	var firsts atomic.Int32
	var looking sync.WaitGroup
	for _, watch := range all {
		looking.Go(func() {
			last, first, err := watch.Check(t.Context())
			if first {
				firsts.Add(1)
			}
			if err != nil || last.At.IsZero() {
				t.Errorf("at %v, %v", last.At, err)
			}
		})
	}
	dbtest.Wait(t, &looking, "the looks")
	if n := firsts.Load(); n != 1 {
		t.Errorf("%d processes were the first", n)
	}
}

// A cluster whose files are put back is the same by every name it has: only a process that has seen it further on can tell.
func TestFilesThatWerePutBackAreNoticedByAProcessThatWentOn(t *testing.T) {
	base, server := dbtest.Own(t)
	d := base.Open(t, pg.Options{MaxConns: 4})
	watch := restore.NewWatch(d.DB, d.Audit)
	look := func() bool {
		t.Helper()
		_, first, err := watch.Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return first
	}
	var files string
	if err := d.Pool.QueryRow(t.Context(), `SHOW data_directory`).Scan(&files); err != nil {
		t.Fatal(err)
	}
	look()
	server.Stop()
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
	}
	start := func() {
		t.Helper()
		if err := server.Again(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.Pool.Reset()
	}
	run("cp", "-a", files, files+".copy")
	start()
	for range 50 {
		if _, err := d.Pool.Exec(t.Context(), `INSERT INTO settings VALUES ('x', '1') ON CONFLICT (name) DO UPDATE SET value = settings.value || '1'`); err != nil {
			t.Fatal(err)
		}
	}
	if look() {
		t.Error("noticed though nothing was put back")
	}
	server.Stop()
	run("rm", "-rf", files)
	run("mv", files+".copy", files)
	start()
	if !look() {
		t.Error("not noticed")
	}
	if look() {
		t.Error("noticed twice")
	}
}

func TestAPauseInWhichNothingServedIsNoted(t *testing.T) {
	clock := dbtest.NewClock(time.Now())
	d := dbtest.New(t, pg.Options{Clock: clock.Clock, MaxConns: 2})
	for _, c := range []struct {
		after time.Duration
		noted bool
	}{
		{0, false},
		{time.Minute, false},
		{2 * time.Minute, false},
		{-time.Hour, false}, // its clock was put right
		{time.Minute, false},
		{4 * time.Minute, true},
		{9 * time.Hour, true},
	} {
		before := clock.Now()
		was, err := restore.Last(t.Context(), d.Pool)
		if err != nil {
			t.Fatal(err)
		}
		clock.Advance(c.after)
		for range 2 {
			if err := restore.RecordServing(t.Context(), d.DB); err != nil {
				t.Fatal(err)
			}
		}
		last, err := restore.Last(t.Context(), d.Pool)
		if err != nil || last.PauseUntil.Equal(was.PauseUntil) == c.noted {
			t.Errorf("after %s: %+v, %v", c.after, last, err)
		}
		if c.noted && (last.PauseFrom.Sub(before).Abs() > time.Second || last.PauseUntil.Sub(clock.Now()).Abs() > time.Second || !last.Suspected()) {
			t.Errorf("after %s: from %s until %s", c.after, last.PauseFrom, last.PauseUntil)
		}
	}
}

// TestManyWhoLookAtOnceNoticeNoRestore: the answers of Postgres may come in another order than they were made in.
func TestManyWhoLookAtOnceNoticeNoRestore(t *testing.T) {
	d := dbtest.New(t, pg.Options{MaxConns: 16})
	watch := restore.NewWatch(d.DB, d.Audit)
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			for range 200 {
				if _, err := d.Pool.Exec(t.Context(), `SELECT pg_current_xact_id()`); err != nil {
					t.Error(err)
					return
				}
				if last, first, err := watch.Check(t.Context()); err != nil || first || !last.At.IsZero() {
					t.Errorf("noticed at %v, %v", last.At, err)
					return
				}
			}
		})
	}
	dbtest.Wait(t, &all, "the callers")
}
