package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/pprof"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/jackc/pgx/v5"

	"patchbay/internal/account"
	"patchbay/internal/connectors"
	"patchbay/internal/handlers"
	"patchbay/internal/jobs"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/sandbox"
	"patchbay/internal/webhooks"
)

// sessionKey signs the sessions of the benchmark.
var sessionKey = make([]byte, 32)

// pagesChild is what answers in a process that pages are measured with: the providers' sandbox, Patchbay with all of
// them, or the floor.
func pagesChild(ctx context.Context, what, database, keys, public string) (http.Handler, func(), error) {
	switch what {
	case "sandbox":
		return newSandbox(public), func() {}, nil
	case "bare":
		b, err := newBare(ctx, database, keys, os.Getenv("BENCH_PROVIDER"), public)
		if err != nil {
			return nil, nil, err
		}
		return b.routes(), b.pool.Close, nil
	case "site":
		return newSite(ctx, database, keys, os.Getenv("BENCH_PROVIDER"), public)
	}
	return nil, nil, fmt.Errorf("no child is called %s", what)
}

// newSandbox answers at once and proves every attempt, so that nobody has to be asked about it.
func newSandbox(address string) *sandbox.Sandbox {
	return sandbox.New(sandbox.Options{BaseURL: address, AnswerAtOnce: true, CamInvoice: sandbox.CamInvoiceOptions{EchoState: true}})
}

// newSite is Patchbay with every provider set up at the sandbox, its log into a file and a profile at /debug/pprof/.
func newSite(ctx context.Context, database, keys, provider, public string) (http.Handler, func(), error) {
	d, err := openDB(ctx, database, keys, poolSize)
	if err != nil {
		return nil, nil, err
	}
	file, err := os.CreateTemp("", "patchbay-bench-log-")
	if err != nil {
		return nil, nil, err
	}
	settings := newSandbox(provider)
	all := settings.Settings()
	setups, err := connectors.Load(func(name string) string { return all[name] }, settings.ConnectorsFile(), connectors.NewClient(nil, nil))
	if err != nil {
		return nil, nil, err
	}
	address, err := url.Parse(public)
	if err != nil {
		return nil, nil, err
	}
	var ready []connectors.Connector
	for _, setup := range setups {
		if setup.Connector != nil {
			ready = append(ready, setup.Connector)
		}
	}
	log := slog.New(slog.NewTextHandler(file, nil))
	accounts := account.New(d)
	engine := refresh.New(refresh.Options{DB: d, Connectors: ready, Log: log})
	later, err := jobs.New(jobs.Options{DB: d, Accounts: accounts, Refresh: engine, Log: log, Providers: setups, PublicURL: address})
	if err != nil {
		return nil, nil, err
	}
	pages := handlers.New(handlers.Options{
		DB: d, Accounts: accounts, Providers: setups, Refresh: engine, Webhooks: webhooks.New(webhooks.Options{DB: d, Providers: connectors.Statuses(setups), Log: log}), Jobs: later, Log: log, PublicURL: address, SessionKeys: [][]byte{sessionKey},
	})
	mux := http.NewServeMux()
	mux.Handle("/", pages.Routes())
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	return mux, func() {
		d.Close()
		os.Remove(file.Name())
	}, nil
}

// person is a merchant's user who is signed in on both sides.
type person struct {
	merchant pg.ID
	secret   pg.Secret
	cookie   string // as Patchbay signs it
}

