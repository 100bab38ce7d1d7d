package webhooks

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/time/rate"

	"patchbay/internal/audit"
	"patchbay/internal/dial"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
	"patchbay/internal/status"
)

// How fast one process sends to one endpoint. Each endpoint has a queue of its own, so that none waits for another that is slow.
const (
	Concurrency = 8                // tries under way
	Rate        = 50               // tries a second
	Timeout     = 15 * time.Second // for an answer
)

const (
	claimTimeout   = 4 * Timeout         // after this another process tries what one that died has claimed
	disableAfter   = 5 * 24 * time.Hour  // of nothing but failure an endpoint is switched off
	retention      = 30 * 24 * time.Hour // how long events and deliveries are kept
	upkeepInterval = time.Minute         // how often reminders are looked for and what is old is dropped
)

// schedule is when a delivery that failed is tried again, after each try.
var schedule = []time.Duration{
	5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// Reason is why a try brought no answer, or why nothing was sent; "" when an answer came.
type Reason string

// The reasons.
const (
	ReasonTimeout     Reason = "timeout"
	ReasonUnreachable Reason = "unreachable"
	ReasonUnknownHost Reason = "unknown-host"
	ReasonCertificate Reason = "certificate"
	ReasonPrivate     Reason = "private-address"
	ReasonSealed      Reason = "sealed" // the endpoint does not open: it is damaged
	ReasonOff         Reason = "off"    // the endpoint was switched off
)

// Run sends what is due, until ctx is done and what is under way has ended. mail takes the mails to admins.
func (w *Webhooks) Run(ctx context.Context, mail notify.Queue) {
	w.mail = mail
	var queues sync.WaitGroup
	defer queues.Wait()
	var done time.Time
	for {
		if time.Since(done) > upkeepInterval {
			done = time.Now()
			if err := errors.Join(w.remind(ctx), w.dropOld(ctx)); err != nil && ctx.Err() == nil {
				w.Log.WarnContext(ctx, "upkeep of webhooks", "err", err)
			}
		}
		w.poll(ctx, &queues)
		select {
		case <-ctx.Done():
			return
		case <-time.After(w.pollInterval):
		}
	}
}

// poll looks once for what is due, and begins to send to the endpoints to which this process does not send yet.
func (w *Webhooks) poll(ctx context.Context, queues *sync.WaitGroup) {
	due, err := w.due(ctx)
	if err != nil && ctx.Err() == nil {
		w.Log.WarnContext(ctx, "webhooks", "err", err)
	}
	for _, endpoint := range due {
		if w.enter(endpoint) {
			queues.Go(func() {
				defer w.leave(endpoint)
				w.send(ctx, endpoint)
			})
		}
	}
}

// enter reports whether this process did not send to the endpoint before, and does from now on.
func (w *Webhooks) enter(endpoint pg.ID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy[endpoint] {
		return false
	}
	w.busy[endpoint] = true
	return true
}

func (w *Webhooks) leave(endpoint pg.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.busy, endpoint)
}

// due lists the endpoints to which something is to be sent.
func (w *Webhooks) due(ctx context.Context) ([]pg.ID, error) {
	return pg.Collect(ctx, w.DB.Pool, "read what is due", pgx.RowTo[pg.ID], `SELECT e.id FROM webhook_endpoints e
		WHERE EXISTS (SELECT FROM webhook_deliveries d WHERE d.endpoint_id = e.id AND d.state = 'waiting' AND d.due_at <= $1)`, w.DB.Now())
}

