package sample

import (
	"context"
	"fmt"
	"strings"
	"time"

	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// Combination is a named page of the list of connections that must be quick however many connections there are.
type Combination struct {
	Name   string
	Filter db.Filter
	Deep   int // how many pages after the first
}

// Combinations returns the twenty that are measured. Their names, numbers and merchants are those of a connection that Fill
// wrote, another one for each nth.
func Combinations(ctx context.Context, d *db.DB, nth int) ([]Combination, error) {
	var khmer, tin, camInvoice, account, email, person, merchant string
	var id pg.ID
	err := d.Pool.QueryRow(ctx, `
		SELECT (SELECT x->>'value' FROM jsonb_array_elements(c.details) x WHERE x->>'key' = 'company_name_kh'),
			(SELECT x->>'value' FROM jsonb_array_elements(c.details) x WHERE x->>'key' = 'tin'), c.account_id, c.account_name,
			(SELECT x->>'value' FROM jsonb_array_elements(c.details) x WHERE x->>'key' = 'email'),
			(SELECT email FROM users WHERE merchant_id = m.id LIMIT 1), m.name, m.id
		FROM connections c JOIN merchants m ON m.id = c.merchant_id
		WHERE c.provider = 'caminvoice' AND c.environment = 'production' AND c.state = 'fine' AND c.connected_at < $1 ORDER BY c.connected_at DESC, c.id DESC OFFSET 4 LIMIT 1`,
		d.Now().Truncate(24*time.Hour).AddDate(0, -2, -17*nth)).Scan(&khmer, &tin, &camInvoice, &account, &email, &person, &merchant, &id)
	if err != nil {
		return nil, fmt.Errorf("choose rows for the combinations: %w", err)
	}
	khmerPart := string([]rune(khmer)[9:min(18, len([]rune(khmer)))]) // after the word for company
	there := status.Provider{SetUp: true, Environment: "production"}
	present := status.Providers{"caminvoice": there, "flexiti": there, "elecq": there, "bookings": there}
	lately := d.Now().AddDate(0, 0, -30)
	list := []Combination{
		{"all, latest first", db.Filter{}, 0},
		{"all, latest first, tenth page", db.Filter{}, 10},
		{"all by account's name", db.Filter{Sort: db.SortAccount}, 0},
		{"all by merchant, backwards", db.Filter{Sort: "-" + db.SortMerchant}, 1},
		{"worst health first", db.Filter{Sort: db.SortHealth}, 0},
		{"action needed, latest first", db.Filter{Health: status.ActionNeeded}, 0},
		{"lapsed at one provider", db.Filter{Provider: "flexiti", Problem: status.ProblemLapsed}, 0},
		{"what the platform must mend, longest unused first", db.Filter{Who: status.PartyPlatform, Sort: db.SortUsed}, 0},
		{"retrying in production, by merchant", db.Filter{Health: status.Retrying, Environment: "production", Sort: db.SortMerchant}, 0},
		{"one provider, connected lately, by name", db.Filter{Provider: "caminvoice", Since: lately, Sort: db.SortAccount}, 1},
		{"one merchant's, by health", db.Filter{Merchant: id, Sort: db.SortHealth}, 0},
		{"never used, latest first", db.Filter{Used: db.UsedNever}, 0},
		{"used today, one provider, by merchant", db.Filter{Used: db.UsedDay, Provider: "elecq", Sort: db.SortMerchant}, 0},
		{"three letters", db.Filter{Query: account[:3]}, 0},
		{"a company's whole name", db.Filter{Query: account}, 0},
		{"part of a Khmer name", db.Filter{Query: khmerPart}, 0},
		{"half a TIN", db.Filter{Query: tin[:5]}, 0},
		{"a CamInvoice ID, of what is fine", db.Filter{Query: camInvoice, Health: status.Fine}, 0},
		{"a user's e-mail, by merchant", db.Filter{Query: person, Sort: db.SortMerchant}, 0},
		{"a mistyped name", db.Filter{Query: mistyped(account)}, 0},
	}
	for i := range list {
		list[i].Filter.Providers = present
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

// Run reads the page and returns how long that page alone took and how many lines it has.
func (c Combination) Run(ctx context.Context, d *db.DB) (time.Duration, int, error) {
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