// people makes n merchants with one signed-in user each.
func (b *bench) people(ctx context.Context, n int) ([]person, error) {
	conn, err := pgx.Connect(ctx, b.database)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	signer := securecookie.New(sessionKey, nil).MaxAge(0).SetSerializer(securecookie.NopEncoder{})
	now := time.Now()
	var all []person
	var merchants, users, sessions [][]any
	for range n {
		p := person{merchant: pg.NewID(), secret: pg.NewSecret()}
		if p.cookie, err = signer.Encode("session", []byte(p.secret)); err != nil {
			return nil, err
		}
		user := pg.NewID()
		name := "Shop " + user.String()
		merchants = append(merchants, []any{p.merchant, name, "en", now})
		users = append(users, []any{user, p.merchant, "merchant", user.String() + "@shop.example", "Sok Dara", now})
		sessions = append(sessions, []any{p.secret.Hash(), user, now, now, now.Add(account.SessionLifetime)})
		all = append(all, p)
	}
	for _, t := range []struct {
		name    string
		columns []string
		rows    [][]any
	}{
		{"merchants", []string{"id", "name", "locale", "created_at"}, merchants},
		{"users", []string{"id", "merchant_id", "role", "email", "name", "created_at"}, users},
		{"sessions", []string{"id_hash", "user_id", "created_at", "seen_at", "expires_at"}, sessions},
	} {
		if _, err := conn.CopyFrom(ctx, pgx.Identifier{t.name}, t.columns, pgx.CopyFromRows(t.rows)); err != nil {
			return nil, err
		}
	}
	d, err := openDB(ctx, b.database, b.keyset, 1)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if err := d.Tx(ctx, func(tx pgx.Tx) error { return d.SignAll(ctx, tx) }); err != nil {
		return nil, err
	}
	_, err = conn.Exec(ctx, `ANALYZE merchants, users, sessions`)
	return all, err
}

// stage is what pages are measured on: the sandbox in its own process, and either side.
type stage struct {
	sandbox, floor, ours *process
}

func (b *bench) stage(ctx context.Context) (s stage, err error) {
	if s.sandbox, err = b.start(ctx, "sandbox"); err != nil {
		return s, err
	}
	here := *b
	here.provider = s.sandbox.address
	if s.floor, err = here.start(ctx, "bare"); err != nil {
		s.stop()
		return s, err
	}
	if s.ours, err = here.start(ctx, "site"); err != nil {
		s.stop()
		return s, err
	}
	return s, s.register(ctx)
}

func (s stage) stop() {
	for _, p := range []*process{s.ours, s.floor, s.sandbox} {
		if p != nil {
			p.stop()
		}
	}
}

// register puts both sides' callbacks on the sandbox's list.
func (s stage) register(ctx context.Context) error {
	settings := newSandbox(s.sandbox.address).Settings()
	body := fmt.Sprintf(`{"white_list_redirect_urls": [%q, %q]}`, s.ours.address+"/connect/caminvoice/callback", s.floor.address+"/connect/caminvoice/callback")
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, settings["CAMINVOICE_API_URL"]+"/api/v1/configure/configure-redirect-url", strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.SetBasicAuth(settings["CAMINVOICE_CLIENT_ID"], settings["CAMINVOICE_CLIENT_SECRET"])
	return once(http.DefaultClient, r)
}

// page measures the connections page of a merchant with six connections over all providers.
func (b *bench) page(ctx context.Context) error {
	people, err := b.people(ctx, 1)
	if err != nil {
		return err
	}
	who := people[0]
	if err := b.connections(ctx, who.merchant); err != nil {
		return err
	}
	s, err := b.stage(ctx)
	if err != nil {
		return err
	}
	defer s.stop()
	c := client()
	get := func(address, cookie string) func(time.Duration) (float64, error) {
		return func(each time.Duration) (float64, error) {
			return load(ctx, c, each, func(int64) (*http.Request, error) {
				r, err := http.NewRequest(http.MethodGet, address+"/", nil)
				if err == nil {
					r.AddCookie(&http.Cookie{Name: "session", Value: cookie})
				}
				return r, err
			})
		}
	}
	stop := b.profile(ctx, s.ours)
	floor, ours, err := b.turns(ctx, costing("floor", s.floor, get(s.floor.address, string(who.secret))), costing("Patchbay", s.ours, get(s.ours.address, who.cookie)))
	if err = errors.Join(err, stop()); err != nil {
		return err
	}
	b.add("connections page, 16 callers", fmt.Sprintf("%.0f/s", floor), fmt.Sprintf("%.0f/s", ours), ours/floor, "0.50", ours/floor >= 0.5)
	return nil
}

