package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
)

func execSQL(t *testing.T, address string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, statement := range statements {
		if _, err := conn.Exec(context.Background(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// emptyDatabase makes a database without a schema and a role that owns nothing, and returns the superuser's address and the role.
func emptyDatabase(t *testing.T) (address, role string) {
	t.Helper()
	admin := dbtest.Make(t).URL
	name := "empty_" + strings.ToLower(rand.Text())
	role = "role_" + name
	execSQL(t, admin, `CREATE DATABASE `+name+` ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0`, `CREATE ROLE `+role+` LOGIN PASSWORD 'p@ss/word'`)
	t.Cleanup(func() { execSQL(t, admin, `DROP DATABASE `+name+` WITH (FORCE)`, `DROP ROLE `+role) })
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String(), role
}

// TestDatabasesAsTheyAreMet runs migrate, doctor and serve in surroundings in which the schema cannot be made at first (unstract#1705,
// hindsight#2270, golang-migrate#826): all say what was found and how to mend it, and what they say mends it.
func TestDatabasesAsTheyAreMet(t *testing.T) {
	for name, c := range map[string]struct {
		prepare []string // as a superuser; ROLE stands for the role, DATABASE for the database
		asRole  bool     // DATABASE_URL is the role's
		query   string   // of DATABASE_URL
		says    string
		mend    []string // as a superuser
		mended  string   // the query that mends it
	}{
		"pg_trgm in another schema": {
			prepare: []string{`CREATE SCHEMA extensions`, `CREATE EXTENSION pg_trgm SCHEMA extensions`},
			says:    "add search_path=public,extensions to DATABASE_URL", mended: "search_path=public,extensions",
		},
		"pg_trgm in another schema, and moved": {
			prepare: []string{`CREATE SCHEMA extensions`, `CREATE EXTENSION pg_trgm SCHEMA extensions`},
			says:    "ALTER EXTENSION pg_trgm SET SCHEMA public", mend: []string{`ALTER EXTENSION pg_trgm SET SCHEMA public`},
		},
		"another schema first": {
			prepare: []string{`CREATE SCHEMA patchbay`}, query: "search_path=patchbay,public",
			says: `search_path begins with "patchbay"`, mended: "search_path=public,patchbay",
		},
		"another schema first, by the role's own setting": {
			prepare: []string{`GRANT CREATE ON SCHEMA public TO ROLE`, `GRANT CREATE ON DATABASE DATABASE TO ROLE`, `CREATE SCHEMA own AUTHORIZATION ROLE`, `ALTER ROLE ROLE SET search_path = own, public`},
			asRole:  true, says: `search_path begins with "own"`, mended: "search_path=public",
		},
		"no CREATE on public": {
			asRole: true, says: "GRANT USAGE, CREATE ON SCHEMA public TO",
			mend: []string{`GRANT USAGE, CREATE ON SCHEMA public TO ROLE`, `CREATE EXTENSION pg_trgm`},
		},
		"no CREATE on the database": {
			prepare: []string{`GRANT USAGE, CREATE ON SCHEMA public TO ROLE`},
			asRole:  true, says: "GRANT CREATE ON DATABASE", mend: []string{`GRANT CREATE ON DATABASE DATABASE TO ROLE`},
		},
		"a transaction is read-only by the database's setting": {
			prepare: []string{`ALTER DATABASE DATABASE SET default_transaction_read_only = on`},
			says:    "takes no writes", mend: []string{`SET default_transaction_read_only = off`, `ALTER DATABASE DATABASE RESET default_transaction_read_only`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			admin, role := emptyDatabase(t)
			u, err := url.Parse(admin)
			if err != nil {
				t.Fatal(err)
			}
			filled := func(statements []string) (all []string) {
				for _, statement := range statements {
					statement = strings.ReplaceAll(statement, "DATABASE DATABASE", "DATABASE "+strings.TrimPrefix(u.Path, "/"))
					all = append(all, strings.NewReplacer("TO ROLE", "TO "+role, "AUTHORIZATION ROLE", "AUTHORIZATION "+role, "ROLE ROLE", "ROLE "+role).Replace(statement))
				}
				return all
			}
			execSQL(t, admin, filled(c.prepare)...)
			environ := func(query string) []string {
				at := *u
				if c.asRole {
					at.User = url.UserPassword(role, "p@ss/word")
				}
				at.RawQuery += "&" + query
				_, environ := operator(t)
				return append(environ, "DATABASE_URL="+at.String())
			}
			for _, command := range []string{"migrate", "doctor", "serve"} {
				var code int
				var out, faults string
				if command == "serve" {
					code, out, faults = said(t, append(environ(c.query), "LISTEN=127.0.0.1:0"), "", command)
				} else {
					code, out, faults = said(t, environ(c.query), "", command)
				}
				if code != 1 || !strings.Contains(out+faults, c.says) {
					t.Errorf("%s: code %d, does not say %q:\n%s%s", command, code, c.says, out, faults)
				}
				if strings.Contains(out+faults, "p@ss") || strings.Contains(out+faults, "p%40ss") {
					t.Errorf("%s quotes the password: %s%s", command, out, faults)
				}
			}
			execSQL(t, admin, filled(c.mend)...)
			if code, out, faults := said(t, environ(c.mended), "", "migrate"); code != 0 {
				t.Fatalf("mended, migrate: %s%s", out, faults)
			}
			_, out, _ := said(t, environ(c.mended), "", "doctor")
			for _, line := range []string{"ok     database", "ok     encoding", "ok     search", "ok     schema", "ok     saving"} {
				if !strings.Contains(out, line) {
					t.Errorf("mended, doctor has no line %q:\n%s", line, out)
				}
			}
		})
	}
}

// TestARoleThatWasAddedLater gives a serving role its rights although no migration is left to apply.
func TestARoleThatWasAddedLater(t *testing.T) {
	owner, role := emptyDatabase(t)
	t.Cleanup(func() { execSQL(t, owner, `DROP OWNED BY `+role) })
	u, err := url.Parse(owner)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "p@ss/word")
	_, environ := operator(t)
	if code, _, faults := said(t, append(environ, "DATABASE_URL="+owner), "", "migrate"); code != 0 {
		t.Fatal(faults)
	}
	if _, out, _ := said(t, append(environ, "DATABASE_URL="+u.String()), "", "doctor"); !strings.Contains(out, "MIGRATE_DATABASE_URL") {
		t.Errorf("the doctor does not say what a role without rights needs:\n%s", out)
	}
	environ = append(environ, "DATABASE_URL="+u.String(), "MIGRATE_DATABASE_URL="+owner)
	if code, _, faults := said(t, environ, "", "migrate"); code != 0 {
		t.Fatal(faults)
	}
	if _, out, _ := said(t, environ, "", "doctor"); !strings.Contains(out, "ok     saving") {
		t.Errorf("the role may not do its work:\n%s", out)
	}
}

// tcpSwitch is an address of Postgres that leads to one server or another, as a cluster's does.
type tcpSwitch struct {
	address string

	mu     sync.Mutex
	socket string
	open   []net.Conn
}

func newSwitch(t *testing.T, socket string) *tcpSwitch {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &tcpSwitch{address: l.Addr().String(), socket: socket}
	t.Cleanup(func() {
		l.Close()
		s.cut()
	})
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			server, err := net.Dial("unix", s.socket)
			if err == nil {
				s.open = append(s.open, client, server)
			}
			s.mu.Unlock()
			if err != nil {
				client.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
				go func() {
					_, _ = io.Copy(pair[0], pair[1])
					pair[0].Close()
				}()
			}
		}
	}()
	return s
}

// lead has new connections go to another server. Those that are open stay where they are.
func (s *tcpSwitch) lead(socket string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.socket = socket
}

func (s *tcpSwitch) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.open {
		conn.Close()
	}
	s.open = nil
}

