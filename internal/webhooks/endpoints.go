package webhooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/dial"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
	"patchbay/internal/status"
)

// Endpoint is an address to which events are sent.
type Endpoint struct {
	ID           pg.ID
	URL          string
	Shown        string // the address for people: without its query, which may hold a secret
	Types        []Type // those that it takes; none: all
	CreatedAt    time.Time
	DeliveredAt  time.Time // the latest delivery, to the minute
	FailingSince time.Time // since when nothing but failure came back; zero otherwise
	FailedAt     time.Time // the latest failure
	FailedStatus int       // the HTTP status of its answer; 0 when none came
	FailedReason Reason    // why none came
	OffAt        time.Time // zero while it is on
	OffReason    OffReason
	RotatedUntil time.Time // until then the secret before the present one signs too; zero otherwise
	Waiting      int64     // deliveries that are to be sent
	Failed       int64     // and those that are not sent any more
	Unreadable   bool      // what is sealed of it does not open here: a key is missing, or it is damaged
}

// OffReason is why an endpoint was switched off.
type OffReason string

// The reasons.
const (
	OffGone    OffReason = "gone"    // it answered 410
	OffFailing OffReason = "failing" // it has failed for so long
	OffByAdmin OffReason = "admin"
)

// State is how an endpoint is, in one word.
type State string

// The states of an endpoint.
const (
	On         State = "on"
	Failing    State = "failing"
	Off        State = "off"
	Unreadable State = "unreadable"
)

// States lists every State.
func States() []State { return []State{On, Failing, Off, Unreadable} }

// State returns how the endpoint is.
func (e Endpoint) State() State {
	switch {
	case e.Unreadable:
		return Unreadable
	case !e.OffAt.IsZero():
		return Off
	case !e.FailingSince.IsZero():
		return Failing
	}
	return On
}

// maxEndpoints is how many endpoints there may be.
const maxEndpoints = 20

// rotation is for how long a secret signs beside the one that follows it.
const rotation = 24 * time.Hour

// sealedEndpoint is what is sealed of an endpoint: with the address beside the secret, nobody who can write rows can have events sent elsewhere.
type sealedEndpoint struct {
	URL    string    `json:"url"`
	Secret Secret    `json:"secret"`
	Before Secret    `json:"before,omitempty"`
	Until  time.Time `json:"until,omitzero"` // of Before
}

func sealedPlace(id pg.ID) seal.Place {
	return seal.Place{Table: "webhook_endpoints", Column: "sealed", Row: id}
}

func (w *Webhooks) seal(id pg.ID, s sealedEndpoint) ([]byte, error) {
	plain, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode an endpoint: %w", err)
	}
	return w.DB.Keyset.Seal(plain, sealedPlace(id))
}

func (w *Webhooks) unseal(id pg.ID, ciphertext []byte) (s sealedEndpoint, err error) {
	plain, err := w.DB.Unseal(ciphertext, sealedPlace(id))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(plain, &s); err != nil {
		return s, fmt.Errorf("decode an endpoint: %w", seal.ErrSealed)
	}
	return s, nil
}

// secrets are those that sign now.
func (s sealedEndpoint) secrets(now time.Time) []Secret {
	if s.Before != "" && now.Before(s.Until) {
		return []Secret{s.Secret, s.Before}
	}
	return []Secret{s.Secret}
}

// checkURL returns the address for people. It returns ErrURL for one that is never called.
func (w *Webhooks) checkURL(address string) (shown string, err error) {
	u, err := url.Parse(address)
	if err != nil || len(address) > 2000 || u.Hostname() == "" || u.User != nil || u.Fragment != "" || strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r > '~' }) ||
		u.Scheme != "https" && (u.Scheme != "http" || !w.Private) {
		return "", ErrURL
	}
	if literal, err := netip.ParseAddr(u.Hostname()); err == nil && !w.Private && !dial.IsPublic(literal) {
		return "", ErrURL
	}
	if u.RawQuery != "" {
		u.RawQuery = "…"
	}
	return u.Scheme + "://" + u.Host + u.EscapedPath() + strings.TrimSuffix("?"+u.RawQuery, "?"), nil
}

// endpointEvent returns the event of a change of an endpoint. It names the host alone: a path may be a secret.
func endpointEvent(kind status.Kind, by audit.Actor, shown string) audit.Event {
	e := audit.Event{Kind: kind, Actor: by}
	if u, err := url.Parse(shown); err == nil {
		e.Note = u.Host
	}
	return e
}

