package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
	"patchbay/migrations"
)

// grantsCount is how many connections there are, on both sides.
func (b *bench) grantsCount() int {
	if b.quick {
		return 3_000
	}
	return 10_000
}

// prepare makes the tables and fills both sides with the same number of grants of the same size.
func (b *bench) prepare(ctx context.Context) (err error) {
	began := time.Now()
	if _, err := migrations.Up(ctx, b.database); err != nil {
		return err
	}
	if b.keyset, err = seal.NewKeyset(); err != nil {
		return err
	}
	d, err := openDB(ctx, b.database, b.keyset, poolSize)
	if err != nil {
		return err
	}
	defer d.Close()
	setups, err := providers("")
	if err != nil {
		return err
	}
	connector := setups[len(setups)-1].Connector
	merchant, err := d.AddMerchant(ctx, audit.System, db.Merchant{Name: "Bench"})
	if err != nil {
		return err
	}
	if err := addConnections(ctx, d, merchant.ID, connector.Info(), b.grantsCount()); err != nil {
		return err
	}
	f, err := newFloor(ctx, b.database, b.keyset, "")
	if err != nil {
		return err
	}
	defer f.pool.Close()
	if _, err := f.pool.Exec(ctx, floorTable); err != nil {
		return err
	}
	_, err = f.pool.CopyFrom(ctx, pgx.Identifier{"floor"}, []string{"id", "sealed", "expires_at"}, pgx.CopyFromSlice(b.grantsCount(), func(int) ([]any, error) {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, err
		}
		sealed, err := f.seal(floorGrant{Access: benchAccess(), Refresh: "r0"})
		return []any{id, sealed, time.Now().Add(time.Hour)}, err
	}))
	if err != nil {
		return err
	}
	_, err = f.pool.Exec(ctx, `VACUUM ANALYZE`)
	fmt.Fprintf(os.Stderr, "%d grants on either side, made in %s\n", b.grantsCount(), time.Since(began).Round(time.Second))
	return err
}

// benchAccess is a token as long as usual.
func benchAccess() string { return "0-" + base64.RawURLEncoding.EncodeToString(make([]byte, 450)) }

// addConnections adds connections of a merchant.
func addConnections(ctx context.Context, d *db.DB, merchant pg.ID, info connectors.Info, count int) error {
	access := benchAccess()
	var all sync.WaitGroup
	faults := make(chan error, poolSize)
	numbers := make(chan int)
	for range poolSize {
		all.Go(func() {
			for n := range numbers {
				account := fmt.Sprintf("account-%d", n)
				g := connectors.Grant{
					Token:   connectors.Token{Access: access, Type: "Bearer", Lifetime: time.Hour, Refresh: "r0", Scope: []string{"all"}},
					Account: connectors.Account{ID: account, Name: "Account " + account},
				}
				if _, err := d.AddConnection(ctx, merchant, "bench", "sandbox", g, d.Now(), info); err != nil {
					faults <- err
					return
				}
			}
		})
	}
	for n := range count {
		select {
		case numbers <- n:
		case err := <-faults:
			return err
		}
	}
	close(numbers)
	all.Wait()
	return nil
}

// sides starts the floor and Patchbay, with a key for programs and the ids of either side.
type sides struct {
	floor, ours      *process
	key              string
	floorIDs, ourIDs []uuid.UUID
	client           *http.Client
}

func (b *bench) sides(ctx context.Context) (*sides, error) {
	s := &sides{client: client()}
	d, err := openDB(ctx, b.database, b.keyset, 2)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	_, secret, err := d.AddAPIKey(ctx, audit.System, db.APIKey{Name: "bench", Scopes: db.Scopes()})
	if err != nil {
		return nil, err
	}
	s.key = "Bearer " + string(secret)
	for sql, into := range map[string]*[]uuid.UUID{`SELECT id FROM floor`: &s.floorIDs, `SELECT connection_id FROM grants`: &s.ourIDs} {
		rows, err := d.Pool.Query(ctx, sql)
		if err != nil {
			return nil, err
		}
		if *into, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID]); err != nil {
			return nil, err
		}
	}
	if s.floor, err = b.start(ctx, "floor"); err != nil {
		return nil, err
	}
	if s.ours, err = b.start(ctx, "ours"); err != nil {
		s.floor.stop()
		return nil, err
	}
	return s, nil
}

