package db

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/pg"
	"patchbay/internal/status"
	"patchbay/internal/text"
)

// Merchant is a business that uses Patchbay.
type Merchant struct {
	ID         pg.ID
	ExternalID string // the platform's own id for it; "" if there is none
	Name       string
	Locale     string
	CreatedAt  time.Time
}

// Errors of merchants. ErrNoName is one of API keys too.
var (
	ErrNoName          = errors.New("a name is missing")
	ErrExternalIDTaken = errors.New("another merchant has this external id")
	ErrAmbiguousName   = errors.New("several merchants have this name: give the id of the one that is meant")
)

const merchantColumns = `m.id, coalesce(m.external_id, ''), m.name, m.locale, m.created_at`

func scanMerchant(row pgx.CollectableRow) (Merchant, error) {
	var m Merchant
	err := row.Scan(&m.ID, &m.ExternalID, &m.Name, &m.Locale, &m.CreatedAt)
	return m, err
}

// AddMerchant adds a merchant and fills in its id and time. It returns ErrNoName, text.ErrTooLong, and ErrExternalIDTaken if another
// merchant has its external id.
func (d *DB) AddMerchant(ctx context.Context, by audit.Actor, m Merchant) (Merchant, error) {
	err := d.Tx(ctx, func(tx pgx.Tx) (err error) {
		m, err = d.addMerchant(ctx, tx, by, m)
		return err
	})
	return m, err
}

func (d *DB) addMerchant(ctx context.Context, tx pgx.Tx, by audit.Actor, m Merchant) (Merchant, error) {
	if text.Length(m.Name) > text.MaxName || text.Length(m.ExternalID) > text.MaxName {
		return m, text.ErrTooLong
	}
	if m.Name, m.ExternalID = text.Name(m.Name), text.Name(m.ExternalID); m.Name == "" {
		return m, ErrNoName
	}
	if m.Locale == "" {
		m.Locale = "en"
	}
	m.ID, m.CreatedAt = pg.NewID(), d.Now()
	_, err := pg.Exec(ctx, tx, "add merchant", `INSERT INTO merchants (id, external_id, name, locale, created_at) VALUES ($1, nullif($2, ''), $3, $4, $5)`,
		m.ID, m.ExternalID, m.Name, m.Locale, m.CreatedAt)
	if pg.Violates(err, "merchants_external_id_key") {
		return m, ErrExternalIDTaken
	}
	if err != nil {
		return m, err
	}
	return m, d.Audit.Add(ctx, tx, audit.Event{Kind: status.MerchantAdded, MerchantID: m.ID, Note: m.Name, Actor: by})
}

// EnsureMerchant returns the merchant of this name, however it is written, and adds it if there is none. The transaction is the
// caller's, so that a merchant can be added together with its first user. It returns ErrNoName, text.ErrTooLong, and ErrAmbiguousName
// if several merchants have the name.
func (d *DB) EnsureMerchant(ctx context.Context, tx pgx.Tx, by audit.Actor, name string) (Merchant, error) {
	// The lock keeps two transactions from adding the same name.
	if _, err := pg.Exec(ctx, tx, "lock a merchant's name", `SELECT pg_advisory_xact_lock(hashtextextended('merchant ' || name_fold($1), 0))`, name); err != nil {
		return Merchant{}, err
	}
	m, err := d.merchant(ctx, tx, `name_fold(m.name) = name_fold($1)`, name)
	if errors.Is(err, pg.ErrNotFound) {
		return d.addMerchant(ctx, tx, by, Merchant{Name: name})
	}
	return m, err
}

// Merchant returns a merchant. It returns ErrNotFound if there is none with this id.
func (d *DB) Merchant(ctx context.Context, id pg.ID) (Merchant, error) {
	return d.merchant(ctx, d.Pool, `m.id = $1`, id)
}

// MerchantByExternalID returns the merchant with the platform's own id. It returns ErrNotFound if there is none.
func (d *DB) MerchantByExternalID(ctx context.Context, externalID string) (Merchant, error) {
	m, err := d.merchant(ctx, d.Pool, `m.external_id = $1`, text.Name(externalID))
	if errors.Is(err, pg.ErrNotFound) && text.Name(externalID) != externalID { // kept as it was sent, before ids were names
		return d.merchant(ctx, d.Pool, `m.external_id = $1`, externalID)
	}
	return m, err
}