// Add adds an endpoint for events of some types, none for all, and returns it with its secret. It returns ErrURL, ErrType or ErrTooMany.
func (w *Webhooks) Add(ctx context.Context, by audit.Actor, address string, types []Type) (Endpoint, Secret, error) {
	shown, err := w.checkURL(address)
	if err != nil {
		return Endpoint{}, "", err
	}
	if slices.ContainsFunc(types, func(t Type) bool { return !t.known() }) {
		return Endpoint{}, "", ErrType
	}
	e := Endpoint{ID: pg.NewID(), URL: address, Shown: shown, CreatedAt: w.DB.Now()}
	for _, t := range Types() {
		if slices.Contains(types, t) {
			e.Types = append(e.Types, t)
		}
	}
	secret := newSecret()
	ciphertext, err := w.seal(e.ID, sealedEndpoint{URL: address, Secret: secret})
	if err != nil {
		return e, "", err
	}
	err = w.DB.Tx(ctx, func(tx pgx.Tx) error {
		var others int
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM (SELECT pg_advisory_xact_lock(hashtextextended('webhook endpoints', 0))) AS lock, webhook_endpoints`).Scan(&others); err != nil {
			return fmt.Errorf("count endpoints: %w", err)
		}
		if others >= maxEndpoints {
			return ErrTooMany
		}
		_, err := pg.Exec(ctx, tx, "add endpoint", `INSERT INTO webhook_endpoints (id, url, types, sealed, created_at) VALUES ($1, $2, $3, $4, $5)`,
			e.ID, shown, append([]Type{}, e.Types...), ciphertext, e.CreatedAt)
		if err != nil {
			return err
		}
		return w.DB.Audit.Add(ctx, tx, endpointEvent(status.WebhookAdded, by, shown))
	})
	return e, secret, err
}

const endpointColumns = `e.id, e.url, e.types, e.sealed, e.created_at, e.delivered_at, e.failing_since, e.failed_at, e.failed_status, e.failed_reason, e.off_at, e.off_reason`

func (w *Webhooks) scanEndpoint(row pgx.CollectableRow, more ...any) (e Endpoint, s sealedEndpoint, err error) {
	var ciphertext []byte
	err = row.Scan(append([]any{
		&e.ID, &e.Shown, &e.Types, &ciphertext, &e.CreatedAt, &e.DeliveredAt, &e.FailingSince, &e.FailedAt, &e.FailedStatus, &e.FailedReason, &e.OffAt, &e.OffReason,
	}, more...)...)
	if err != nil {
		return e, s, err
	}
	if s, err = w.unseal(e.ID, ciphertext); err != nil {
		return e, s, err
	}
	e.URL = s.URL
	if w.DB.Now().Before(s.Until) {
		e.RotatedUntil = s.Until
	}
	return e, s, nil
}

// Endpoints lists all endpoints, oldest first, also those that do not open. Of such only what is not sealed is known.
func (w *Webhooks) Endpoints(ctx context.Context) ([]Endpoint, error) {
	return pg.Collect(ctx, w.DB.Pool, "read endpoints", func(row pgx.CollectableRow) (Endpoint, error) {
		var waiting, failed int64
		e, _, err := w.scanEndpoint(row, &waiting, &failed)
		if errors.Is(err, seal.ErrUnknownKey) || errors.Is(err, seal.ErrSealed) {
			e.URL, e.Unreadable, err = e.Shown, true, nil
		}
		e.Waiting, e.Failed = waiting, failed
		return e, err
	}, `SELECT `+endpointColumns+`,
			(SELECT count(*) FROM webhook_deliveries d WHERE d.endpoint_id = e.id AND d.state = 'waiting'),
			(SELECT count(*) FROM webhook_deliveries d WHERE d.endpoint_id = e.id AND d.state = 'failed')
		FROM webhook_endpoints e ORDER BY e.created_at, e.id`)
}

// Endpoint returns one, without its counts of deliveries. It returns pg.ErrNotFound if there is none.
func (w *Webhooks) Endpoint(ctx context.Context, id pg.ID) (Endpoint, error) {
	return pg.One(ctx, w.DB.Pool, "read endpoint", func(row pgx.CollectableRow) (Endpoint, error) {
		e, _, err := w.scanEndpoint(row)
		return e, err
	}, `SELECT `+endpointColumns+` FROM webhook_endpoints e WHERE e.id = $1`, id)
}

// change locks an endpoint, has do change it, and writes the event. It returns pg.ErrNotFound if there is none.
func (w *Webhooks) change(ctx context.Context, by audit.Actor, id pg.ID, kind status.Kind, do func(tx pgx.Tx, e Endpoint, s sealedEndpoint) error) (Endpoint, error) {
	var e Endpoint
	err := w.DB.Tx(ctx, func(tx pgx.Tx) error {
		var s sealedEndpoint
		_, err := pg.One(ctx, tx, "read endpoint", func(row pgx.CollectableRow) (_ struct{}, err error) {
			e, s, err = w.scanEndpoint(row)
			return struct{}{}, err
		}, `SELECT `+endpointColumns+` FROM webhook_endpoints e WHERE e.id = $1 FOR UPDATE`, id)
		if err != nil {
			return err
		}
		if err := do(tx, e, s); err != nil {
			return err
		}
		return w.DB.Audit.Add(ctx, tx, endpointEvent(kind, by, e.Shown))
	})
	return e, err
}

// Rotate gives an endpoint another secret. The one before signs beside it for a day, to the time that is returned.
func (w *Webhooks) Rotate(ctx context.Context, by audit.Actor, id pg.ID) (e Endpoint, secret Secret, err error) {
	secret = newSecret()
	until := w.DB.Now().Add(rotation)
	e, err = w.change(ctx, by, id, status.WebhookRotated, func(tx pgx.Tx, _ Endpoint, s sealedEndpoint) error {
		ciphertext, err := w.seal(id, sealedEndpoint{URL: s.URL, Secret: secret, Before: s.Secret, Until: until})
		if err != nil {
			return err
		}
		_, err = pg.Exec(ctx, tx, "rotate secret", `UPDATE webhook_endpoints SET sealed = $2 WHERE id = $1`, id, ciphertext)
		return err
	})
	e.RotatedUntil = until
	return e, secret, err
}

// SwitchOn has events sent to an endpoint again. What failed meanwhile is sent only if Resend asks for it.
func (w *Webhooks) SwitchOn(ctx context.Context, by audit.Actor, id pg.ID) (Endpoint, error) {
	return w.change(ctx, by, id, status.WebhookOn, func(tx pgx.Tx, _ Endpoint, _ sealedEndpoint) error {
		_, err := pg.Exec(ctx, tx, "switch endpoint on", `UPDATE webhook_endpoints SET off_at = NULL, off_reason = '', failing_since = NULL WHERE id = $1`, id)
		return err
	})
}

// SwitchOff has nothing sent to an endpoint by itself. What waits counts as failed.
func (w *Webhooks) SwitchOff(ctx context.Context, by audit.Actor, id pg.ID) (Endpoint, error) {
	return w.change(ctx, by, id, status.WebhookOff, func(tx pgx.Tx, _ Endpoint, _ sealedEndpoint) error {
		return w.switchOff(ctx, tx, id, OffByAdmin)
	})
}

func (w *Webhooks) switchOff(ctx context.Context, tx pgx.Tx, id pg.ID, why OffReason) error {
	if _, err := pg.Exec(ctx, tx, "switch endpoint off", `UPDATE webhook_endpoints SET off_at = $2, off_reason = $3 WHERE id = $1`, id, w.DB.Now(), why); err != nil {
		return err
	}
	_, err := pg.Exec(ctx, tx, "switch endpoint off", `UPDATE webhook_deliveries SET state = 'failed', status = 0, reason = $2 WHERE endpoint_id = $1 AND state = 'waiting'`, id, ReasonOff)
	return err
}

// Delete deletes an endpoint with its deliveries.
func (w *Webhooks) Delete(ctx context.Context, by audit.Actor, id pg.ID) (Endpoint, error) {
	return w.change(ctx, by, id, status.WebhookDeleted, func(tx pgx.Tx, _ Endpoint, _ sealedEndpoint) error {
		if _, err := pg.Exec(ctx, tx, "delete endpoint", `DELETE FROM webhook_deliveries WHERE endpoint_id = $1`, id); err != nil {
			return err
		}
		_, err := pg.Exec(ctx, tx, "delete endpoint", `DELETE FROM webhook_endpoints WHERE id = $1`, id)
		return err
	})
}

// SendTest sends an endpoint an event of the type Test, also if it is switched off, and returns the event's id.
func (w *Webhooks) SendTest(ctx context.Context, by audit.Actor, id pg.ID) (e Endpoint, event pg.ID, err error) {
	event = pg.NewID()
	e, err = w.change(ctx, by, id, status.WebhookTested, func(tx pgx.Tx, _ Endpoint, _ sealedEndpoint) error {
		now := w.DB.Now()
		_, err := pg.Exec(ctx, tx, "send a test", `INSERT INTO webhook_events (id, at, type, data) VALUES ($1, $2, $3, jsonb_build_object('endpoint', $4::uuid))`, event, now, Test, id)
		if err != nil {
			return err
		}
		_, err = pg.Exec(ctx, tx, "send a test", `INSERT INTO webhook_deliveries (id, event_id, endpoint_id, created_at, state) VALUES ($1, $2, $3, $4, 'waiting')`, pg.NewID(), event, id, now)
		return err
	})
	return e, event, err
}
