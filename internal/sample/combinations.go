package sample

import (
	"context"
	"fmt"
	"strings"
	"time"

	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/search"
	"patchbay/internal/status"
)

// Combination is a named page of the list of connections that must be quick however many connections there are.
type Combination struct {
	Name   string
	Filter search.Filter
	Deep   int // how many pages after the first
}

// Combinations returns those that are measured. Their names, numbers and merchants are those of a connection that Fill wrote,
// another one for each nth.
func Combinations(ctx context.Context, d *db.DB, nth int) ([]Combination, error) {
	var khmer, tin, camInvoice, account, person, userName string
	var id pg.ID
	err := d.Pool.QueryRow(ctx, `
		SELECT (SELECT x->>'value' FROM jsonb_array_elements(c.details) x WHERE x->>'key' = 'company_name_kh'),
			(SELECT x->>'value' FROM jsonb_array_elements(c.details) x WHERE x->>'key' = 'tin'), c.account_id, c.account_name,
			u.email, u.name, c.merchant_id
		FROM connections c JOIN LATERAL (SELECT email, name FROM users WHERE merchant_id = c.merchant_id ORDER BY email LIMIT 1) u ON true
		WHERE c.provider = 'caminvoice' AND c.environment = 'production' AND c.state = 'fine' AND c.connected_at < $1 ORDER BY c.connected_at DESC, c.id DESC OFFSET 4 LIMIT 1`,
		d.Now().Truncate(24*time.Hour).AddDate(0, -2, -17*nth)).Scan(&khmer, &tin, &camInvoice, &account, &person, &userName, &id)
	if err != nil {
		return nil, fmt.Errorf("choose rows for the combinations: %w", err)
	}
	khmerPart := string([]rune(khmer)[9:min(18, len([]rune(khmer)))]) // after the word for company
	letters := []rune(khmer)
	slipped := len(letters) * 2 / 3
	khmerMistyped := string(letters[:slipped]) + string(letters[slipped+1:])
	word := strings.Fields(account)[min(1, nth%2)]
	given, family, _ := strings.Cut(userName, " ")
	common := []string{"limited", "phnom penh", "company", "battambang", "proprietorship"}[nth%5]
	there := status.Provider{SetUp: true, Environment: "production"}
	present := status.Providers{"caminvoice": there, "flexiti": there, "elecq": there, "bookings": there}
	lately := d.Now().AddDate(0, 0, -30)
	list := []Combination{
		{"all, latest first", search.Filter{}, 0},
		{"all, latest first, tenth page", search.Filter{}, 10},
		{"all by account's name", search.Filter{Sort: search.SortAccount}, 0},
		{"all by merchant, backwards", search.Filter{Sort: "-" + search.SortMerchant}, 1},
		{"worst health first", search.Filter{Sort: search.SortHealth}, 0},
		{"action needed, latest first", search.Filter{Health: status.ActionNeeded}, 0},
		{"lapsed at one provider", search.Filter{Provider: "flexiti", Problem: status.ProblemLapsed}, 0},
		{"what the platform must fix, longest unused first", search.Filter{Party: status.PartyPlatform, Sort: search.SortUsed}, 0},
		{"retrying in production, by merchant", search.Filter{Health: status.Retrying, Environment: "production", Sort: search.SortMerchant}, 0},
		{"one provider, connected lately, by name", search.Filter{Provider: "caminvoice", Since: lately, Sort: search.SortAccount}, 1},
		{"one merchant's, by health", search.Filter{Merchant: id, Sort: search.SortHealth}, 0},
		{"never used, latest first", search.Filter{Used: search.UsedNever}, 0},
		{"used today, one provider, by merchant", search.Filter{Used: search.UsedDay, Provider: "elecq", Sort: search.SortMerchant}, 0},
		{"three letters", search.Filter{Query: account[:3]}, 0},
		{"a company's whole name", search.Filter{Query: account}, 0},
		{"part of a Khmer name", search.Filter{Query: khmerPart}, 0},
		{"half a TIN", search.Filter{Query: tin[:5]}, 0},
		{"a CamInvoice ID, of what is fine", search.Filter{Query: camInvoice, Health: status.Fine}, 0},
		{"a user's e-mail, by merchant", search.Filter{Query: person, Sort: search.SortMerchant}, 0},
		{"a mistyped name", search.Filter{Query: mistyped(account)}, 0},

		{"one provider, first connected first", search.Filter{Provider: "bookings", Sort: search.SortConnected}, 1},
		{"sandbox, latest first", search.Filter{Environment: "sandbox"}, 1},
		{"disconnected, by account's name", search.Filter{Health: status.Disconnected, Sort: search.SortAccount}, 1},
		{"a problem in one environment, last used first", search.Filter{Problem: status.ProblemRevoked, Environment: "production", Sort: "-" + search.SortUsed}, 0},
		{"a word of a name", search.Filter{Query: word}, 0},
		{"a word of a name, first connected first", search.Filter{Query: word, Sort: search.SortConnected}, 0},
		{"a word of a name, by account's name", search.Filter{Query: word, Sort: search.SortAccount}, 0},
		{"a word of a name, by merchant", search.Filter{Query: word, Sort: search.SortMerchant}, 0},
		{"a word of a name, worst health first", search.Filter{Query: word, Sort: search.SortHealth}, 0},
		{"a word of a name, last used first", search.Filter{Query: word, Sort: "-" + search.SortUsed}, 0},
		{"a word of a name, of what is retrying", search.Filter{Query: word, Health: status.Retrying}, 0},
		{"a company's whole name, by account's name", search.Filter{Query: account, Sort: search.SortAccount}, 0},
		{"a very common word", search.Filter{Query: common}, 0},
		{"a whole Khmer name", search.Filter{Query: khmer}, 0},
		{"part of a Khmer name, by merchant", search.Filter{Query: khmerPart, Sort: search.SortMerchant}, 0},
		{"a mistyped Khmer name", search.Filter{Query: khmerMistyped}, 0},
		{"a user's given name", search.Filter{Query: given}, 0},
		{"a user's given name, by merchant", search.Filter{Query: given, Sort: search.SortMerchant}, 0},
		{"a user's whole name, mistyped", search.Filter{Query: mistyped(given+" "+family) + " " + family}, 0},
		{"a user's e-mail, last used first", search.Filter{Query: person, Sort: "-" + search.SortUsed}, 0},
		{"a number that nothing has", search.Filter{Query: "9" + tin[:9] + "77"}, 0},
		{"a word that nothing has", search.Filter{Query: "wk" + strings.ToLower(account[:2]) + "qzjx"}, 0},
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
	i := min(2, len(b)-2) // users may have short names
	b[i], b[i+1] = b[i+1], b[i]
	return string(b)
}

// Run reads the page and returns how long that page alone took and how many lines it has.
func (c Combination) Run(ctx context.Context, d *db.DB) (time.Duration, int, error) {
	at := ""
	for range c.Deep {
		page, err := d.Connections(ctx, c.Filter, nil, at, 50)
		if err != nil {
			return 0, 0, err
		}
		if page.Next == "" {
			break
		}
		at = page.Next
	}
	began := time.Now()
	page, err := d.Connections(ctx, c.Filter, nil, at, 50)
	return time.Since(began), len(page.Rows), err
}
