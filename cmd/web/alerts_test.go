package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/localpg"
	"patchbay/internal/pg"
	"patchbay/internal/sandbox"
)

// drill is a Patchbay that serves, in a state that alerts are for.
type drill struct {
	*testing.T
	database dbtest.Database
	server   *localpg.Server // the cluster of the drill, where it has one of its own
	sandbox  *sandbox.Sandbox
	environ  []string
	address  string
	stop     func() int
}

var drillProviders = []string{sandbox.CamInvoice, sandbox.ELECQ, sandbox.Flexiti, sandbox.Bookings}

const drillHook = "a-webhook-secret-of-a-drill"

// serve starts Patchbay, and waits until it has looked for what is due at each provider.
func (d *drill) serve(more ...string) {
	d.Helper()
	d.address, d.stop = startServe(d.T, append(d.environ[:len(d.environ):len(d.environ)], more...))
	for _, provider := range drillProviders {
		d.says(`patchbay_sweep_last_round_timestamp_seconds{environment="sandbox",provider="` + provider + `"}`)
	}
}

// connect gives merchants a CamInvoice connection each that has worked for a month, and whose token was obtained age ago.
func (d *drill) connect(age time.Duration, merchants ...string) (ids []string) {
	d.Helper()
	opened := d.database.Open(d.T)
	for n, name := range merchants {
		account := "KHUID9000" + string(rune('1'+n))
		issued, err := d.sandbox.Issue(sandbox.CamInvoice, account)
		if err != nil {
			d.Fatal(err)
		}
		g := connectors.Grant{
			Token:   connectors.Token{Access: issued.Access, Type: "Bearer", Lifetime: 15 * time.Minute, Refresh: issued.Refresh},
			Account: connectors.Account{ID: account, Name: account},
		}
		id, err := opened.AddConnection(d.Context(), dbtest.Merchant(d.T, opened, name).ID, sandbox.CamInvoice, "sandbox", g, opened.Now().Add(-age), connectors.Info{KeepAlive: 24 * time.Hour})
		if err != nil {
			d.Fatal(err)
		}
		ids = append(ids, id.String())
	}
	if _, err := opened.Pool.Exec(d.Context(), `UPDATE connections SET connected_at = connected_at - interval '30 days'`); err != nil {
		d.Fatal(err)
	}
	if _, err := opened.Pool.Exec(d.Context(), `UPDATE grants SET used_at = now(), refresh_at = least(refresh_at, refresh_at - interval '23 hours')`); err != nil {
		d.Fatal(err)
	}
	return ids
}

func (d *drill) scrape() (scraped struct {
	At   float64 `json:"at"`
	Text string  `json:"text"`
},
) {
	d.Helper()
	answer, err := (&http.Client{Timeout: time.Minute}).Get(d.address + "/metrics")
	if err != nil {
		d.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		d.Fatalf("/metrics: %d, %v", answer.StatusCode, err)
	}
	scraped.At, scraped.Text = float64(time.Now().UnixMilli())/1000, string(text)
	return scraped
}

// says waits until a figure has a value above zero.
func (d *drill) says(figure string) {
	d.Helper()
	dbtest.Eventually(d.T, figure, func() bool {
		for line := range strings.Lines(d.scrape().Text) {
			if strings.HasPrefix(line, figure) && !strings.HasSuffix(strings.TrimSpace(line), " 0") {
				return true
			}
		}
		return false
	})
}

// asks calls the API with a key, whatever the answer.
func (d *drill) asks(key pg.Secret, method, path string) {
	d.Helper()
	if _, err := (&program{http.Client{Timeout: time.Minute}, d.address, string(key)}).ask(method, path, nil); err != nil {
		d.Fatal(err)
	}
}

// rounds says whether every sweep has looked for what is due since the first scrape.
func rounds(first, second string) bool {
	const figure = "patchbay_sweep_last_round_timestamp_seconds{"
	for line := range strings.Lines(second) {
		if strings.HasPrefix(line, figure) && strings.Contains(first, line) {
			return false
		}
	}
	return strings.Contains(second, figure)
}