// connections gives a merchant six connections over all providers.
func (b *bench) connections(ctx context.Context, merchant pg.ID) error {
	d, err := openDB(ctx, b.database, b.keyset, 2)
	if err != nil {
		return err
	}
	defer d.Close()
	businesses := sandbox.SampleBusinesses()
	for i, provider := range []string{"caminvoice", "caminvoice", "elecq", "flexiti", "bookings", "acme"} {
		business := businesses[i%len(businesses)]
		g := connectors.Grant{
			Token: connectors.Token{Access: "access", Lifetime: time.Hour, Refresh: "refresh"},
			Account: connectors.Account{ID: fmt.Sprint(provider, i), Name: business.CompanyNameEN, Details: []connectors.Detail{
				{Key: "company_name_en", Value: business.CompanyNameEN}, {Key: "company_name_kh", Value: business.CompanyNameKH}, {Key: "tin", Value: business.TIN},
			}},
		}
		if _, err := d.AddConnection(ctx, merchant, provider, "sandbox", g, d.Now(), connectors.Info{KeepAlive: time.Hour}); err != nil {
			return err
		}
	}
	return nil
}

// connects measures a whole attempt to connect CamInvoice, as a browser makes it: POST, to the provider, back with its
// answer, and the page of the outcome. Each is another merchant's first.
func (b *bench) connects(ctx context.Context) error {
	s, err := b.stage(ctx)
	if err != nil {
		return err
	}
	defer s.stop()
	n, each := b.rounds()
	people, err := b.people(ctx, 2*n*int(each/time.Second)*700)
	if err != nil {
		return err
	}
	next := make(chan person, len(people))
	for _, p := range people {
		next <- p
	}
	transport := client().Transport
	round := func(side *process, cookie func(person) string) func(time.Duration) (float64, error) {
		return func(each time.Duration) (float64, error) {
			return repeat(ctx, each, func(int64) error {
				var who person
				select {
				case who = <-next:
				default:
					return errors.New("there are no merchants left")
				}
				return connect(ctx, transport, side.address, cookie(who))
			})
		}
	}
	stop := b.profile(ctx, s.ours)
	floor, ours, err := b.turns(ctx, costing("floor", s.floor, round(s.floor, func(p person) string { return string(p.secret) })),
		costing("Patchbay", s.ours, round(s.ours, func(p person) string { return p.cookie })))
	if err = errors.Join(err, stop()); err != nil {
		return err
	}
	b.add("begin, callback, connect, 16 callers", fmt.Sprintf("%.0f/s", floor), fmt.Sprintf("%.0f/s", ours), ours/floor, "0.40", ours/floor >= 0.4)
	return nil
}

// connect is one browser's way through; anything but a page that says connected is an error.
func connect(ctx context.Context, transport http.RoundTripper, address, session string) error {
	home, err := url.Parse(address)
	if err != nil {
		return err
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	jar.SetCookies(home, []*http.Cookie{{Name: "session", Value: session}})
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address+"/connect/caminvoice", nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: transport, Jar: jar, Timeout: 30 * time.Second}).Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err == nil && (response.StatusCode != http.StatusOK || !strings.Contains(string(page), "CH168")) {
		err = fmt.Errorf("%s: %d, not connected", response.Request.URL.Path, response.StatusCode)
	}
	return err
}

// spent is how long a process of ours has had a processor, for figures that a busy machine does not blur.
func (p *process) spent() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// costing has do run and tells how much processor time a process took for each thing done.
func costing(what string, p *process, do func(time.Duration) (float64, error)) func(time.Duration) (float64, error) {
	return func(each time.Duration) (float64, error) {
		before, began := p.spent(), time.Now()
		rate, err := do(each)
		if took := time.Since(began); err == nil && rate > 0 {
			each := time.Duration(float64(p.spent()-before) / (rate * took.Seconds()))
			fmt.Fprintf(os.Stderr, "  %s: %.0f/s, %s of its processor time each\n", what, rate, each.Round(time.Microsecond))
		}
		return rate, err
	}
}

// profile writes what Patchbay's process spends its time on into the file that -profile names, with the measurement's
// whole time halved between the two sides.
func (b *bench) profile(ctx context.Context, p *process) (stop func() error) {
	if b.profileTo == "" {
		return func() error { return nil }
	}
	n, each := b.rounds()
	done := make(chan error, 1)
	go func() {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", p.address, 2*n*int(each/time.Second)), nil)
		if err != nil {
			done <- err
			return
		}
		r.Host = strings.TrimPrefix(p.address, "http://")
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			done <- err
			return
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err == nil {
			err = os.WriteFile(b.profileTo, body, 0o644)
		}
		done <- err
	}()
	return func() error { return <-done }
}
