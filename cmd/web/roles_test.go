package main

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/db/dbtest"
)

// TestRoles makes the roles of docs/operating.md, and those of docker-compose.yml as its image does, in a cluster of their own with
// pg_stat_statements where it is to be had. Neither role is a superuser; the owner migrates, and the other serves without the
// owner's address.
func TestRoles(t *testing.T) {
	const password = "p@ss'/word"
	for name, make := range map[string]func(t *testing.T, superuser string){
		"docs/operating.md": func(t *testing.T, superuser string) {
			text := read(t, "../../docs/operating.md")
			block := regexp.MustCompile("(?s)```sql\n(.*?CREATE ROLE patchbay .*?)```").FindStringSubmatch(text)
			if block == nil {
				t.Fatal("no SQL with the roles")
			}
			for statement := range strings.SplitSeq(strings.TrimSpace(block[1]), "\n") {
				execSQL(t, superuser, strings.ReplaceAll(statement, "'…'", "'"+strings.ReplaceAll(password, "'", "''")+"'"))
			}
		},
		"docker-compose.yml": func(t *testing.T, superuser string) {
			cmd := exec.CommandContext(t.Context(), "psql", "-v", "ON_ERROR_STOP=1", "-q", "-f", "../../scripts/roles.sql", superuser)
			cmd.Env = append(os.Environ(), "OWNER_PASSWORD="+password, "POSTGRES_PASSWORD="+password)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, server := dbtest.Own(t)
			superuser := server.URL("postgres")
			execSQL(t, superuser, `DROP DATABASE patchbay`)
			make(t, superuser)
			execSQL(t, server.URL("patchbay"), `CREATE EXTENSION pg_stat_statements`)
			as := func(role string) string {
				u, err := url.Parse(server.URL("patchbay"))
				if err != nil {
					t.Fatal(err)
				}
				u.User = url.UserPassword(role, password)
				return u.String()
			}
			_, environ := operator(t)
			environ = append(environ, "DATABASE_URL="+as("patchbay"))
			if code, _, faults := said(t, append(environ, "MIGRATE_DATABASE_URL="+as("patchbay_owner")), "", "migrate"); code != 0 {
				t.Fatal(faults)
			}
			_, stop := startServe(t, environ, "-migrate=false")
			if code, out, _ := said(t, environ, "", "doctor"); !strings.Contains(out, "ok     saving") || !strings.Contains(out, "ok     schema") {
				t.Errorf("doctor: code %d:\n%s", code, out)
			}
			if code, _, faults := said(t, environ, "correct horse", "user", "add", "-email", "sok@shop.example", "-role", "admin"); code != 0 {
				t.Error(faults)
			}
			if code := stop(); code != 0 {
				t.Errorf("stopped with %d", code)
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			conn, err := pgx.Connect(ctx, superuser)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(ctx)
			var roles, powers int
			if err := conn.QueryRow(ctx, `SELECT count(*), count(*) FILTER (WHERE rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls) FROM pg_roles WHERE rolname LIKE 'patchbay%'`).Scan(&roles, &powers); err != nil || roles != 2 || powers != 0 {
				t.Errorf("%d roles, %d of them with powers; %v", roles, powers, err)
			}
		})
	}
}