// hold keeps a table locked until the test ends.
func (d *drill) hold(table, mode string) {
	d.Helper()
	conn, err := pgx.Connect(d.Context(), d.database.URL)
	if err != nil {
		d.Fatal(err)
	}
	d.Cleanup(func() { conn.Close(context.Background()) })
	for _, statement := range []string{`BEGIN`, `LOCK TABLE ` + table + ` IN ` + mode + ` MODE`} {
		if _, err := conn.Exec(d.Context(), statement); err != nil {
			d.Fatal(err)
		}
	}
}

// awaitSweeps waits until the sweep of each provider waits for a table that is held: no round is under way that could still end.
func (d *drill) awaitSweeps() {
	d.Helper()
	opened := d.database.Open(d.T)
	dbtest.Eventually(d.T, "sweeps that wait", func() bool { return dbtest.HeldTransactions(d.T, opened) == len(drillProviders) })
}

// TestAlertsFireInTheirDrills makes the state of every rule of docs/alerts.yml for real, scrapes /metrics twice, and has Prometheus's own
// engine evaluate the rules while the state goes on as it went between the two scrapes. Each drill says which alerts fire; no
// other may.
func TestAlertsFireInTheirDrills(t *testing.T) {
	evaluator := filepath.Join(t.TempDir(), "alerts")
	build := exec.CommandContext(t.Context(), "go", "build", "-C", "../../bench/alerts", "-o", evaluator, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	drills := map[string]struct {
		fire    []string
		begin   func(*drill)
		between func(*drill) // the scrapes
		own     bool         // with a Postgres of its own
	}{
		"all is well": {begin: func(d *drill) {
			d.connect(0, "CH168 Shop", "Another Shop")
			d.serve()
		}},
		"Postgres has crashed": {fire: []string{"PatchbayDatabaseDown"}, own: true, begin: func(d *drill) {
			d.connect(0, "CH168 Shop")
			d.serve()
			d.server.Kill()
		}},
		"the database takes no writes": {fire: []string{"PatchbayDatabaseDown"}, own: true, begin: func(d *drill) {
			d.serve()
			execSQL(d.T, d.server.URL("postgres"), `ALTER DATABASE patchbay SET default_transaction_read_only = on`,
				`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'patchbay'`)
			dbtest.Eventually(d.T, "a figure that says so", func() bool { return strings.Contains(d.scrape().Text, "\npatchbay_database_up 0") })
		}},
		"no claim comes through": {fire: []string{"PatchbaySweepStuck", "PatchbayRefreshesOverdue"}, begin: func(d *drill) {
			d.serve()
			d.hold("provider_slots", "EXCLUSIVE")
			d.connect(time.Hour, "CH168 Shop")
			d.says("patchbay_oldest_due_seconds")
			d.awaitSweeps()
		}},
		"no table of grants can be read": {fire: []string{"PatchbaySweepStuck"}, begin: func(d *drill) {
			d.connect(0, "CH168 Shop")
			d.serve()
			d.hold("grants", "ACCESS EXCLUSIVE")
			d.awaitSweeps()
		}},
		"a provider is away": {fire: []string{"PatchbayIncidentLasts"}, begin: func(d *drill) {
			if err := d.sandbox.SetFault(sandbox.CamInvoice, sandbox.Fault{Kind: sandbox.Error500, Endpoint: "refresh"}); err != nil {
				d.Fatal(err)
			}
			d.connect(time.Hour, "CH168 Shop", "Another Shop", "A third", "A fourth", "A fifth", "A sixth")
			d.serve()
			d.says("patchbay_incident{")
		}},
		"one merchant's refreshes fail": {fire: []string{"PatchbayRefreshesFail"}, begin: func(d *drill) {
			d.connect(0, "CH168 Shop")
			d.serve()
			if err := d.sandbox.SetFault(sandbox.CamInvoice, sandbox.Fault{Kind: sandbox.Error500, Endpoint: "refresh"}); err != nil {
				d.Fatal(err)
			}
		}, between: func(d *drill) {
			opened := d.database.Open(d.T)
			_, key, err := opened.AddAPIKey(d.Context(), audit.System, db.APIKey{Name: "drill", Scopes: db.Scopes()})
			if err != nil {
				d.Fatal(err)
			}
			id, err := pg.One(d.Context(), opened.Pool, "the connection", pgx.RowTo[pg.ID], `SELECT id FROM connections`)
			if err != nil {
				d.Fatal(err)
			}
			for range 3 {
				d.asks(key, http.MethodPost, "/api/v1/connections/"+id.String()+"/refresh")
			}
		}},
		"webhooks come to an old address": {fire: []string{"PatchbayWebhooksFail"}, begin: func(d *drill) { d.serve() }, between: func(d *drill) { d.webhooks("an-older-secret", `{}`) }},
		"webhooks are not understood":     {fire: []string{"PatchbayWebhooksFail"}, begin: func(d *drill) { d.serve() }, between: func(d *drill) { d.webhooks(drillHook, `<event/>`) }},
		"webhooks are taken":              {begin: func(d *drill) { d.serve() }, between: func(d *drill) { d.webhooks(drillHook, `{"type":"DOCUMENT.DELIVERED","endpoint_id":"KHUID90001"}`) }},
		"the mail server is away": {fire: []string{"PatchbayMailWaits"}, begin: func(d *drill) {
			d.letter()
			d.says(`patchbay_jobs_oldest_seconds{kind="mail",state="waiting"}`)
		}},
		"letters were given up": {fire: []string{"PatchbayMailWaits"}, begin: func(d *drill) {
			d.letter()
			d.says(`patchbay_jobs_oldest_seconds{kind="mail",state="waiting"}`)
			dbtest.FailJobs(d.T, d.database.Open(d.T), "mail", "no such mailbox", true)
			d.says(`patchbay_jobs{kind="mail",state="given-up"}`)
		}},
		"an older key of the keyset cannot be retired": {fire: []string{"PatchbayOldKeyInUse"}, begin: func(d *drill) {
			d.connect(0, "CH168 Shop")
			d.serve()
			opened := d.database.Open(d.T)
			dbtest.Eventually(d.T, "the first keyset's job", func() bool { // which the next keyset's does not wait for
				done, err := pg.One(d.Context(), opened.Pool, "jobs", pgx.RowTo[bool], `SELECT EXISTS (SELECT 1 FROM river_job WHERE kind = 'reseal' AND state = 'completed')`)
				return err == nil && done
			})
			if code := d.stop(); code != 0 {
				d.Fatalf("stopped with %d", code)
			}
			// What opens is sealed anew by itself; this does not.
			execSQL(d.T, d.database.URL, `UPDATE grants SET sealed = set_bit(sealed, 200, 1 - get_bit(sealed, 200))`)
			d.serve("KEYSET=" + d.database.Rotated(d.T).Keyset)
			d.says("patchbay_old_seals")
		}},
		"the months to come cannot be made": {fire: []string{"PatchbayMonthMissing"}, begin: func(d *drill) {
			execSQL(d.T, d.database.URL, `DO $$ DECLARE part regclass; BEGIN
				FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'events'::regclass ORDER BY inhrelid::regclass::text DESC LIMIT 2 LOOP
					EXECUTE 'DROP TABLE ' || part;
				END LOOP;
			END $$`, `CREATE OR REPLACE FUNCTION events_make_month(month date) RETURNS void LANGUAGE plpgsql AS 'BEGIN RAISE ''no room''; END'`)
			d.serve()
		}},
		"an API key was written without the keyset": {fire: []string{"PatchbayForgedRows"}, begin: func(d *drill) { d.serve() }, between: func(d *drill) {
			opened := d.database.Open(d.T)
			_, key, err := opened.AddAPIKey(d.Context(), audit.System, db.APIKey{Name: "drill", Scopes: []string{db.ScopeTokens}})
			if err != nil {
				d.Fatal(err)
			}
			execSQL(d.T, d.database.URL, `UPDATE api_keys SET name = 'forged', mac = set_byte(mac, 20, get_byte(mac, 20) # 1)`)
			d.asks(key, http.MethodGet, "/api/v1/connections/"+pg.NewID().String()+"/token")
		}},
		"another process signs with a newer key": {fire: []string{"PatchbayKeyUnknown"}, begin: func(d *drill) {
			d.serve()
			ahead := d.database
			ahead = ahead.Rotated(d.T)
			_, key, err := ahead.Open(d.T).AddAPIKey(d.Context(), audit.System, db.APIKey{Name: "drill", Scopes: []string{db.ScopeTokens}})
			if err != nil {
				d.Fatal(err)
			}
			d.asks(key, http.MethodGet, "/api/v1/connections/"+pg.NewID().String()+"/token")
		}},
		"Postgres's clock is wrong": {fire: []string{"PatchbayClockSkew"}, begin: func(d *drill) {
			execSQL(d.T, d.database.URL,
				`CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT pg_catalog.clock_timestamp() + interval ''2 minutes'''`,
				`DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || quote_ident(current_database()) || ' SET search_path = public, pg_catalog'; END $$`)
			d.serve()
		}},
	}
	var mu sync.Mutex
	states, mustFire := map[string][]any{}, map[string]bool{}
	t.Run("drill", func(t *testing.T) {
		for name, one := range drills {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				d := &drill{T: t}
				d.database, d.environ = operator(t)
				if one.own {
					d.database, d.server = dbtest.Own(t)
					d.environ = append(d.environ, "DATABASE_URL="+d.database.URL, "KEYSET="+d.database.Keyset)
				}
				var err error
				if d.sandbox, err = sandbox.Start("127.0.0.1:0", sandbox.Options{}); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { d.sandbox.Close() })
				settings := d.sandbox.Settings()
				for _, name := range slices.Sorted(maps.Keys(settings)) {
					if name != "ACME_SECRET" { // of CONNECTORS_FILE
						d.environ = append(d.environ, name+"="+settings[name])
					}
				}
				d.environ = append(d.environ, "CAMINVOICE_HOOK_SECRET="+drillHook)
				one.begin(d)
				first := d.scrape()
				if one.between != nil {
					one.between(d)
				}
				second := d.scrape()
				for deadline := time.Now().Add(5 * time.Second); !rounds(first.Text, second.Text) && time.Now().Before(deadline); second = d.scrape() {
					time.Sleep(200 * time.Millisecond)
				}
				mu.Lock()
				defer mu.Unlock()
				states[name] = []any{first, second}
				for _, alert := range one.fire {
					mustFire[alert] = true
				}
			})
		}
	})
	input, err := json.Marshal(states)
	if err != nil {
		t.Fatal(err)
	}
	var faults bytes.Buffer
	evaluate := exec.CommandContext(t.Context(), evaluator, "../../docs/alerts.yml")
	evaluate.Stdin, evaluate.Stderr = bytes.NewReader(input), &faults
	out, err := evaluate.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &faults)
	}
	var firing map[string]map[string]int
	if err := json.Unmarshal(out, &firing); err != nil {
		t.Fatal(err)
	}
	for name, one := range drills {
		got := slices.Sorted(maps.Keys(firing[name]))
		if slices.Sort(one.fire); !slices.Equal(got, one.fire) {
			t.Errorf("when %s, %v fire, want %v", name, firing[name], one.fire)
		}
	}
	rules, err := os.ReadFile("../../docs/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(rules, []byte("- alert:")); n != len(mustFire) {
		t.Errorf("%d rules, and drills for %d", n, len(mustFire))
	}
}

