package db

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Combination is a page that must be quick however many connections there are, under a name. The same list is held to
// its plans by a test and measured by the bench.
type Combination struct {
	Name   string
	Filter Filter
	Deep   int // how many pages after the first
}

// Combinations are the twenty, made from what Fill made: names, numbers and merchants are those of a row, another for each
// nth.
func (d *DB) Combinations(ctx context.Context, nth int) ([]Combination, error) {
	var khmer, tin, camInvoice, account, email, person, merchant string
	var id ID
	err := d.pool.QueryRow(ctx, `
		SELECT (SELECT x->>'value' FROM jsonb_array_elements(c.details) x WHERE x->>'key' = 'company_name_kh'),
			(SELECT x->>'value' FROM jsonb_array_elements(c.details) x WHERE x->>'key' = 'tin'), c.account_id, c.account_name,
			(SELECT x->>'value' FROM jsonb_array_elements(c.details) x WHERE x->>'key' = 'email'),
			(SELECT email FROM users WHERE merchant_id = m.id LIMIT 1), m.name, m.id
		FROM connections c JOIN merchants m ON m.id = c.merchant_id
		WHERE c.provider = 'caminvoice' AND c.environment = 'production' AND c.state = 'fine' AND c.connected_at < $1 ORDER BY c.connected_at DESC, c.id DESC OFFSET 4 LIMIT 1`,
		d.Now().Truncate(24*time.Hour).AddDate(0, -2, -17*nth)).Scan(&khmer, &tin, &camInvoice, &account, &email, &person, &merchant, &id)
	if err != nil {
		return nil, fmt.Errorf("choose rows for the combinations: %w", notFound(err))
	}
	khmerPart := string([]rune(khmer)[9:min(18, len([]rune(khmer)))]) // after the word for company
	present := map[string]string{"caminvoice": "production", "flexiti": "production", "elecq": "production", "bookings": "production"}
	lately := d.Now().AddDate(0, 0, -30)
	list := []Combination{
		{"all, latest first", Filter{}, 0},
		{"all, latest first, tenth page", Filter{}, 10},
		{"all by account's name", Filter{Sort: SortAccount}, 0},
		{"all by merchant, backwards", Filter{Sort: "-" + SortMerchant}, 1},
		{"worst health first", Filter{Sort: SortHealth}, 0},
		{"action needed, latest first", Filter{Health: ActionNeeded}, 0},
		{"lapsed at one provider", Filter{Provider: "flexiti", Problem: ProblemLapsed}, 0},
		{"what the platform must mend, longest unused first", Filter{Who: "platform", Sort: SortUsed}, 0},
		{"retrying in production, by merchant", Filter{Health: Retrying, Environment: "production", Sort: SortMerchant}, 0},
		{"one provider, connected lately, by name", Filter{Provider: "caminvoice", Since: lately, Sort: SortAccount}, 1},
		{"one merchant's, by health", Filter{Merchant: id, Sort: SortHealth}, 0},
		{"never used, latest first", Filter{Used: UsedNever}, 0},
		{"used today, one provider, by merchant", Filter{Used: UsedDay, Provider: "elecq", Sort: SortMerchant}, 0},
		{"three letters", Filter{Query: account[:3]}, 0},
		{"a company's whole name", Filter{Query: account}, 0},
		{"part of a Khmer name", Filter{Query: khmerPart}, 0},
		{"half a TIN", Filter{Query: tin[:5]}, 0},
		{"a CamInvoice ID, of what is fine", Filter{Query: camInvoice, Health: Fine}, 0},
		{"a user's e-mail, by merchant", Filter{Query: person, Sort: SortMerchant}, 0},
		{"a mistyped name", Filter{Query: mistyped(account)}, 0},
	}
	for i := range list {
		list[i].Filter.Present = present
	}
	return list, nil
}

// mistyped swaps two letters in the longest word of a name.
func mistyped(name string) string {
	longest := ""
	for word := range strings.FieldsSeq(name) {
		if len(word) > len(longest) && !strings.ContainsAny(word, "0123456789") {
			longest = word
		}
	}
	b := []byte(longest)
	b[2], b[3] = b[3], b[2]
	return string(b)
}

// Run reads a combination's page and returns how long that page alone took and how many lines it had.
func (d *DB) Run(ctx context.Context, c Combination) (time.Duration, int, error) {
	at := ""
	for range c.Deep {
		page, err := d.List(ctx, c.Filter, at, 50)
		if err != nil {
			return 0, 0, err
		}
		if page.Next == "" {
			break
		}
		at = page.Next
	}
	began := time.Now()
	page, err := d.List(ctx, c.Filter, at, 50)
	return time.Since(began), len(page.All), err
}

// Explain returns the plans of a combination's statements, for the test that wants no table read whole.
func (d *DB) Explain(ctx context.Context, c Combination) (plans string, err error) {
	err = d.read(ctx, func(tx pgx.Tx) error {
		l, err := d.newList(ctx, tx, c.Filter)
		if err != nil {
			return err
		}
		l.limit = 50
		if _, err := l.enter(ctx); err != nil {
			return err
		}
		ids, err := l.ids(ctx)
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `EXPLAIN (ANALYZE, BUFFERS) `+ids, l.args...)
		if err != nil {
			return err
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		plans = strings.Join(lines, "\n")
		return err
	})
	return plans, err
}

// ExplainEvents returns the plan of a filter's first page over all the time there is.
func (d *DB) ExplainEvents(ctx context.Context, f EventFilter) (plan string, err error) {
	err = d.read(ctx, func(tx pgx.Tx) error {
		sql, args := f.statement(eventCursor{}, time.Time{}, d.Now().Add(time.Hour), 50)
		rows, err := tx.Query(ctx, `EXPLAIN (ANALYZE, BUFFERS) `+sql, args...)
		if err != nil {
			return err
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		plan = strings.Join(lines, "\n")
		return err
	})
	return plan, err
}
