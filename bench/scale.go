package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/jackc/pgx/v5"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/handlers"
	"patchbay/internal/jobs"
	"patchbay/internal/localpg"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/sample"
	"patchbay/internal/search"
	"patchbay/internal/webhooks"
	"patchbay/migrations"
)

// What the back office is measured at.
const (
	fewConnections  = 10_000
	manyConnections = 1_000_000
	manyEvents      = 50 // refreshes for each connection
	scaleLimit      = 50 * time.Millisecond
)

// scale measures the pages of the back office at many connections: the 95th percentile of the server's time, from the request
// to the last byte of the page, sessions and events of look-ups included. Few connections are measured in turns with them, for
// comparison.
func (b *bench) scale(ctx context.Context) error {
	many, events, rounds := manyConnections, manyEvents, 100
	if b.quick {
		many, events, rounds = 50_000, 5, 40
	}
	server, err := b.openLarge(ctx)
	if err != nil {
		return err
	}
	defer server.Stop()
	before, err := b.openOffice(ctx, fewConnections, events)
	if err != nil {
		return err
	}
	defer before.db.Close()
	after, err := b.openOffice(ctx, many, events)
	if err != nil {
		return err
	}
	defer after.db.Close()
	slowest, then, now := "", time.Duration(0), time.Duration(0)
	for i := range after.pages {
		one, err := inTurns(before, after, i, rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", after.pages[i].name, err)
		}
		word := ""
		if one[1] >= scaleLimit {
			word = "MISSED"
		}
		if one[1] > now {
			slowest, then, now = after.pages[i].name, one[0], one[1]
		}
		fmt.Fprintf(os.Stderr, "  %-58s %8.1f ms at %d  %8.1f ms at %d  %s\n", after.pages[i].name, milliseconds(one[0]), fewConnections, milliseconds(one[1]), many, word)
	}
	b.add(fmt.Sprintf("back office at %d connections, slowest of %d pages (%s), p95", many, len(after.pages), slowest),
		fmt.Sprintf("%.1f ms at %d", milliseconds(then), fewConnections), fmt.Sprintf("%.1f ms", milliseconds(now)),
		float64(then)/float64(now), "50 ms", now < scaleLimit)
	return b.exports(before, after)
}

// exports compares the memory that a short and a long CSV take.
func (b *bench) exports(before, after *backOffice) error {
	var lines [2]int
	var peak [2]uint64
	for i, office := range []*backOffice{before, after} {
		runtime.GC()
		n, took, most, err := office.export()
		if err != nil {
			return err
		}
		lines[i], peak[i] = n, most
		fmt.Fprintf(os.Stderr, "  CSV of %d lines in %s, at most %.1f MB on the heap\n", n, took.Round(time.Millisecond), float64(most)/1e6)
	}
	b.add(fmt.Sprintf("CSV of %d connections, most memory on the heap", lines[1]-1), fmt.Sprintf("%.1f MB at %d", float64(peak[0])/1e6, lines[0]-1),
		fmt.Sprintf("%.1f MB", float64(peak[1])/1e6), float64(peak[0])/float64(peak[1]), "1.5 times", peak[1] < peak[0]*3/2)
	return nil
}

// export streams the list of all connections as CSV and returns its lines, how long that took and the most memory that
// lived on the heap meanwhile.
func (o *backOffice) export() (lines int, took time.Duration, peak uint64, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	watched := make(chan uint64)
	go func() {
		var most uint64
		for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			if most = max(most, m.HeapAlloc); ctx.Err() != nil {
				tick.Stop()
				watched <- most
				return
			}
		}
	}()
	began := time.Now()
	w := &lineCounter{header: http.Header{}}
	o.site.ServeHTTP(w, o.request("/admin/connections.csv"))
	took = time.Since(began)
	cancel()
	if peak = <-watched; w.status > http.StatusOK {
		err = fmt.Errorf("the export answered %d", w.status)
	}
	return w.lines, took, peak, err
}

// lineCounter takes an answer and keeps nothing of it.
type lineCounter struct {
	header http.Header
	status int
	lines  int
}

func (w *lineCounter) Header() http.Header    { return w.header }
func (w *lineCounter) WriteHeader(status int) { w.status = status }
func (w *lineCounter) Write(b []byte) (int, error) {
	w.lines += bytes.Count(b, []byte("\n"))
	return len(b), nil
}

