// Package search finds connections by what they, their merchants and the merchants' users are called, in Latin and in
// Khmer letters, and lists them filtered and sorted.
//
// One rule keeps every page quick, however common or rare what is asked for is. The first few thousand rows of the order
// asked for are walked, and each is judged. Whatever is common fills the page there. What does not is rare, so all of it is
// gathered by an index, sorted and cut. A search that finds nothing is done once more with the words of a dictionary that
// are most like those typed.
//
// A connection's document holds its searchable text and those of its sort keys that hardly ever change, apart from the
// connection, so that a change of state leaves the large text index alone. QueueDocument writes it in the caller's transaction.
package search

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// Filter says which connections a list shows, and in which order. A zero field filters nothing. As JSON it is stored with
// bulk work.
type Filter struct {
	Query       string           `json:"query,omitempty"` // names, numbers, e-mail, an id; words may be mistyped
	Provider    string           `json:"provider,omitempty"`
	Health      status.Health    `json:"health,omitempty"`
	Party       status.Party     `json:"party,omitempty"`
	Problem     status.Problem   `json:"problem,omitempty"`
	Environment string           `json:"environment,omitempty"`
	Merchant    pg.ID            `json:"merchant,omitzero"`
	Used        string           `json:"used,omitempty"`    // UsedDay, UsedWeek, UsedMonth or UsedNever
	Since       time.Time        `json:"since,omitzero"`    // connected then or later
	Lapsing     bool             `json:"lapsing,omitempty"` // access that ends within seven days unless the merchant reconnects, soonest first
	Bulk        pg.ID            `json:"bulk,omitzero"`     // part of this bulk work,
	Outcome     status.Outcome   `json:"outcome,omitempty"` // where it ended like this
	Nothing     bool             `json:"nothing,omitempty"` // shows nothing: the address could not be read, and must not show more than it asked for
	Sort        string           `json:"sort,omitempty"`    // one of the Sort constants, "-" before it reverses; "" is the latest connected first
	Only        []pg.ID          `json:"-"`                 // these connections, and those of these merchants
	Providers   status.Providers `json:"-"`                 // Health, Party and Problem follow from them
}

// has reports whether the filter shows connections of a status.
func (f Filter) has(s status.Status) bool {
	return (f.Health == "" || f.Health == s.Health) && (f.Party == "" || f.Party == s.Party) && (f.Problem == "" || f.Problem == s.Problem)
}

// byStatus reports whether the filter shows some statuses only.
func (f Filter) byStatus() bool { return f.Health != "" || f.Party != "" || f.Problem != "" }

// LapsingDays is how many days Filter.Lapsing looks ahead.
const LapsingDays = 7

// What a list is sorted by.
const (
	SortConnected = "connected"
	SortUsed      = "used" // to the day
	SortAccount   = "account"
	SortMerchant  = "merchant"
	SortHealth    = "health" // the worst first, within it the latest change
)

// When a connection was last used, to the day.
const (
	UsedDay   = "1d"
	UsedWeek  = "7d"
	UsedMonth = "30d"
	UsedNever = "never"
)

// Page is one page of connections.
type Page struct {
	pg.Page[pg.ID]
	Similar []string // nothing was found as typed: these words were searched instead
	About   int64    // how many connections the filter shows; -1 when they would have to be counted
}

// How many rows a walk looks at, and how many of which the document has to be looked up, which takes some five times as long. The more,
// the longer a search for something rare takes, and the fewer are left to be gathered.
var walked, walkedLookups = 8000, 5000

// IDs returns one page of the ids of the connections that the filter shows, at most limit, from where cursor stands; "" is
// the beginning, as is a cursor of another order.
func IDs(ctx context.Context, q pg.Querier, now time.Time, f Filter, cursor string, limit int) (Page, error) {
	page, err := ids(ctx, q, now, f, cursor, limit)
	if err != nil {
		return Page{}, fmt.Errorf("list connections: %w", err)
	}
	return page, nil
}

func ids(ctx context.Context, q pg.Querier, now time.Time, f Filter, cursor string, limit int) (Page, error) {
	if f.Nothing {
		return Page{}, nil
	}
	s := &search{q: q, now: now, filter: f, limit: limit}
	if err := s.prepare(ctx); err != nil {
		return Page{}, err
	}
	s.order = s.filter.order()
	from := s.order.ParseCursor(cursor)
	if from == (pg.Cursor{}) && len(s.terms) > 0 {
		// The pages of a search by similar words have cursors of their own order.
		if similar := s.similarOrder().ParseCursor(cursor); similar != (pg.Cursor{}) {
			return s.similarPage(ctx, similar)
		}
	}
	page, err := s.page(ctx, from)
	if err != nil || len(page.Rows) > 0 || from != (pg.Cursor{}) || len(s.terms) == 0 {
		return page, err
	}
	return s.similarPage(ctx, from)
}

