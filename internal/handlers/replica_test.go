package handlers

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
)

// TestListsAreReadFromTheReplica has a standby that stays behind: lists are as old as it is, what somebody has just written and what
// is no list are not.
func TestListsAreReadFromTheReplica(t *testing.T) {
	t.Parallel()
	database, primary := dbtest.Own(t)
	standby := dbtest.Standby(t, primary)
	s := newTestServer(t, withReplica(database, standby.URL("patchbay")))
	onStandby := func(sql string) {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), standby.URL("patchbay"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	used := func() bool { return s.db.ReplicaState() == pg.ReplicaUsed }
	// later is the same browser a quarter of a minute after its last form.
	later := func(p *person) *person {
		at, _ := url.Parse(p.url)
		p.client.Jar.SetCookies(at, []*http.Cookie{{Name: "wrote", Path: "/", MaxAge: -1}})
		return p
	}
	writer, reader := s.staff(audit.RoleAdmin), later(s.staff(audit.RoleSupport))
	if writer.cookie("wrote") == "" {
		t.Error("a browser that has signed in has sent no form")
	}
	_, key, err := s.db.AddAPIKey(t.Context(), audit.System, db.APIKey{Name: "platform", Scopes: []string{db.ScopeConnections}})
	if err != nil {
		t.Fatal(err)
	}
	program := func(path string) string {
		r := request(t, http.MethodGet, s.url+path, nil)
		r.Header.Set("Authorization", "Bearer "+string(key))
		return s.visitor("").do(r).body
	}
	old := dbtest.Merchant(t, s.db, "Old Shop")
	for range 3 {
		dbtest.Connection(t, s.db, old.ID, "caminvoice", pg.NewID().String(), "Old Shop Co., Ltd")
	}
	lists := []string{
		"/admin", "/admin/connections", "/admin/connections.csv", "/admin/events", "/admin/events?merchant=fresh", "/admin/events.csv",
		"/admin/merchants", "/admin/merchants?q=fresh", "/admin/users", "/admin/users?q=fresh",
	}
	fresh := func(p *person, path string) bool {
		t.Helper()
		got := p.get(path)
		if got.status != http.StatusOK {
			t.Errorf("%s: %d", path, got.status)
		}
		_, body, _ := strings.Cut(strings.ReplaceAll(got.body, `value="fresh"`, ""), "<main") // without what was asked for
		if strings.Contains(path, ".csv") {
			body = got.body
		}
		return strings.Contains(body, "Fresh")
	}

	dbtest.Eventually(t, "a replica that is used", used)
	onStandby(`SELECT pg_wal_replay_pause()`)
	if got := writer.post("/admin/merchants", "name", "Fresh Shop", "external_id", "fresh-1"); got.status != http.StatusSeeOther {
		t.Fatalf("%d %s", got.status, got.h1())
	}
	m, err := s.db.MerchantByExternalID(t.Context(), "fresh-1")
	if err != nil {
		t.Fatal(err)
	}
	dbtest.User(t, s.db, audit.RoleMerchant, "sok@fresh.example", "", "Fresh Shop")
	id := dbtest.Connection(t, s.db, m.ID, "caminvoice", "KHUIDFRESH", "Fresh Shop Co., Ltd", dbtest.Lapsing(s.db.Now().Add(24*time.Hour)))
	lists = append(lists, "/admin/connections?q="+id.String())
	for _, path := range lists {
		if fresh(reader, path) {
			t.Errorf("%s was not read from the replica", path)
		}
		if !fresh(writer, path) {
			t.Errorf("%s lacks what this browser has just written", path)
		}
	}
	for _, path := range []string{"/connections/" + id.String(), "/admin/merchants/" + m.ID.String()} {
		if !fresh(reader, path) {
			t.Errorf("%s is no list, and old", path)
		}
	}
	for _, path := range []string{"/api/v1/connections?limit=1", "/api/v1/connections?merchant=fresh-1", "/api/v1/connections/" + id.String(), "/api/v1/merchants?external_id=fresh-1"} {
		if got := program(path); !strings.Contains(got, "Fresh") {
			t.Errorf("%s: %s", path, got)
		}
	}
	first := program("/api/v1/merchants?limit=1")
	_, next, _ := strings.Cut(first, `"next":"`)
	next, _, _ = strings.Cut(next, `"`)
	if got := program("/api/v1/merchants?limit=5&cursor=" + url.QueryEscape(next)); !strings.Contains(first, "Fresh") || !strings.Contains(got, "Old Shop") {
		t.Errorf("a program's pages: %s, %s", first, got)
	}

	onStandby(`SELECT pg_wal_replay_resume()`)
	for _, path := range lists {
		dbtest.Eventually(t, "what was written", func() bool { return fresh(reader, path) })
	}
	text := func(path string) string { return s.visitor("").get(path).body }
	dbtest.Eventually(t, "a replica that is used", used)
	if got := text("/readyz"); got != "ready\n" {
		t.Errorf("/readyz: %q", got)
	}
	if got := text("/metrics"); !strings.Contains(got, `patchbay_replica_used{state="used"} 1`) {
		t.Errorf("/metrics lacks that the replica is used")
	}

	standby.Stop()
	for _, path := range lists {
		if !fresh(reader, path) {
			t.Errorf("%s without a replica lacks what was written", path)
		}
	}
	dbtest.Eventually(t, "a replica that is away", func() bool { return s.db.ReplicaState() == pg.ReplicaUnreachable })
	if got := text("/readyz"); got != "ready\nlists are read from the primary, not from the replica: away\n" {
		t.Errorf("/readyz: %q", got)
	}
	if got := text("/metrics"); !strings.Contains(got, `patchbay_replica_used{state="away"} 0`) {
		t.Errorf("/metrics lacks that the replica is away")
	}
	if err := standby.Again(t.Context()); err != nil { // for its cleanup
		t.Fatal(err)
	}
}