// openLarge starts a Postgres with memory for many connections: that of an earlier run, with its keyset, or a new one.
func (b *bench) openLarge(ctx context.Context) (*localpg.Server, error) {
	dir := b.keep
	if dir == "" {
		dir = filepath.Join(b.dir, "large")
	}
	server, err := localpg.Start(ctx, localpg.Options{Dir: dir, SharedBuffers: "1GB"})
	if err != nil {
		return nil, err
	}
	if b.database, err = server.EnsureDatabase(ctx, "bench"); err == nil {
		file := filepath.Join(dir, "keyset")
		if kept, missing := os.ReadFile(file); missing == nil {
			b.keyset = string(kept)
		} else {
			err = os.WriteFile(file, []byte(b.keyset), 0o600)
		}
	}
	if err != nil {
		server.Stop()
		return nil, err
	}
	return server, nil
}

// inTurns asks both for a page and returns their 95th percentiles.
func inTurns(before, after *backOffice, page, rounds int) (p95 [2]time.Duration, err error) {
	const warming = namesTried
	var took [2][]time.Duration
	for round := range rounds + warming {
		for i, office := range []*backOffice{before, after} {
			path, err := office.deep(office.pages[page], round)
			if err != nil {
				return p95, err
			}
			began := time.Now()
			if _, err := office.visit(path); err != nil {
				return p95, err
			}
			if round >= warming {
				took[i] = append(took[i], time.Since(began))
			}
		}
	}
	for i := range took {
		slices.Sort(took[i])
		p95[i] = took[i][len(took[i])*95/100]
	}
	return p95, nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// backOffice is Patchbay on one filled database, somebody of support who is signed in, and the pages they visit.
type backOffice struct {
	db     *db.DB
	site   http.Handler
	cookie string
	pages  []page
	turned map[string]string // addresses of pages after the first, by the first
}

func (b *bench) openOffice(ctx context.Context, connections, events int) (*backOffice, error) {
	address, err := b.filled(ctx, connections, events)
	if err != nil {
		return nil, err
	}
	o := &backOffice{turned: map[string]string{}}
	if o.db, err = openDB(ctx, address, b.keyset, poolSize); err != nil {
		return nil, err
	}
	if o.pages, err = pagesOf(ctx, o.db); err == nil {
		if o.site, err = siteOn(o.db); err == nil {
			o.cookie, err = supporter(ctx, o.db)
		}
	}
	if err != nil {
		o.db.Close()
	}
	return o, err
}

// filled is the address of a database with so many connections. It has its name only when it is full.
func (b *bench) filled(ctx context.Context, connections, events int) (string, error) {
	conn, err := pgx.Connect(ctx, b.database)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	address, err := url.Parse(b.database)
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("filled_%d_%d", connections, events)
	var there bool
	if err := conn.QueryRow(ctx, `SELECT count(*) > 0 FROM pg_database WHERE datname = $1`, name).Scan(&there); err != nil {
		return "", err
	}
	if there {
		address.Path = "/" + name
		_, err := migrations.Up(ctx, address.String())
		return address.String(), err
	}
	for _, statement := range []string{`DROP DATABASE IF EXISTS filling`, `CREATE DATABASE filling`} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return "", err
		}
	}
	address.Path = "/filling"
	began, told := time.Now(), time.Time{}
	err = b.fill(ctx, address.String(), sample.Scale{Connections: connections, Events: events, Progress: func(what string, n int) {
		if time.Since(told) > 10*time.Second {
			told = time.Now()
			fmt.Fprintf(os.Stderr, "  filling: %d %s after %s\n", n, what, time.Since(began).Round(time.Second))
		}
	}})
	if err != nil {
		return "", err
	}
	fmt.Fprintf(os.Stderr, "  filled with %d connections in %s\n", connections, time.Since(began).Round(time.Second))
	address.Path = "/" + name
	_, err = conn.Exec(ctx, `ALTER DATABASE filling RENAME TO `+name)
	return address.String(), err
}

func (b *bench) fill(ctx context.Context, address string, s sample.Scale) error {
	if _, err := migrations.Up(ctx, address); err != nil {
		return err
	}
	d, err := openDB(ctx, address, b.keyset, poolSize)
	if err != nil {
		return err
	}
	defer d.Close()
	return sample.Fill(ctx, d, s)
}

// siteOn is Patchbay with every provider set up, in the environment in which most of the connections are.
func siteOn(d *db.DB) (http.Handler, error) {
	sandbox := newSandbox("https://sandbox.example")
	settings := sandbox.Settings()
	for name := range settings {
		if strings.HasSuffix(name, "_ENVIRONMENT") {
			settings[name] = "production"
		}
	}
	setups, err := connectors.Load(func(name string) string { return settings[name] }, sandbox.ConnectorsFile(), connectors.NewClient(nil, nil))
	if err != nil {
		return nil, err
	}
	public, err := url.Parse("http://patchbay.example")
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	accounts := account.New(d)
	engine := refresh.New(refresh.Options{DB: d, Log: log})
	later, err := jobs.New(jobs.Options{DB: d, Accounts: accounts, Refresh: engine, Log: log, Providers: setups, PublicURL: public})
	if err != nil {
		return nil, err
	}
	return handlers.New(handlers.Options{
		DB: d, Accounts: accounts, Providers: setups, Refresh: engine, Webhooks: webhooks.New(webhooks.Options{DB: d, Providers: connectors.Statuses(setups), Log: log}), Log: log, PublicURL: public, SessionKeys: [][]byte{sessionKey}, Jobs: later,
	}).Routes(), nil
}