// send sends an endpoint what is due, until nothing is.
func (w *Webhooks) send(ctx context.Context, endpoint pg.ID) {
	var underWay sync.WaitGroup
	defer underWay.Wait()
	slots, pace := make(chan struct{}, Concurrency), rate.NewLimiter(Rate, Concurrency)
	for {
		select { // for the first
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		free := 1
	more:
		for {
			select {
			case slots <- struct{}{}:
				free++
			default:
				break more
			}
		}
		to, tries, err := w.claim(ctx, endpoint, free)
		if err != nil {
			if ctx.Err() == nil {
				w.Log.WarnContext(ctx, "webhooks", "endpoint", endpoint, "err", err)
			}
			return
		}
		for range free - len(tries) {
			<-slots
		}
		if len(tries) == 0 {
			return
		}
		for i, t := range tries {
			if pace.Wait(ctx) != nil {
				w.release(context.WithoutCancel(ctx), tries[i:])
				return
			}
			underWay.Go(func() {
				defer func() { <-slots }()
				ctx := context.WithoutCancel(ctx)
				answer := w.try(ctx, to, t)
				if err := w.record(ctx, endpoint, t, answer); err != nil {
					w.Log.WarnContext(ctx, "webhook not recorded", "delivery", t.id, "err", err) // it is sent once more
				}
			})
		}
	}
}

// try is a delivery that was claimed.
type try struct {
	id    pg.ID
	until time.Time // of the claim: when another process may send it, as its due_at says
	tries int       // before this one
	event event
	body  []byte
}

// claim takes up to n deliveries that are due. It returns nothing if there is no such endpoint, or if it is for another process: this one
// lacks the key that sealed it.
func (w *Webhooks) claim(ctx context.Context, endpoint pg.ID, n int) (to sealedEndpoint, tries []try, err error) {
	now := w.DB.Now()
	var ciphertext []byte
	err = w.DB.Pool.QueryRow(ctx, `SELECT sealed FROM webhook_endpoints WHERE id = $1`, endpoint).Scan(&ciphertext)
	if errors.Is(err, pgx.ErrNoRows) {
		return to, nil, nil
	}
	if err != nil {
		return to, nil, fmt.Errorf("read endpoint: %w", err)
	}
	to, err = w.unseal(endpoint, ciphertext)
	if errors.Is(err, seal.ErrUnknownKey) { // it waits for a process that has the key
		return to, nil, nil
	}
	if err != nil {
		w.Log.ErrorContext(ctx, "an endpoint of webhooks does not open", "endpoint", endpoint, "err", err)
		to = sealedEndpoint{} // nothing is sent
	}
	tries, err = pg.Collect(ctx, w.DB.Pool, "claim deliveries", func(row pgx.CollectableRow) (try, error) {
		var t try
		err := row.Scan(&t.id, &t.until, &t.tries, &t.event.ID, &t.event.At, &t.event.Type, &t.event.Merchant, &t.event.Connection, &t.event.Sequence, &t.event.Data)
		return t, err
	}, `
		WITH due AS (
			SELECT id FROM webhook_deliveries WHERE endpoint_id = $1 AND state = 'waiting' AND due_at <= $2
			ORDER BY due_at, created_at LIMIT $3 FOR UPDATE SKIP LOCKED
		)
		UPDATE webhook_deliveries d SET due_at = $4 FROM due, webhook_events v WHERE d.id = due.id AND v.id = d.event_id
		RETURNING d.id, d.due_at, d.tries, v.id, v.at, v.type, v.merchant_id, v.connection_id, v.sequence, v.data`, endpoint, now, n, now.Add(claimTimeout))
	if err != nil {
		return to, nil, err
	}
	events := make([]event, len(tries))
	for i, t := range tries {
		events[i] = t.event
	}
	bodies, err := w.bodies(ctx, events)
	if err != nil {
		w.release(context.WithoutCancel(ctx), tries)
		return to, nil, err
	}
	for i := range tries {
		tries[i].body = bodies[tries[i].event.ID]
	}
	return to, tries, nil
}

// release gives back what was claimed and not sent, unless another process has claimed it since. What is not given back is due again when
// the claim ends.
func (w *Webhooks) release(ctx context.Context, tries []try) {
	if len(tries) == 0 {
		return
	}
	ids := make([]pg.ID, len(tries))
	for i, t := range tries {
		ids[i] = t.id
	}
	if _, err := pg.Exec(ctx, w.DB.Pool, "release deliveries", `UPDATE webhook_deliveries SET due_at = $2 WHERE id = ANY ($1) AND state = 'waiting' AND due_at = $3`,
		ids, w.DB.Now(), tries[0].until); err != nil {
		w.Log.WarnContext(ctx, "webhooks", "err", err)
	}
}

// answer is how a try ended.
type answer struct {
	status int
	reason Reason
	took   time.Duration
}

func (a answer) delivered() bool { return a.status >= 200 && a.status < 300 }

// try sends one message. Of the answer it keeps the status.
func (w *Webhooks) try(ctx context.Context, to sealedEndpoint, t try) answer {
	if to.URL == "" {
		return answer{reason: ReasonSealed}
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	now := w.DB.Now()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to.URL, bytes.NewReader(t.body))
	if err != nil {
		return answer{reason: ReasonUnreachable}
	}
	id := t.event.ID.String()
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "Patchbay")
	r.Header.Set("webhook-id", id)
	r.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	r.Header.Set("webhook-signature", sign(to.secrets(now), id, now, t.body))
	began := time.Now()
	response, err := w.client.Do(r)
	took := time.Since(began)
	if err != nil {
		return answer{reason: reasonOf(err), took: took}
	}
	_, _ = io.CopyN(io.Discard, response.Body, 4<<10) // for the connection to be used again
	response.Body.Close()
	return answer{status: response.StatusCode, took: took}
}