func (s *sides) stop() {
	s.floor.stop()
	s.ours.stop()
}

func (s *sides) request(method, address, before, after string, ids []uuid.UUID) func(int64) (*http.Request, error) {
	return func(n int64) (*http.Request, error) {
		r, err := http.NewRequest(method, address+before+ids[(n*7919)%int64(len(ids))].String()+after, nil)
		if err == nil {
			r.Header.Set("Authorization", s.key)
		}
		return r, err
	}
}

func (b *bench) compare(ctx context.Context, what, method, path string, want float64) error {
	s, err := b.sides(ctx)
	if err != nil {
		return err
	}
	defer s.stop()
	floor, ours, err := b.turns(ctx,
		func(each time.Duration) (float64, error) {
			return load(ctx, s.client, each, s.request(method, s.floor.address, "/"+path+"/", "", s.floorIDs))
		},
		func(each time.Duration) (float64, error) {
			return load(ctx, s.client, each, s.request(method, s.ours.address, "/api/v1/connections/", "/"+path, s.ourIDs))
		})
	if err != nil {
		return err
	}
	b.add(what, fmt.Sprintf("%.0f/s", floor), fmt.Sprintf("%.0f/s", ours), ours/floor, fmt.Sprintf("%.2f", want), ours/floor >= want)
	return nil
}

func (b *bench) tokenReads(ctx context.Context) error {
	return b.compare(ctx, "token read, 16 callers", http.MethodGet, "token", 0.80)
}

func (b *bench) refreshes(ctx context.Context) error {
	return b.compare(ctx, "refresh on demand, 16 callers", http.MethodPost, "refresh", 0.60)
}

// processes measures two and four of our processes on one Postgres against one of them; all are on this machine.
func (b *bench) processes(ctx context.Context) error {
	s, err := b.sides(ctx)
	if err != nil {
		return err
	}
	defer s.stop()
	ours := []*process{s.ours}
	for len(ours) < 4 {
		p, err := b.start(ctx, "ours")
		if err != nil {
			return err
		}
		defer p.stop()
		ours = append(ours, p)
	}
	for _, one := range []struct{ method, path string }{{http.MethodGet, "token"}, {http.MethodPost, "refresh"}} {
		var requests []func(int64) (*http.Request, error)
		for _, p := range ours {
			requests = append(requests, s.request(one.method, p.address, "/api/v1/connections/", "/"+one.path, s.ourIDs))
		}
		by := func(processes int64) func(time.Duration) (float64, error) {
			return func(each time.Duration) (float64, error) {
				return load(ctx, s.client, each, func(n int64) (*http.Request, error) { return requests[n%processes](n) })
			}
		}
		for _, processes := range []int64{2, 4} {
			alone, together, err := b.turns(ctx, by(1), by(processes))
			if err != nil {
				return err
			}
			b.add(fmt.Sprintf("%s by %d processes, against one", one.path, processes), fmt.Sprintf("%.0f/s", alone), fmt.Sprintf("%.0f/s", together), together/alone, "0.75", together/alone >= 0.75)
		}
	}
	return nil
}

// sweeps drains all grants, due at once, from a provider that answers at once.
func (b *bench) sweeps(ctx context.Context) error {
	floor, err := b.start(ctx, "floor")
	if err != nil {
		return err
	}
	defer floor.stop()
	n := b.grantsCount()
	var floors, own []float64
	for range 3 {
		// The floor may choose how many workers suit it best.
		best := 0.0
		for _, workers := range []int{16, 32} {
			took, err := sweepFloor(ctx, floor, workers)
			if err != nil {
				return err
			}
			best = max(best, float64(n)/took.Seconds())
		}
		floors = append(floors, best)
		took, err := b.drain(ctx, 1, n)
		if err != nil {
			return err
		}
		own = append(own, float64(n)/took.Seconds())
	}
	f, o := median(floors), median(own)
	b.add(fmt.Sprintf("sweep of %d due grants", n), fmt.Sprintf("%.0f/s", f), fmt.Sprintf("%.0f/s", o), o/f, "0.90", o/f >= 0.90)
	return nil
}