// page is one of the back office, asked for by several names and numbers in turn: some are found more easily than others.
type page struct {
	name  string
	paths []string
	deep  int // how many pages after the first
}

const namesTried = 50

// pagesOf are the pages measured: the named combinations of the list of connections, and the other lists.
func pagesOf(ctx context.Context, d *db.DB) ([]page, error) {
	var all []page
	for nth := range namesTried {
		combinations, err := sample.Combinations(ctx, d, nth)
		if err != nil {
			return nil, err
		}
		for i, c := range combinations {
			if nth == 0 {
				all = append(all, page{name: c.Name, deep: c.Deep})
			}
			all[i].paths = append(all[i].paths, "/admin/connections?"+handlers.FilterValues(c.Filter).Encode())
		}
	}
	lines, err := d.Connections(ctx, search.Filter{Provider: "caminvoice", Sort: "connected"}, nil, "", namesTried)
	if err != nil {
		return nil, err
	}
	connection, merchant, story := page{name: "a connection with its story"}, page{name: "a merchant with its people and connections"}, page{name: "events of one connection"}
	for _, line := range lines.Rows {
		connection.paths = append(connection.paths, "/connections/"+line.ID.String())
		merchant.paths = append(merchant.paths, "/admin/merchants/"+line.MerchantID.String())
		story.paths = append(story.paths, "/admin/events?connection="+line.ID.String())
	}
	yesterday := d.Now().AddDate(0, 0, -1).Format(time.DateOnly)
	return append(all, connection, merchant, story,
		page{"overview", []string{"/admin"}, 0},
		page{"events: what people did", []string{"/admin/events"}, 0},
		page{"events: yesterday's renewals in trouble", []string{"/admin/events?kind=refresh&class=trouble&from=" + yesterday + "&to=" + yesterday}, 1},
		page{"merchants by name", []string{"/admin/merchants?q=mekong", "/admin/merchants?q=kampot", "/admin/merchants?q=lotus"}, 0},
		page{"merchants", []string{"/admin/merchants"}, 1},
		page{"users", []string{"/admin/users?q=sokha", "/admin/users?q=dara"}, 0},
		page{"providers", []string{"/admin/providers"}, 0},
		page{"access that ends within a week", []string{"/admin/connections?lapsing=7d"}, 0},
	), nil
}

// supporter makes somebody of support who is signed in, and returns their cookie.
func supporter(ctx context.Context, d *db.DB) (string, error) {
	accounts := account.New(d)
	user, err := accounts.AddUser(ctx, audit.System, account.NewUser{Role: audit.RoleSupport, Email: pg.NewID().String() + "@platform.example", Password: "long enough for a bench"})
	if err != nil {
		return "", err
	}
	secret := pg.NewSecret()
	if err := accounts.AddSession(ctx, secret, user, "127.0.0.1", "bench"); err != nil {
		return "", err
	}
	return securecookie.New(sessionKey, nil).MaxAge(0).SetSerializer(securecookie.NopEncoder{}).Encode("session", []byte(secret))
}

func (o *backOffice) request(path string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://patchbay.example"+path, nil)
	r.AddCookie(&http.Cookie{Name: "session", Value: o.cookie})
	return r
}

func (o *backOffice) visit(path string) (string, error) {
	w := httptest.NewRecorder()
	o.site.ServeHTTP(w, o.request(path))
	if w.Code != http.StatusOK {
		return "", fmt.Errorf("%s answered %d", path, w.Code)
	}
	return w.Body.String(), nil
}

// deep is a page's nth address, after turning pages as somebody who reads on, the first time.
func (o *backOffice) deep(p page, nth int) (string, error) {
	first := p.paths[nth%len(p.paths)]
	if path, known := o.turned[first]; known {
		return path, nil
	}
	next := regexp.MustCompile(`href="([^"]*)"[^>]*rel="next"|rel="next"[^>]*href="([^"]*)"`)
	path := first
	for range p.deep {
		body, err := o.visit(path)
		if err != nil {
			return "", err
		}
		m := next.FindStringSubmatch(body)
		if m == nil {
			break
		}
		path = strings.ReplaceAll(m[1]+m[2], "&amp;", "&")
	}
	o.turned[first] = path
	return path, nil
}