// MerchantByName returns the merchant with this name or external id. It returns ErrNotFound if there is none, and ErrAmbiguousName if
// there are several, also when it is the name of one and the external id of another.
func (d *DB) MerchantByName(ctx context.Context, name string) (Merchant, error) {
	return d.merchant(ctx, d.Pool, `(name_fold(m.name) = name_fold($1) OR m.external_id = $1)`, text.Name(name))
}

func (d *DB) merchant(ctx context.Context, q pg.Querier, where string, value any) (Merchant, error) {
	found, err := pg.Collect(ctx, q, "read merchant", scanMerchant, `SELECT `+merchantColumns+` FROM merchants m WHERE `+where+` LIMIT 2`, value)
	switch {
	case err != nil:
		return Merchant{}, err
	case len(found) == 0:
		return Merchant{}, pg.ErrNotFound
	case len(found) > 1:
		return Merchant{}, ErrAmbiguousName
	}
	return found[0], nil
}

// MerchantRow is a merchant as lists show it.
type MerchantRow struct {
	Merchant
	People      int
	Connections []Count
}

// InHealth returns how many of the merchant's connections are in a health.
func (r MerchantRow) InHealth(h status.Health, providers status.Providers) (n int64) {
	for _, c := range r.Connections {
		if c.CurrentHealth(providers) == h {
			n += c.Connections
		}
	}
	return n
}

// ListMerchants returns one page of the merchants whose name or external id has the words of query, by name, at most limit,
// from a cursor on.
func (d *DB) ListMerchants(ctx context.Context, query, cursor string, limit int) (pg.Page[MerchantRow], error) {
	return pg.Read(ctx, d.DB, func(ctx context.Context, q pg.Querier) (pg.Page[MerchantRow], error) {
		return listMerchants(ctx, q, query, cursor, limit)
	})
}

func listMerchants(ctx context.Context, q pg.Querier, query, cursor string, limit int) (pg.Page[MerchantRow], error) {
	order := pg.Order{Name: "name", Key: "lower(m.name)", Type: "text", ID: "m.id"}
	from := order.ParseCursor(cursor)
	args := pg.Args{limit + 1}
	where := "true" + order.After(from, args.Add)
	for _, word := range strings.Fields(query) {
		where += ` AND m.words LIKE search_fold(` + args.Add(pg.Contains(word)) + `)`
	}
	keys := map[pg.ID]string{}
	all, err := pg.Collect(ctx, q, "read merchants", func(row pgx.CollectableRow) (MerchantRow, error) {
		var m MerchantRow
		var key string
		err := row.Scan(&m.ID, &m.ExternalID, &m.Name, &m.Locale, &m.CreatedAt, &m.People, &m.Connections, &key)
		for i, c := range m.Connections {
			m.Connections[i].Health = status.HealthOf(string(c.Health))
		}
		keys[m.ID] = key
		return m, err
	}, `
		SELECT `+merchantColumns+`, (SELECT count(*) FROM users u WHERE u.merchant_id = m.id),
			(SELECT coalesce(jsonb_agg(n), '[]') FROM (
				SELECT provider AS "Provider", environment AS "Environment", state AS "Health", count(*) AS "Connections"
				FROM connections WHERE merchant_id = m.id GROUP BY 1, 2, 3) n),
			lower(m.name)
		FROM (SELECT m.id, m.external_id, m.name, m.locale, m.created_at FROM merchants m WHERE `+where+order.OrderBy(from)+` LIMIT $1) m`+order.OrderBy(from), append([]any{pg.PlanWithArguments}, args...)...)
	if err != nil {
		return pg.Page[MerchantRow]{}, err
	}
	return pg.CutPage(order, all, from, limit, func(m MerchantRow) (string, pg.ID) { return keys[m.ID], m.ID }), nil
}

// MerchantsNamed returns the merchants whose name or external id contains a text, at most 40.
func (d *DB) MerchantsNamed(ctx context.Context, text string) ([]pg.ID, error) {
	return pg.Read(ctx, d.DB, func(ctx context.Context, q pg.Querier) ([]pg.ID, error) {
		return pg.Collect(ctx, q, "find merchants", pgx.RowTo[pg.ID],
			`SELECT id FROM merchants WHERE words LIKE search_fold($1) ORDER BY lower(name), id LIMIT 40`, pg.Contains(text))
	})
}