func sweepFloor(ctx context.Context, floor *process, workers int) (time.Duration, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("%s/sweep?workers=%d", floor.address, workers), nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	ns, err := strconv.ParseInt(string(text), 10, 64)
	return time.Duration(ns), err
}

// drain makes n grants due and lets so many processes of ours sweep them; it returns how long that took.
func (b *bench) drain(ctx context.Context, processes, n int) (time.Duration, error) {
	conn, err := pgx.Connect(ctx, b.database)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	for _, sql := range []string{
		`UPDATE grants SET refresh_at = now() + interval '1 day' WHERE refresh_at < now()`,
		fmt.Sprintf(`UPDATE grants SET refresh_at = now() - interval '1 second' WHERE connection_id IN (SELECT connection_id FROM grants LIMIT %d)`, n),
		`VACUUM ANALYZE grants`, `CHECKPOINT`,
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return 0, err
		}
	}
	var running []*process
	defer func() {
		for _, p := range running {
			p.stop()
		}
	}()
	for range processes {
		p, err := b.start(ctx, "ours", "sweeping")
		if err != nil {
			return 0, err
		}
		running = append(running, p)
	}
	began := time.Now()
	for _, p := range running {
		response, err := http.Post(p.address+"/go", "", nil)
		if err != nil {
			return 0, err
		}
		response.Body.Close()
	}
	for due := true; due; {
		time.Sleep(20 * time.Millisecond)
		err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM grants WHERE provider = 'bench' AND environment = 'sandbox' AND refresh_at < now() + interval '10 minutes')`).Scan(&due)
		if err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

// slowSweeps drains grants from a provider that takes 200 ms and allows 32 calls at once: by one process and by two.
func (b *bench) slowSweeps(ctx context.Context) error {
	if err := b.delay(200); err != nil {
		return err
	}
	defer b.delay(0)
	n := b.grantsCount() * 32 / 100
	ideal := time.Duration(n) * 200 * time.Millisecond / 32
	one, err := b.drain(ctx, 1, n)
	if err != nil {
		return err
	}
	two, err := b.drain(ctx, 2, n)
	if err != nil {
		return err
	}
	r := one.Seconds() / ideal.Seconds()
	b.add(fmt.Sprintf("sweep of %d, 200 ms, 32 slots", n), ideal.Round(time.Millisecond).String(), one.Round(time.Millisecond).String(), r, "at most 1.15", r <= 1.15)
	r = two.Seconds() / one.Seconds()
	b.add("the same by two processes, against one", one.Round(time.Millisecond).String(), two.Round(time.Millisecond).String(), r, "at most 1.05", r <= 1.05)
	return nil
}

func (b *bench) delay(ms int) error {
	response, err := http.Post(fmt.Sprintf("%s/delay?ms=%d", b.provider, ms), "", nil)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// memory is what the serving process keeps after reads, refreshes and pages.
func (b *bench) memory(ctx context.Context) error {
	s, err := b.sides(ctx)
	if err != nil {
		return err
	}
	defer s.stop()
	_, each := b.rounds()
	for _, m := range []struct{ method, before, after string }{
		{http.MethodGet, "/api/v1/connections/", "/token"}, {http.MethodPost, "/api/v1/connections/", "/refresh"}, {http.MethodGet, "/api/v1/connections?limit=200&merchant=", "&"},
	} {
		if _, err := load(ctx, s.client, 2*each, s.request(m.method, s.ours.address, m.before, m.after, s.ourIDs)); err != nil {
			return err
		}
	}
	var sizes []int64
	for range 3 {
		time.Sleep(time.Second)
		size, err := s.ours.resident()
		if err != nil {
			return err
		}
		sizes = append(sizes, size)
	}
	mb := float64(slices.Max(sizes)) / (1 << 20)
	b.add("memory of the serving process after load", "", fmt.Sprintf("%.0f MB", mb), mb/96, "under 96 MB", mb < 96)
	return nil
}
