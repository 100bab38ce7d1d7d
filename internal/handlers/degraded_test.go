package handlers

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"patchbay/internal/db/dbtest"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// TestADatabaseThatHangsIsAnswered503 holds the tables that everything reads: pages and reads say when to come back, within their limits.
func TestADatabaseThatHangsIsAnswered503(t *testing.T) {
	o := newTestAPI(t)
	id := o.connection(o.shop, "account", time.Minute)
	key := o.key(o.shop.ID)
	admin := o.staff(audit.RoleAdmin)
	admin.wants("/admin/connections")
	tx, err := o.db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := tx.Exec(t.Context(), `LOCK TABLE connections, grants, merchants IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for _, path := range []string{"/admin/connections", "/connections/" + id.String(), "/admin/merchants"} {
		all.Go(func() {
			answer := admin.get(path)
			if wait, err := strconv.Atoi(answer.retryAfter); answer.status != http.StatusServiceUnavailable || err != nil || wait <= 0 || len(answer.body) == 0 {
				t.Errorf("%s answers %d, Retry-After %q, %d bytes", path, answer.status, answer.retryAfter, len(answer.body))
			}
		})
	}
	for _, call := range []struct{ method, path string }{
		{"GET", "/api/v1/connections/" + id.String() + "/token"}, {"GET", "/api/v1/connections/" + id.String()}, {"GET", "/api/v1/connections"}, {"GET", "/api/v1/merchants"},
	} {
		all.Go(func() {
			answer := o.ask(call.method, call.path, key, "")
			answer.is(o, 503, "platform-action-needed")
			if answer.body["retry_after"] == nil {
				t.Errorf("%s does not say when to come back: %v", call.path, answer.body)
			}
		})
	}
	dbtest.Wait(t, &all, "the requests")
}

// TestWhatAnotherProcessMayVerifyIsAnswered503 has a key and a session that are signed by a key of the keyset that this process lacks.
func TestWhatAnotherProcessMayVerifyIsAnswered503(t *testing.T) {
	o := newTestAPI(t)
	id := o.connection(o.shop, "account", time.Minute)
	key := o.key(o.shop.ID)
	admin := o.staff(audit.RoleAdmin)
	if got := admin.get("/readyz"); got.status != http.StatusOK {
		t.Fatalf("ready: %d", got.status)
	}
	for _, table := range []string{"api_keys", "sessions"} {
		if _, err := o.db.Pool.Exec(t.Context(), `UPDATE `+table+` SET mac = '\xdeadbeef' || substring(mac FROM 5)`); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"/token", ""} {
		answer := o.ask("GET", "/api/v1/connections/"+id.String()+path, key, "")
		answer.is(o, 503, "platform-action-needed")
		if answer.body["retry_after"] == nil {
			t.Errorf("%q does not say when to come back: %v", path, answer.body)
		}
	}
	if got := admin.get("/admin"); got.status != http.StatusServiceUnavailable || got.retryAfter == "" {
		t.Errorf("a page: %d, Retry-After %q", got.status, got.retryAfter)
	}
	if got := admin.get("/readyz"); got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "key unknown (3735928559)") {
		t.Errorf("readyz: %d %q", got.status, got.body)
	}
	if n := o.events(status.RowForged); n != 0 {
		t.Errorf("%d rows are called forged", n)
	}
}

// TestAGrantThatAnotherProcessMayOpenIsAnswered503 has a grant that is sealed by a key which this process lacks, with a token that is good
// and with one that has to be refreshed. Nothing is marked, and nothing is sent to the provider.
func TestAGrantThatAnotherProcessMayOpenIsAnswered503(t *testing.T) {
	o := newTestAPI(t)
	key := o.key(o.shop.ID, db.ScopeTokens, db.ScopeConnections, db.ScopeRefresh, db.ScopeDisconnect)
	merchant := o.merchant("CH168 Shop")
	admin := o.staff(audit.RoleAdmin)
	for name, age := range map[string]time.Duration{"good": time.Minute, "lapsed": 48 * time.Hour} {
		id := o.connection(o.shop, name, age)
		if _, err := o.db.Pool.Exec(t.Context(), `UPDATE grants SET sealed = '\x01deadbeef' || substring(sealed FROM 6) WHERE connection_id = $1`, id); err != nil {
			t.Fatal(err)
		}
		for method, path := range map[string]string{"GET": "/token", "POST": "/refresh", "DELETE": ""} {
			answer := o.ask(method, "/api/v1/connections/"+id.String()+path, key, "")
			answer.is(o, 503, "platform-action-needed")
			if answer.body["retry_after"] == nil {
				t.Errorf("%s %s does not say when to come back: %v", method, path, answer.body)
			}
		}
		for _, path := range []string{"", "s/" + id.String()} {
			if answer := o.ask("GET", "/api/v1/connection"+cmp.Or(path, "s"), key, ""); answer.status != 200 {
				t.Errorf("what is not sealed: %d", answer.status)
			}
		}
		for _, action := range []string{"/refresh", "/disconnect"} {
			if got := admin.post("/connections/" + id.String() + action); got.status != http.StatusServiceUnavailable || got.retryAfter == "" {
				t.Errorf("%s on the page: %d, Retry-After %q", action, got.status, got.retryAfter)
			}
		}
		c, err := o.db.ConnectionDetail(t.Context(), id, pg.ID{})
		if err != nil || c.Problem != "" || !c.DisconnectedAt.IsZero() {
			t.Errorf("the connection is marked %q, %v", c.Problem, err)
		}
	}
	if got := merchant.get("/"); got.status != http.StatusOK {
		t.Errorf("the merchant's page: %d", got.status)
	}
	if n := o.source.calls.Load(); n != 0 {
		t.Errorf("%d calls to the provider", n)
	}
	if got := admin.get("/readyz"); got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "key unknown (3735928559)") {
		t.Errorf("readyz: %d %q", got.status, got.body)
	}
}

// TestOneGrantUnderALostKeyStopsNoProcess has one grant of many sealed by a key that no process has: what can be served is served. While another
// process has the key this one is not ready. An operator gives the key up, and the merchant is asked to reconnect.
func TestOneGrantUnderALostKeyStopsNoProcess(t *testing.T) {
	o := newTestAPI(t)
	key := o.key(pg.ID{}, db.ScopeTokens)
	admin := o.staff(audit.RoleAdmin)
	others := make([]pg.ID, 3)
	for i := range others {
		others[i] = o.connection(o.shop, fmt.Sprint("account ", i), time.Minute)
	}
	id := o.connection(o.other, "lost", time.Minute)
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := o.db.Pool.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(`UPDATE grants SET sealed = '\x01deadbeef' || substring(sealed FROM 6) WHERE connection_id = $1`, id)
	token := func(id pg.ID) reply { return o.ask("GET", "/api/v1/connections/"+id.String()+"/token", key, "") }
	token(id).is(o, 503, "platform-action-needed")
	if got := admin.get("/readyz"); got.status != http.StatusOK || !strings.Contains(got.body, "key unknown (3735928559)") {
		t.Errorf("one grant whose key no process has: %d %q", got.status, got.body)
	}
	exec(`INSERT INTO settings (name, value) VALUES ('keyset.seen 3735928559', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))`)
	if got := admin.get("/readyz"); got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "key unknown (3735928559)") {
		t.Errorf("one grant whose key another process has: %d %q", got.status, got.body)
	}
	if n, err := o.db.AbandonKey(t.Context(), 0xdeadbeef); n != 0 || !errors.Is(err, db.ErrKeyHeld) {
		t.Errorf("a key that another process has is given up for %d, %v", n, err)
	}
	exec(`UPDATE settings SET value = to_char(now() AT TIME ZONE 'UTC' - interval '2 hours', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') WHERE name = 'keyset.seen 3735928559'`)
	if n, err := o.db.AbandonKey(t.Context(), 0xdeadbeef); n != 1 || err != nil {
		t.Errorf("the lost key is given up for %d, %v", n, err)
	}
	token(id).is(o, http.StatusConflict, "action-needed")
	c, err := o.db.ConnectionDetail(t.Context(), id, pg.ID{})
	if err != nil || c.Problem != status.ProblemInterrupted || o.events(status.KindOfFailure(status.Rejected)) != 1 {
		t.Errorf("its problem is %q, with %d events, %v", c.Problem, o.events(status.KindOfFailure(status.Rejected)), err)
	}
	for _, id := range others {
		token(id).is(o, http.StatusOK, "")
	}
	if n, err := o.db.AbandonKey(t.Context(), 0xdeadbeef); n != 0 || err != nil {
		t.Errorf("given up again for %d, %v", n, err)
	}
}

// TestARefusedTokenIsNotSentAgainEachTime: a program that asks again is answered by what is known, and so is a person who presses again.
func TestARefusedTokenIsNotSentAgainEachTime(t *testing.T) {
	o := newTestAPI(t)
	id := o.connection(o.shop, "account", time.Hour)
	key := o.key(o.shop.ID)
	o.source.fails(&connectors.RejectedError{Reason: "invalid_grant"})
	path := "/api/v1/connections/" + id.String() + "/refresh"
	for range 20 {
		a := o.ask("POST", path, key, "")
		if a.is(o, 409, "action-needed"); a.body["problem"] != string(status.ProblemRejected) {
			t.Errorf("problem %v", a.body["problem"])
		}
	}
	if n := o.source.calls.Load(); n > 2 { // the one that was refused, and one to see whether it still is
		t.Errorf("a refused token was sent %d times to programs' requests", n)
	}
	before := o.source.calls.Load()
	admin := o.staff(audit.RoleAdmin)
	for range 5 {
		admin.post("/connections/" + id.String() + "/refresh")
	}
	if n := o.source.calls.Load() - before; n != 1 {
		t.Errorf("a refused token was sent %d times to a person's presses", n)
	}
}
