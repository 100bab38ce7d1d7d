package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/db/dbtest"
	"patchbay/internal/sandbox"
)

// TestPatchbayWorksThroughPoolers serves twice through a pgbouncer, in session mode and in transaction mode with far fewer sessions than
// connections: merchants connect, tokens that last ten seconds are read and refreshed under load, jobs run,
// and no refresh token is sent twice.
func TestPatchbayWorksThroughPoolers(t *testing.T) {
	for mode, c := range map[string]struct {
		sessions int
		query    string
	}{
		"session":     {60, ""},
		"transaction": {4, "&default_query_exec_mode=cache_describe"},
	} {
		t.Run(mode, func(t *testing.T) {
			database, environ := operator(t)
			through := database.Pool(t, mode, c.sessions)
			addresses, provider, environ := twoAddresses(t, append(environ, "DATABASE_URL="+through.URL+c.query, "MIGRATE_DATABASE_URL="+database.URL))
			if code, out, faults := said(t, environ, "", "migrate"); code != 0 {
				t.Fatalf("%s%s", out, faults)
			}
			const email, password = "sok@shop.example", "correct horse battery"
			if code, _, faults := said(t, environ, password, "user", "add", "-email", email, "-role", "merchant", "-merchant", "CH168 Shop"); code != 0 {
				t.Fatal(faults)
			}
			_, made, _ := said(t, environ, "", "apikey", "add", "-name", "worker")
			lines := strings.Split(strings.TrimSpace(made), "\n")
			key := lines[len(lines)-1]

			var stops []func() int
			var programs []*program
			users := sandbox.SampleUsers()
			for n, address := range addresses {
				_, stop := startServe(t, append(environ[:len(environ):len(environ)], "LISTEN="+address, "PUBLIC_URL=http://"+address), "-migrate=false")
				stops = append(stops, stop)
				programs = append(programs, &program{http.Client{Timeout: 30 * time.Second}, "http://" + address, key})
				v := newVisitor(t, "http://"+address, provider.BaseURL())
				v.signIn(email, password)
				for _, user := range users[2*n : min(2*n+2, len(users))] {
					v.connect(user.Sub)
				}
			}
			ids, err := programs[0].connections()
			if err != nil || len(ids) != len(users) {
				t.Fatalf("%d connections, want %d; %v", len(ids), len(users), err)
			}

			l := newLoad(t)
			for n := range 16 {
				method, path := http.MethodGet, "/token"
				if n < 2 {
					method, path = http.MethodPost, "/refresh"
				}
				l.add(5*time.Millisecond, func(i int) string {
					status, err := programs[n%2].ask(method, "/api/v1/connections/"+ids[(n+i)%len(ids)]+path, nil)
					return fmt.Sprintf("%s %s: %d, %v", method, path, status, err)
				})
			}
			l.await("GET /token: 200, <nil>", 1000)
			l.await("POST /refresh: 200, <nil>", 20)
			l.stop()
			for answer, times := range l.answers {
				if !strings.HasSuffix(answer, ": 200, <nil>") && !strings.HasSuffix(answer, "/refresh: 429, <nil>") {
					t.Errorf("%s, %d times", answer, times)
				}
			}
			conn, err := pgx.Connect(t.Context(), database.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			count := func(sql string) (n int) {
				t.Helper()
				if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
					t.Fatal(err)
				}
				return n
			}
			if n := count(`SELECT count(*) FROM connections WHERE problem <> '' OR failing_since IS NOT NULL`); n > 0 {
				t.Errorf("%d connections are in trouble", n)
			}
			dbtest.Eventually(t, "jobs to be done", func() bool {
				return count(`SELECT count(DISTINCT kind) FROM river_job WHERE state = 'completed'`) > 3
			})
			if n := count(`SELECT count(*) FROM river_job WHERE errors IS NOT NULL`); n > 0 {
				t.Errorf("%d jobs failed", n)
			}
			if _, out, _ := said(t, environ, "", "doctor"); strings.Contains(out, "WRONG  pooler") || strings.Contains(out, "WRONG  saving") {
				t.Errorf("the doctor:\n%s", out)
			}
			for n, stop := range stops {
				if code := stop(); code != 0 {
					t.Errorf("process %d stopped with %d", n, code)
				}
			}
			if twice := provider.DoubleSpends(); len(twice) > 0 {
				t.Errorf("spent twice: %v", twice)
			}
			if log := through.Log(t); strings.Contains(log, " WARNING ") || strings.Contains(log, " ERROR ") {
				t.Errorf("the pooler complains:\n%s", log)
			}
		})
	}
}

