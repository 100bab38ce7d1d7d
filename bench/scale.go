package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/jackc/pgx/v5"

	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/handlers"
	"patchbay/internal/refresh"
	"patchbay/migrations"
)

// What the back office is measured at: a database with few connections and one with many.
const (
	fewConnections  = 10_000
	manyConnections = 1_000_000
	manyEvents      = 50 // for each connection
	scaleLimit      = 50 * time.Millisecond
	scaleSlack      = 5 * time.Millisecond
)

// scale measures the pages of the back office at few and at many connections: the 95th percentile of the server's time, from the
// request to the last byte of the page, sessions and events of look-ups included.
func (b *bench) scale(ctx context.Context) error {
	many, events := manyConnections, manyEvents
	if b.quick {
		many, events = 50_000, 5
	}
	before, err := b.scaleAt(ctx, "scale_few", fewConnections, events)
	if err != nil {
		return err
	}
	after, err := b.scaleAt(ctx, "scale_many", many, events)
	if err != nil {
		return err
	}
	worst, met := 0, true
	for i, one := range after {
		then := before[i].p95
		allowed := max(then*3/2, then+scaleSlack)
		good := one.p95 < scaleLimit && one.p95 <= allowed
		met = met && good
		if one.p95 > after[worst].p95 {
			worst = i
		}
		word := ""
		if !good {
			word = "MISSED"
		}
		fmt.Fprintf(os.Stderr, "  %-58s %8.1f ms at %d  %8.1f ms at %d  %s\n", one.name, milliseconds(then), fewConnections, milliseconds(one.p95), many, word)
	}
	name := fmt.Sprintf("back office at %d connections, slowest of %d pages (%s), p95", many, len(after), after[worst].name)
	b.add(name, fmt.Sprintf("%.1f ms at %d", milliseconds(before[worst].p95), fewConnections), fmt.Sprintf("%.1f ms", milliseconds(after[worst].p95)),
		float64(before[worst].p95)/float64(after[worst].p95), "50 ms; 1.5 times or 5 ms more", met)
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// timing is how long a page took.
type timing struct {
	name string
	p95  time.Duration
}

// scaleAt fills a database of its own and measures there. With -filled many connections are those of that database.
func (b *bench) scaleAt(ctx context.Context, name string, connections, events int) ([]timing, error) {
	address, keys := b.filled, os.Getenv("KEYSET")
	if b.filled == "" || name == "scale_few" {
		keys = b.keyset
		var err error
		if address, err = b.fill(ctx, name, connections, events); err != nil {
			return nil, err
		}
	}
	keyset, err := db.ParseKeyset(keys)
	if err != nil {
		return nil, err
	}
	d, err := db.Open(ctx, address, keyset, db.Options{MaxConns: poolSize})
	if err != nil {
		return nil, err
	}
	defer d.Close()
	pages, err := backOffice(ctx, d)
	if err != nil {
		return nil, err
	}
	site, err := office(d)
	if err != nil {
		return nil, err
	}
	cookie, err := supporter(ctx, d)
	if err != nil {
		return nil, err
	}
	rounds := 100
	if b.quick {
		rounds = 40
	}
	var all []timing
	for _, page := range pages {
		path, err := deep(site, cookie, page.path, page.deep)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", page.name, err)
		}
		var took []time.Duration
		for i := range rounds + 5 {
			began := time.Now()
			if _, err := visit(site, cookie, path); err != nil {
				return nil, fmt.Errorf("%s: %w", page.name, err)
			}
			if i >= 5 {
				took = append(took, time.Since(began))
			}
		}
		slices.Sort(took)
		all = append(all, timing{page.name, took[len(took)*95/100]})
	}
	return all, nil
}

func (b *bench) fill(ctx context.Context, name string, connections, events int) (string, error) {
	conn, err := pgx.Connect(ctx, b.database)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, `CREATE DATABASE `+name); err != nil {
		return "", err
	}
	address, err := url.Parse(b.database)
	if err != nil {
		return "", err
	}
	address.Path = "/" + name
	if _, err := migrations.Up(ctx, address.String()); err != nil {
		return "", err
	}
	keyset, err := db.ParseKeyset(b.keyset)
	if err != nil {
		return "", err
	}
	d, err := db.Open(ctx, address.String(), keyset, db.Options{MaxConns: poolSize})
	if err != nil {
		return "", err
	}
	defer d.Close()
	began := time.Now()
	told := time.Time{}
	err = d.Fill(ctx, db.Scale{Connections: connections, Events: events, Progress: func(what string, n int) {
		if time.Since(told) > 10*time.Second {
			told = time.Now()
			fmt.Fprintf(os.Stderr, "  filling %s: %d %s\n", name, n, what)
		}
	}})
	fmt.Fprintf(os.Stderr, "  filled with %d connections in %s\n", connections, time.Since(began).Round(time.Second))
	return address.String(), err
}