func reasonOf(err error) Reason {
	var dns *net.DNSError
	var timeout interface{ Timeout() bool }
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.Is(err, dial.ErrNotPublic):
		return ReasonPrivate
	case errors.As(err, &dns):
		return ReasonUnknownHost
	case errors.As(err, &authority), errors.As(err, &host), errors.As(err, &invalid):
		return ReasonCertificate
	case errors.As(err, &timeout) && timeout.Timeout():
		return ReasonTimeout
	}
	return ReasonUnreachable
}

// record writes how a try ended, unless the delivery was asked for again or claimed meanwhile: then that one says how it ended.
func (w *Webhooks) record(ctx context.Context, endpoint pg.ID, t try, a answer) error {
	now, millis := w.DB.Now(), int(a.took/time.Millisecond)
	if a.delivered() {
		w.tries.WithLabelValues("delivered").Inc()
		var b pgx.Batch
		b.Queue(`UPDATE webhook_deliveries SET state = 'delivered', tries = tries + 1, tried_at = $2, status = $3, reason = '', millis = $4
			WHERE id = $1 AND due_at = $5`, t.id, now, a.status, millis, t.until)
		b.Queue(`UPDATE webhook_endpoints SET failing_since = NULL, delivered_at = $2
			WHERE id = $1 AND (failing_since IS NOT NULL OR delivered_at IS NULL OR delivered_at < $3)`, endpoint, now, now.Add(-time.Minute))
		if err := w.DB.Pool.SendBatch(ctx, &b).Close(); err != nil {
			return fmt.Errorf("record a delivery: %w", err)
		}
		return nil
	}
	w.tries.WithLabelValues("failed").Inc()
	return w.DB.Tx(ctx, func(tx pgx.Tx) error {
		e, err := pg.One(ctx, tx, "record a failure", func(row pgx.CollectableRow) (e Endpoint, err error) {
			err = row.Scan(&e.Shown, &e.FailingSince, &e.OffAt)
			return e, err
		}, `UPDATE webhook_endpoints SET failing_since = coalesce(failing_since, $2), failed_at = $2, failed_status = $3, failed_reason = $4
			WHERE id = $1 RETURNING url, failing_since, off_at`, endpoint, now, a.status, a.reason)
		if errors.Is(err, pg.ErrNotFound) {
			return nil // deleted meanwhile
		}
		if err != nil {
			return err
		}
		// To one that is off a test, or what an admin asked for, is sent once.
		next := time.Time{}
		if t.tries < len(schedule) && e.OffAt.IsZero() && a.status != http.StatusGone {
			next = now.Add(schedule[t.tries])
		}
		_, err = pg.Exec(ctx, tx, "record a failure", `UPDATE webhook_deliveries SET tries = tries + 1, tried_at = $2, status = $3, reason = $4, millis = $5,
				state = CASE WHEN $6::timestamptz IS NULL THEN 'failed' ELSE 'waiting' END, due_at = coalesce($6, due_at)
			WHERE id = $1 AND state = 'waiting' AND due_at = $7`, t.id, now, a.status, a.reason, millis, next, t.until)
		if err != nil || !e.OffAt.IsZero() {
			return err
		}
		switch {
		case a.status == http.StatusGone:
			return w.giveUp(ctx, tx, endpoint, e.Shown, OffGone)
		case now.Sub(e.FailingSince) >= disableAfter:
			return w.giveUp(ctx, tx, endpoint, e.Shown, OffFailing)
		}
		return nil
	})
}

// giveUp switches an endpoint off and has admins mailed.
func (w *Webhooks) giveUp(ctx context.Context, tx pgx.Tx, endpoint pg.ID, shown string, why OffReason) error {
	if err := w.switchOff(ctx, tx, endpoint, why); err != nil {
		return err
	}
	e := endpointEvent(status.WebhookOff, audit.System, shown)
	e.Code = string(why)
	if err := w.DB.Audit.Add(ctx, tx, e); err != nil {
		return err
	}
	w.Log.WarnContext(ctx, "an endpoint of webhooks was switched off", "endpoint", endpoint, "reason", why)
	return notify.WebhookOff(ctx, tx, w.DB.Now(), endpoint, w.mail)
}