// TestPoolersThatLoseStatements runs the doctor, serve and a command through poolers and modes that do not go together. All say so before
// anything is sent to a provider, on an idle pooler, where each connection gets the same session again and nothing would fail yet, and on a busy one.
func TestPoolersThatLoseStatements(t *testing.T) {
	const lost, migrates = "add default_query_exec_mode=cache_describe to the address of DATABASE_URL", "give MIGRATE_DATABASE_URL without the pooler"
	for name, c := range map[string]struct {
		mode, query   string
		doctor, serve string // what each says; "" for nothing wrong
	}{
		"transactions, statements that are kept": {"transaction", "", lost, lost},
		"transactions, the unnamed statement":    {"transaction", "&default_query_exec_mode=describe_exec", lost, lost},
		"single statements":                      {"statement", "&default_query_exec_mode=cache_describe", "Set its pool_mode to session or transaction", "Set its pool_mode to session or transaction"},
		"transactions, one round trip":           {"transaction", "&default_query_exec_mode=cache_describe", "", ""},
		"sessions, the unnamed statement":        {"session", "&default_query_exec_mode=describe_exec", "", ""},
		"sessions, statements that are kept":     {"session", "", "", ""},
		"sessions, one round trip":               {"session", "&default_query_exec_mode=cache_describe", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database, environ := operator(t)
			p := database.Pool(t, c.mode, 40)
			environ = append(environ, "DATABASE_URL="+p.URL+c.query, "LISTEN=127.0.0.1:0")
			for _, busy := range []bool{false, true} {
				if busy {
					defer keepBusy(t, p.URL)()
				}
				if _, out, _ := said(t, environ, "", "doctor"); strings.Contains(out, "WRONG  pooler") != (c.doctor != "") || !strings.Contains(out, c.doctor) {
					t.Errorf("the doctor, busy %v, says not %q:\n%s", busy, c.doctor, out)
				}
				if c.serve == "" && !busy {
					continue
				}
				if c.serve == "" {
					_, stop := startServe(t, environ)
					if code := stop(); code != 0 {
						t.Errorf("serve, busy %v, stopped with %d", busy, code)
					}
					continue
				}
				for range 3 { // by chance both connections could have sessions of their own
					if code, _, faults := said(t, environ, "", "serve"); code != 1 || !strings.Contains(faults, c.serve) {
						t.Errorf("serve, busy %v: code %d: %s", busy, code, faults)
					}
				}
			}
		})
	}
	t.Run("migrations", func(t *testing.T) {
		t.Parallel()
		database, environ := operator(t)
		execSQL(t, database.URL, `DROP SCHEMA public CASCADE`, `CREATE SCHEMA public`)
		p := database.Pool(t, "transaction", 40)
		environ = append(environ, "DATABASE_URL="+p.URL+"&default_query_exec_mode=cache_describe")
		for _, command := range []string{"migrate", "serve"} {
			if code, _, faults := said(t, append(environ, "LISTEN=127.0.0.1:0"), "", command); code != 1 || !strings.Contains(faults, migrates) {
				t.Errorf("%s: code %d: %s", command, code, faults)
			}
		}
		if _, out, _ := said(t, append(environ, "MIGRATE_DATABASE_URL="+p.URL), "", "doctor"); !strings.Contains(out, "WRONG  pooler") || !strings.Contains(out, migrates) {
			t.Errorf("the doctor:\n%s", out)
		}
		if code, _, faults := said(t, append(environ, "MIGRATE_DATABASE_URL="+database.URL), "", "migrate"); code != 0 {
			t.Error(faults)
		}
		if code, _, faults := said(t, environ, "correct horse battery", "user", "add", "-email", "sok@shop.example", "-role", "admin"); code != 0 {
			t.Errorf("a command with nothing to migrate: %s", faults)
		}
	})
}

// keepBusy has connections ask for one thing after the other, until it is stopped.
func keepBusy(t *testing.T, address string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			conn, err := pgx.Connect(ctx, address)
			for err == nil {
				_, err = conn.Exec(ctx, `SELECT pg_sleep(0.002)`)
			}
			if conn != nil {
				conn.Close(context.Background())
			}
			if !errors.Is(err, context.Canceled) && ctx.Err() == nil {
				t.Errorf("the load: %v", err)
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// TestAReplicaThroughAPooler reads lists from a standby behind a pooler, and has the doctor say where statements get lost on the way.
func TestAReplicaThroughAPooler(t *testing.T) {
	database, primary := dbtest.Own(t)
	p := dbtest.Database{URL: dbtest.Standby(t, primary).URL("patchbay")}.Pool(t, "transaction", 4)
	_, environ := operator(t)
	environ = append(environ, "KEYSET="+database.Keyset, "DATABASE_URL="+database.URL)
	const works = "&default_query_exec_mode=cache_describe"
	for query, says := range map[string]string{"": "WRONG  replica", works: "ok     replica"} {
		if _, out, _ := said(t, append(environ, "READ_DATABASE_URL="+p.URL+query), "", "doctor"); !strings.Contains(out, says) {
			t.Errorf("with %q, not %q:\n%s", query, says, out)
		}
	}
	d := &drill{T: t}
	d.address, d.stop = startServe(t, append(environ, "READ_DATABASE_URL="+p.URL+works))
	d.says(`patchbay_replica_used{state="used"}`)
	if code := d.stop(); code != 0 {
		t.Errorf("stopped with %d", code)
	}
}