// office is Patchbay with every provider set up, in the environment in which most of the connections are.
func office(d *db.DB) (http.Handler, error) {
	sandbox := newSandbox("https://sandbox.example")
	settings := sandbox.Settings()
	for name := range settings {
		if strings.HasSuffix(name, "_ENVIRONMENT") {
			settings[name] = "production"
		}
	}
	setups, err := connectors.All(func(name string) string { return settings[name] }, sandbox.ConnectorsFile(), connectors.NewWire(nil, nil))
	if err != nil {
		return nil, err
	}
	public, err := url.Parse("http://patchbay.example")
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	return handlers.New(handlers.Options{
		DB: d, Providers: setups, Refresh: refresh.New(refresh.Options{DB: d, Log: log}), Log: log, PublicURL: public, SessionKeys: [][]byte{sessionKey},
	}).Routes(), nil
}

// page is one address of the back office.
type page struct {
	name, path string
	deep       int // how many pages after it
}

// backOffice are the pages measured: the twenty combinations of the list of connections, and the other lists.
func backOffice(ctx context.Context, d *db.DB) ([]page, error) {
	combinations, err := d.Combinations(ctx)
	if err != nil {
		return nil, err
	}
	var all []page
	for _, c := range combinations {
		all = append(all, page{c.Name, "/admin/connections?" + c.Filter.Values().Encode(), c.Deep})
	}
	lines, err := d.List(ctx, db.Filter{Provider: "caminvoice", Sort: "connected"}, "", 1)
	if err != nil {
		return nil, err
	}
	one := lines.All[0]
	yesterday := d.Now().AddDate(0, 0, -1).Format(time.DateOnly)
	return append(all,
		page{"overview", "/admin", 0},
		page{"a connection with its story", "/connections/" + one.ID.String(), 0},
		page{"a merchant with its people and connections", "/admin/merchants/" + one.MerchantID.String(), 0},
		page{"events: what people did", "/admin/events", 0},
		page{"events of one connection", "/admin/events?connection=" + one.ID.String(), 0},
		page{"events: yesterday's renewals in trouble", "/admin/events?kind=refresh&class=trouble&from=" + yesterday + "&to=" + yesterday, 1},
		page{"merchants by name", "/admin/merchants?q=mekong", 0},
	), nil
}

// supporter makes somebody of support who is signed in, and returns their cookie.
func supporter(ctx context.Context, d *db.DB) (string, error) {
	user, err := d.AddUser(ctx, db.System(), db.NewUser{Role: db.RoleSupport, Email: db.NewID().String() + "@platform.example", Password: "long enough for a bench"})
	if err != nil {
		return "", err
	}
	secret := db.NewSecret()
	if err := d.AddSession(ctx, secret, user.ID, "127.0.0.1", "bench"); err != nil {
		return "", err
	}
	return securecookie.New(sessionKey, nil).MaxAge(0).SetSerializer(securecookie.NopEncoder{}).Encode("session", []byte(secret))
}

func visit(site http.Handler, cookie, path string) (string, error) {
	r := httptest.NewRequest(http.MethodGet, "http://patchbay.example"+path, nil)
	r.AddCookie(&http.Cookie{Name: "session", Value: cookie})
	w := httptest.NewRecorder()
	site.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		return "", fmt.Errorf("%s answered %d", path, w.Code)
	}
	return w.Body.String(), nil
}

// deep turns pages as somebody who reads on.
func deep(site http.Handler, cookie, path string, pages int) (string, error) {
	next := regexp.MustCompile(`href="([^"]*)"[^>]*rel="next"|rel="next"[^>]*href="([^"]*)"`)
	for range pages {
		body, err := visit(site, cookie, path)
		if err != nil {
			return "", err
		}
		m := next.FindStringSubmatch(body)
		if m == nil {
			return path, nil
		}
		path = strings.ReplaceAll(m[1]+m[2], "&amp;", "&")
	}
	return path, nil
}
