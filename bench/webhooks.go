package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/webhooks"
)

// working is how many connections are refreshed while webhooks tell of all the others.
const working = 1_000

// webhooks has all connections but some need action at once, and measures how webhooks tell of it while those that work are refreshed on
// demand, before and meanwhile.
func (b *bench) webhooks(ctx context.Context) error {
	s, err := b.sides(ctx)
	if err != nil {
		return err
	}
	defer s.stop()
	d, err := openDB(ctx, b.database, b.keyset, poolSize)
	if err != nil {
		return err
	}
	defer d.Close()
	setups, err := providers("")
	if err != nil {
		return err
	}
	merchant, err := d.AddMerchant(ctx, audit.System, db.Merchant{Name: "Bench of those that work"})
	if err != nil {
		return err
	}
	if err := addConnections(ctx, d, merchant.ID, setups[len(setups)-1].Connector.Info(), working); err != nil {
		return err
	}
	rows, err := d.Pool.Query(ctx, `SELECT id FROM connections WHERE merchant_id = $1`, merchant.ID)
	if err != nil {
		return err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return err
	}

	var mu sync.Mutex
	var last time.Time
	got, twice := map[string]bool{}, 0
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		id := r.Header.Get("webhook-id")
		if got[id] {
			twice++
		}
		got[id], last = true, time.Now()
	}))
	defer receiver.Close()
	hooks := webhooks.New(webhooks.Options{DB: d, Providers: connectors.Statuses(setups), Private: true})
	if _, _, err := hooks.Add(ctx, audit.System, receiver.URL, []webhooks.Type{webhooks.ConnectionActionNeeded}); err != nil {
		return err
	}
	response, err := http.Post(s.ours.address+"/send", "", nil)
	if err != nil {
		return err
	}
	response.Body.Close()

	refresh := s.request(http.MethodPost, s.ours.address, "/api/v1/connections/", "/refresh", ids)
	_, each := b.rounds()
	measure := func() (float64, error) { return load(ctx, s.client, each, refresh) }
	var before, meanwhile []float64
	for range 5 {
		rate, err := measure()
		if err != nil {
			return err
		}
		before = append(before, rate)
	}
	began := time.Now()
	tag, err := d.Pool.Exec(ctx, `UPDATE connections SET problem = 'rejected', problem_since = now() WHERE merchant_id <> $1 AND problem = '' AND disconnected_at IS NULL`, merchant.ID)
	if err != nil {
		return err
	}
	told, wrote := int(tag.RowsAffected()), time.Since(began)
	for arrived := 0; arrived < told; {
		rate, err := measure()
		if err != nil {
			return err
		}
		mu.Lock()
		arrived = len(got)
		mu.Unlock()
		if arrived < told { // all of this turn was meanwhile
			meanwhile = append(meanwhile, rate)
		}
		if time.Since(began) > 30*time.Minute {
			return errors.New("not all webhooks came within 30 minutes")
		}
	}
	mu.Lock()
	defer mu.Unlock()
	took := last.Sub(began)
	fmt.Fprintf(os.Stderr, "%d connections need action, written in %s; their webhooks came in %s, %d of them twice\n", told, wrote.Round(time.Millisecond), took.Round(time.Second), twice)
	pace := float64(told) / took.Seconds()
	b.add(fmt.Sprintf("webhooks of %d connections that need action at once", told), fmt.Sprintf("%d/s", webhooks.Rate), fmt.Sprintf("%.0f/s", pace), pace/webhooks.Rate, "at most 1", pace <= webhooks.Rate*1.01)
	alone, beside := median(before), median(meanwhile)
	b.add("refresh on demand meanwhile, against before", fmt.Sprintf("%.0f/s", alone), fmt.Sprintf("%.0f/s", beside), beside/alone, "0.90", beside/alone >= 0.90)
	return nil
}