// search is one question.
type search struct {
	q      pg.Querier
	now    time.Time
	filter Filter
	limit  int
	order  pg.Order
	from   pg.Cursor

	terms  []term
	facets []facet // nil: all of them
	total  int64   // connections
	shown  int64   // of which have the facets, or fewer: the counts do not tell problems apart
	empty  bool    // nothing can match

	args pg.Args // of the statement being built
}

// facet is what filters by provider, environment, health, party and problem come down to.
type facet struct{ provider, environment, state string }

type count struct {
	Provider, Environment string
	Health                status.Health
	Connections           int64
}

func (f Filter) order() pg.Order {
	if f.Lapsing && f.Only == nil && f.Bulk == (pg.ID{}) {
		return pg.Order{Name: "lapsing", Key: "c.refresh_expires_at", Type: "timestamptz", ID: "c.id"}
	}
	code, descending := strings.CutPrefix(f.Sort, "-")
	o := pg.Order{Name: f.Sort, ID: "c.id", Descending: descending}
	switch code {
	case SortUsed:
		o.Key, o.Type = "c.used_on", "date"
	case SortAccount:
		o.Key, o.Type = "c.account_key", "text"
	case SortMerchant:
		o.Key, o.Type = "c.merchant_key", "text"
	case SortHealth:
		o.Key, o.Type = "c.health_order", "bigint"
	case SortConnected:
		o.Key, o.Type = "c.connected_at", "timestamptz"
	default:
		o.Key, o.Type, o.Descending = "c.connected_at", "timestamptz", true
	}
	return o
}

// prepare reads the query and the counts of connections, from which the facets follow that the filter shows.
func (s *search) prepare(ctx context.Context) error {
	if id, err := pg.ParseID(strings.TrimSpace(s.filter.Query)); err == nil {
		s.filter.Query, s.filter.Only = "", []pg.ID{id}
	}
	var folded string
	if strings.TrimSpace(s.filter.Query) != "" {
		if err := s.q.QueryRow(ctx, `SELECT search_fold($1)`, s.filter.Query).Scan(&folded); err != nil {
			return err
		}
		s.terms = termsOf(folded)
		s.empty = len(s.terms) == 0 // only punctuation was typed
	}
	counts, err := pg.Collect(ctx, s.q, "read counts", pgx.RowToStructByPos[count], `SELECT provider, environment, health, sum(delta)::bigint FROM connection_counts GROUP BY 1, 2, 3`)
	if err != nil {
		return err
	}
	f := s.filter
	filtered := f.Provider != "" || f.Environment != "" || f.byStatus()
	for _, c := range counts {
		s.total += c.Connections
		if f.Provider != "" && f.Provider != c.Provider || f.Environment != "" && f.Environment != c.Environment {
			continue
		}
		states := slices.DeleteFunc(f.Providers[c.Provider].StatesWhere(c.Environment, f.has), func(state string) bool { return status.HealthOf(state) != c.Health })
		if len(states) > 0 {
			s.shown += c.Connections
		}
		for _, state := range states {
			s.facets = append(s.facets, facet{c.Provider, c.Environment, state})
		}
	}
	s.empty = s.empty || filtered && len(s.facets) == 0
	if !filtered {
		s.facets = nil
	}
	return nil
}

func (s *search) page(ctx context.Context, from pg.Cursor) (Page, error) {
	if s.from = from; s.empty {
		return Page{}, nil
	}
	found, err := s.find(ctx)
	if err != nil {
		return Page{}, err
	}
	page := Page{About: s.about(len(found))}
	cut := pg.CutPage(s.order, found, from, s.limit, func(r row) (string, pg.ID) { return r.key, r.id })
	page.Prev, page.Next = cut.Prev, cut.Next
	for _, r := range cut.Rows {
		page.Rows = append(page.Rows, r.id)
	}
	return page, nil
}

// similarPage searches with the words of the dictionary that are most like those typed.
func (s *search) similarPage(ctx context.Context, from pg.Cursor) (Page, error) {
	better, err := similarTerms(ctx, s.q, s.terms)
	if err != nil || better == nil {
		return Page{}, err
	}
	s.terms, s.order = better, s.similarOrder()
	page, err := s.page(ctx, from)
	for _, t := range s.terms {
		page.Similar = append(page.Similar, t[0])
	}
	return page, err
}

func (s *search) similarOrder() pg.Order {
	o := s.order
	o.Name += " similar"
	return o
}

// about returns how many connections the filter shows, where that is known: when all of them were found, or when the counts
// tell, which know neither problems nor words.
func (s *search) about(found int) int64 {
	f := s.filter
	switch {
	case s.from == (pg.Cursor{}) && found <= s.limit:
		return int64(found)
	case len(s.terms) > 0 || f.Only != nil || f.Bulk != (pg.ID{}) || f.Lapsing || f.Merchant != (pg.ID{}) || f.Used != "" || !f.Since.IsZero() || f.Problem != "" || f.Party != "":
		return -1
	}
	return s.shown
}