// TestFailover has a cluster's address lead to a streaming standby and back, and to the standby once it is promoted
// (fleet#39228, cloudnative-pg#1254).
func TestFailover(t *testing.T) {
	database, primary := dbtest.Own(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	standby := dbtest.Standby(t, primary)
	socket := func(address string) string {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Join(u.Query().Get("host"), ".s.PGSQL.5432")
	}
	toPrimary, toStandby := socket(primary.URL("patchbay")), socket(standby.URL("patchbay"))
	cluster := newSwitch(t, toPrimary)
	_, environ := operator(t)
	environ = append(environ, "DATABASE_URL=postgres://postgres@"+cluster.address+"/patchbay?sslmode=disable", "KEYSET="+database.Keyset)

	address, stop := startServe(t, environ)
	client := http.Client{Timeout: 10 * time.Second}
	ready := func(want int) func() bool {
		return func() bool {
			answer, err := client.Get(address + "/readyz")
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			return answer.StatusCode == want
		}
	}
	dbtest.Eventually(t, "a ready process", ready(http.StatusOK))
	for replica, says := range map[string]string{
		standby.URL("patchbay"):               "ok     replica",
		primary.URL("patchbay"):               "WRONG  replica     READ_DATABASE_URL leads to no standby of this database",
		"postgres://x@127.0.0.1:1/patchbay":   "WRONG  replica     Postgres cannot be used",
		standby.URL("patchbay") + "&user=nil": "WRONG  replica     Postgres refuses the user or the password of READ_DATABASE_URL",
	} {
		if _, out, _ := said(t, append(environ, "READ_DATABASE_URL="+replica), "", "doctor"); !strings.Contains(out, says) {
			t.Errorf("the doctor with %s:\n%s", replica, out)
		}
	}

	cluster.lead(toStandby)
	cluster.cut()
	dbtest.Eventually(t, "a process that is not ready on a standby", ready(http.StatusServiceUnavailable))
	for _, command := range []string{"doctor", "migrate", "serve"} {
		if code, out, faults := said(t, append(environ, "LISTEN=127.0.0.1:0"), "", command); code != 1 || !strings.Contains(out+faults, "takes no writes there: it is a standby") {
			t.Errorf("%s on a standby: code %d:\n%s%s", command, code, out, faults)
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/password/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "127.0.0.1:8080" // PUBLIC_URL's
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" {
		t.Errorf("a page meanwhile: %d, Retry-After %q", answer.StatusCode, answer.Header.Get("Retry-After"))
	}

	cluster.lead(toPrimary) // and no connection is cut
	dbtest.Eventually(t, "a ready process", ready(http.StatusOK))

	execSQL(t, standby.URL("postgres"), `SELECT pg_promote()`)
	primary.Kill()
	cluster.lead(toStandby)
	dbtest.Eventually(t, "a process that is ready on the promoted standby", ready(http.StatusOK))
	if _, out, _ := said(t, environ, "", "doctor"); !strings.Contains(out, "ok     saving") {
		t.Errorf("the doctor on the promoted standby:\n%s", out)
	}
	if code := stop(); code != 0 {
		t.Errorf("the stop: code %d", code)
	}
	if err := primary.Again(ctx); err != nil { // for its cleanup
		t.Fatal(err)
	}
}

// TestExplain holds what the start and the doctor say of an error of Postgres's.
func TestExplain(t *testing.T) {
	said := func(code, message string) error {
		return fmt.Errorf("read: %w", &pgconn.PgError{Code: code, Message: message})
	}
	for says, err := range map[string]error{
		"lead to the primary":                      pg.ErrReadOnly,
		"of several hosts":                         said("25006", "cannot execute UPDATE in a read-only transaction"),
		"it is a standby":                          fmt.Errorf("connect: %w", pgconn.ErrReadOnlyConnection),
		"percent-encoded":                          said("28P01", `password authentication failed for user "patchbay"`),
		"refuses the user or the password":         said("28000", `role "patchbay" does not exist`),
		"CREATE DATABASE":                          said("3D000", `database "patchbay" does not exist`),
		"GRANT USAGE, CREATE ON SCHEMA public":     said("42501", "permission denied for schema public"),
		"GRANT CREATE ON DATABASE":                 said("42501", `permission denied for database patchbay`),
		"give":                                     said("42P05", `prepared statement "stmtcache_1" already exists`),
		"default_query_exec_mode=cache_describe":   said("26000", `prepared statement "stmtcache_1" does not exist`),
		"its pool_mode to session or transaction":  said("08P01", "transaction blocks not allowed in statement pooling mode"),
		"of DATABASE_URL, and give":                fmt.Errorf("connect: %w", pg.ErrStatementsLost),
		"nothing may be migrated":                  errMigratesPooled,
		"ignore_startup_parameters":                said("08P01", "unsupported startup parameter: jit"),
		"no such host":                             unknownHost(t),
		"MIGRATE_DATABASE_URL; patchbay":           said("42501", "permission denied for table grants"),
		"(SQLSTATE 53200)":                         said("53200", "out of memory"),
		`relation "events" does not exist`:         said("42P01", `relation "events" does not exist`),
		"no partition of relation \"events\" foun": said("23514", `no partition of relation "events" found for row`),
	} {
		if got := explain(err); !strings.Contains(got, says) || strings.Contains(got, "ss@host") {
			t.Errorf("%v: %q, want %q", err, got, says)
		}
	}
	for _, err := range []error{
		errors.New("another program's error"), &net.DNSError{Err: "no such host", Name: "listen.example"},
		fmt.Errorf("cannot listen: %w", &net.OpError{Op: "listen", Err: &net.DNSError{Err: "no such host", Name: "listen.example"}}),
		&net.AddrError{Err: "too many colons", Addr: ":::"}, os.ErrNotExist,
	} {
		if got := explain(err); got != "" {
			t.Errorf("an error that is not Postgres's: %q", got)
		}
	}
}

// unknownHost is what connecting to a host that is not known ends with.
func unknownHost(t *testing.T) error {
	t.Helper()
	config, err := pgx.ParseConfig("postgres://patchbay@host/patchbay")
	if err != nil {
		t.Fatal(err)
	}
	config.LookupFunc = func(context.Context, string) ([]string, error) {
		return nil, &net.DNSError{Err: "no such host", Name: "ss@host"}
	}
	_, err = pgx.ConnectConfig(t.Context(), config)
	return err
}
