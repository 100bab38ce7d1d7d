package main

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/db/dbtest"
	"patchbay/internal/sample"
)

var reconnectLink = regexp.MustCompile(`/reconnect/[0-9A-Za-z_-]+`)

// agrees waits until nothing contradicts itself: the app writes its figures down every few seconds.
func agrees(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	var found []string
	defer func() {
		if len(found) > 0 {
			t.Log(strings.Join(found, "\n"))
		}
	}()
	dbtest.Eventually(t, "nothing that contradicts itself", func() (agree bool) {
		var err error
		if found, err = sample.Disagreements(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		return len(found) == 0
	})
}

// The world agrees with itself before anything is pressed and after, and whatever is pressed finds what its state promises.
func TestDemoWorldAgreesWithItself(t *testing.T) {
	data := demoFolder(t)
	address, _ := startDemo(t, data, "-known=false")
	conn, err := pgx.Connect(t.Context(), "postgres://postgres@/patchbay?host="+url.QueryEscape(filepath.Join(data, "postgres")))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	agrees(t, conn)

	states := map[string]string{}
	type connection struct{ id, state, environment, email string }
	rows, err := conn.Query(t.Context(), `SELECT c.id::text, c.state, c.environment, u.email FROM connections c JOIN users u ON u.id = c.connected_by ORDER BY c.connected_at`)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c connection, err error) {
		return c, row.Scan(&c.id, &c.state, &c.environment, &c.email)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != len(worldConnections()) {
		t.Errorf("%d connections, want %d", len(all), len(worldConnections()))
	}
	for _, c := range all {
		states[c.state] = c.id
	}
	for _, want := range []string{"fine", "retrying", "refused", "revoked", "lapsed", "disconnected"} {
		if states[want] == "" {
			t.Errorf("no connection is %s", want)
		}
	}
	for what, sql := range map[string]string{
		"an incident that has ended":     `SELECT count(*) FROM providers WHERE incident_ended_at IS NOT NULL AND incident_since IS NULL`,
		"an attempt that waits":          `SELECT count(*) FROM flows WHERE stage = 'choosing' AND expires_at > now()`,
		"a connection of another set-up": `SELECT count(*) FROM connections WHERE environment = 'production'`,
	} {
		var n int
		if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil || n != 1 {
			t.Errorf("%s: there are %d, want one (%v)", what, n, err)
		}
	}

	passwords := map[string]string{}
	for _, u := range append(demoUsers(), worldUsers()...) {
		passwords[u.Email] = u.Password
	}
	people := map[string]*http.Client{}
	for email, password := range passwords {
		jar, _ := cookiejar.New(nil)
		people[email] = &http.Client{Jar: jar, Timeout: 30 * time.Second}
		answer, err := people[email].PostForm(address+"/login", url.Values{"email": {email}, "password": {password}})
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK || strings.HasPrefix(answer.Request.URL.Path, "/login") {
			t.Fatalf("%s does not get in: %d at %s", email, answer.StatusCode, answer.Request.URL)
		}
	}
	// What Refresh now leads to. A person's no stands until that person acts; what was only trouble is over.
	promised := map[string]string{"fine": "fine", "retrying": "fine", "refused": "refused", "revoked": "revoked", "lapsed": "lapsed", "disconnected": "disconnected"}
	for _, c := range all {
		answer, err := people[c.email].PostForm(address+"/connections/"+c.id+"/refresh", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		var state string
		if err := conn.QueryRow(t.Context(), `SELECT state FROM connections WHERE id = $1`, c.id).Scan(&state); err != nil {
			t.Fatal(err)
		}
		if state != promised[c.state] || answer.StatusCode >= 500 {
			t.Errorf("a connection that was %s in %s is %s after Refresh now, want %s; the page answers %d", c.state, c.environment, state, promised[c.state], answer.StatusCode)
		}
	}
	var incidents int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM providers WHERE incident_since IS NOT NULL`).Scan(&incidents); err != nil || incidents > 0 {
		t.Errorf("%d incidents are open after every connection was refreshed (%v)", incidents, err)
	}
	agrees(t, conn)

	// The mail that asks to reconnect leads to the provider's pages.
	var link string
	dbtest.Eventually(t, "a mail that asks to reconnect", func() bool {
		answer, err := people["merchant@example.com"].Get(address + "/outbox")
		if err != nil {
			t.Fatal(err)
		}
		page, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		link = reconnectLink.FindString(string(page))
		return link != ""
	})
	person := people["merchant@example.com"]
	person.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	answer, err := person.PostForm(address+link, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if to, err := answer.Location(); err != nil || !strings.HasSuffix(to.Path, "/authorize") {
		t.Errorf("the link leads to %v (%d, %v), want the provider's page", to, answer.StatusCode, err)
	}
}