// webhooks delivers ten to the address with this secret.
func (d *drill) webhooks(secret, body string) {
	d.Helper()
	for range 10 {
		answer, err := (&http.Client{Timeout: time.Minute}).Post(d.address+"/hooks/caminvoice/"+secret, "application/json", strings.NewReader(body))
		if err != nil {
			d.Fatal(err)
		}
		answer.Body.Close()
	}
}

// letter asks for a letter while nothing listens at the mail server's address.
func (d *drill) letter() {
	d.Helper()
	dbtest.User(d.T, d.database.Open(d.T), audit.RoleMerchant, "sok@shop.example", "correct horse battery", "CH168 Shop")
	d.serve("SMTP_URL=smtp://127.0.0.1:1", "MAIL_FROM=Patchbay <no-reply@example.com>")
	form := url.Values{"email": {"sok@shop.example"}}
	request, err := http.NewRequestWithContext(d.Context(), http.MethodPost, d.address+"/password", strings.NewReader(form.Encode()))
	if err != nil {
		d.Fatal(err)
	}
	request.Host = "127.0.0.1:8080" // of PUBLIC_URL
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := (&http.Client{Timeout: time.Minute}).Do(request)
	if err != nil {
		d.Fatal(err)
	}
	answer.Body.Close()
}
