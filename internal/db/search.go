package db

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"patchbay/internal/status"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
)

// Line is a connection as lists show it.
type Line struct {
	Connection
	MerchantName string
	ExternalID   string // the platform's own id of the merchant
	RefreshedAt  time.Time
	UsedAt       time.Time
}

// Lines are one page of a list.
type Lines struct {
	All        []Line
	Prev, Next string   // cursors; "" at either end
	Similar    []string // nothing was found as typed: these words were looked for instead
	Flow       *Flow    // the attempt that the query is the reference of; All is its connection
	About      int64    // how many the filter shows; -1 when only counting them would tell
}

// List returns one page of what the filter shows, at most limit lines, from where cursor stands ("" is the start; one
// that does not fit is taken for it). Its time hardly depends on how many connections there are: it either walks an
// index in the asked order until the page is full, or, when that would take long because few lines match, gathers
// those few and sorts them. It finds out which by looking at a few thousand index entries or at a sample.
func (d *DB) List(ctx context.Context, f Filter, cursor string, limit int) (Lines, error) {
	var page Lines
	if f.Nothing {
		return page, nil
	}
	err := d.read(ctx, func(tx pgx.Tx) error {
		l, err := d.newList(ctx, tx, f)
		if err != nil {
			return err
		}
		l.limit = limit
		l.from(cursor)
		for ; l.stage <= alike; l.stage++ {
			if worth, err := l.enter(ctx); err != nil || !worth {
				if err != nil {
					return err
				}
				continue
			}
			if page, err = l.page(ctx); err != nil || len(page.All) > 0 || l.key != nil {
				break
			}
		}
		return err
	})
	if err != nil {
		return Lines{}, fmt.Errorf("list connections: %w", err)
	}
	return page, nil
}

// Each calls do with everything the filter shows, in its order, in batches and without holding a transaction or a
// connection meanwhile: whoever downloads slowly holds up nobody.
func (d *DB) Each(ctx context.Context, f Filter, do func(Line) error) error {
	cursor := ""
	for {
		page, err := d.List(ctx, f, cursor, 1000)
		if err != nil {
			return err
		}
		for _, line := range page.All {
			if err := do(line); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		cursor = page.Next
	}
}

// read runs do in a read-only transaction whose plans keep to indexes: the planner takes each condition for
// independent of the others and of the order, and would now and then read the whole table for one page.
func (d *DB) read(ctx context.Context, do func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, d.Pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true),
			set_config('enable_hashjoin', 'off', true),
			set_config('enable_mergejoin', 'off', true), set_config('max_parallel_workers_per_gather', '0', true), set_config('plan_cache_mode', 'force_custom_plan', true)`)
		if err != nil {
			return err
		}
		return do(tx)
	})
}

// list is one question to the list, and what has been found out about it.
type list struct {
	tx     pgx.Tx
	filter Filter
	now    time.Time
	limit  int

	order      order
	descending bool
	facets     []facet // nil: all of them
	counts     []Count // of the connections there are
	total      int64
	terms      []term
	asked      []*asked // how the index of grams is asked for them, and
	guess      float64  // how many rows of the sample it should find
	theirs     []pg.ID  // the merchants whose people the terms name, some of them
	throng     bool     // when there are too many to list

	key  *string // keyset: the line the page begins after
	id   pg.ID
	back bool // the page before it

	stage  int    // how far from what was typed is looked
	walked int    // rows a walk looks at before it gives up
	weeks  string // the only ones that the index is asked for; "": all
	gather bool   // neither is done: all are gathered that match

	flow *Flow   // that the query names
	only []pg.ID // the query is the id of one of these connections or of their merchant

	args []any
}

// Stages of a search. The next is for when nothing was found.
const (
	asTyped       = iota // in what a connection and its merchant are called, or in what one of the merchant's people is called
	withMerchants        // some of it names one of the people, some their merchant
	alike                // words of the dictionary that are like those typed
)

type order struct{ column, kind string }

// A facet is what provider, environment and state filters come down to.
type facet struct{ provider, environment, state string }

func (d *DB) newList(ctx context.Context, tx pgx.Tx, f Filter) (*list, error) {
	l := &list{tx: tx, filter: f, now: d.Now()}
	if err := l.weigh(ctx); err != nil {
		return nil, err
	}
	if err := l.readQuery(ctx); err != nil {
		return nil, err
	}
	l.order, l.descending = f.order()
	if f.Lapsing && l.only == nil && f.Bulk == (pg.ID{}) {
		l.order, l.descending = order{"refresh_expires_at", "timestamptz"}, false
	}
	return l, nil
}

func (f Filter) order() (by order, descending bool) {
	code, descending := strings.CutPrefix(f.Sort, "-")
	switch code {
	case SortUsed:
		return order{"used_on", "date"}, descending
	case SortAccount:
		return order{"account_key", "text"}, descending
	case SortMerchant:
		return order{"merchant_key", "text"}, descending
	case SortHealth:
		return order{"health_order", "bigint"}, descending
	case SortConnected:
		return order{"connected_at", "timestamptz"}, descending
	default:
		return order{"connected_at", "timestamptz"}, true
	}
}

// readQuery finds out whether the query is an id, a reference, or words.
func (l *list) readQuery(ctx context.Context) error {
	f, tx := l.filter, l.tx
	if id, err := pg.ParseID(strings.TrimSpace(f.Query)); err == nil {
		l.only = []pg.ID{id}
		return nil
	}
	if reference := Reference(f.Query); reference != "" {
		rows, err := tx.Query(ctx, `SELECT `+flowColumns+` FROM flows f WHERE f.reference = $1`, reference)
		if err != nil {
			return err
		}
		switch flow, err := pgx.CollectExactlyOneRow(rows, scanFlow); {
		case err == nil:
			l.flow, l.only = &flow, []pg.ID{flow.ResultID, flow.ConnectionID}
			return nil
		case !errors.Is(err, pgx.ErrNoRows):
			return err
		}
	}
	if strings.TrimSpace(f.Query) != "" {
		var folded string
		if err := tx.QueryRow(ctx, `SELECT search_fold($1)`, f.Query).Scan(&folded); err != nil {
			return err
		}
		l.terms = termsOf(folded)
		if len(l.terms) == 0 {
			l.facets = []facet{} // nothing but signs was typed: nothing has them
		}
	}
	return nil
}

// enter makes ready for a stage of the search. It is not worth it when there would be nothing new to look for.
func (l *list) enter(ctx context.Context) (worth bool, err error) {
	l.gather = false
	switch l.stage {
	case withMerchants:
		if len(l.terms) < 2 {
			return false, nil
		}
		err = l.findPeople(ctx)
		return len(l.theirs) > 0, err
	case alike:
		if l.terms, err = corrected(ctx, l.tx, l.terms); err != nil || l.terms == nil {
			return false, err
		}
	}
	return true, l.findPeople(ctx)
}

// weigh asks the counters how many connections there are and which facets the filter keeps: never many.
func (l *list) weigh(ctx context.Context) error {
	f := l.filter
	filtered := f.Provider != "" || f.Health != "" || f.Who != "" || f.Problem != "" || f.Environment != ""
	if filtered {
		l.facets = []facet{}
	}
	rows, err := l.tx.Query(ctx, `SELECT provider, environment, health, sum(difference)::bigint FROM counters GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`)
	if err != nil {
		return err
	}
	if l.counts, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Count]); err != nil {
		return err
	}
	for i, c := range l.counts {
		l.total += c.Connections
		known := i > 0 && l.counts[i-1].Provider == c.Provider && l.counts[i-1].Environment == c.Environment
		if known || !filtered || (f.Provider != "" && f.Provider != c.Provider) || (f.Environment != "" && f.Environment != c.Environment) {
			continue
		}
		for _, state := range status.States() {
			as := status.Of(status.RowOf(c.Environment, state), f.Providers[c.Provider])
			if (f.Health == "" || f.Health == as.Health) && (f.Who == "" || f.Who == as.Party) && (f.Problem == "" || f.Problem == as.Problem) {
				l.facets = append(l.facets, facet{c.Provider, c.Environment, state})
			}
		}
	}
	return nil
}

// cursor is where a page begins, as it stands in an address.
type cursor struct {
	Sort string `json:"s"`
	Key  string `json:"k"`
	ID   pg.ID  `json:"i"`
	Back bool   `json:"b,omitempty"`

	Stage int `json:"w,omitempty"`
}

func (l *list) from(text string) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	var c cursor
	if err != nil || json.Unmarshal(raw, &c) != nil || c.Sort != l.filter.Sort || strings.ContainsRune(c.Key, 0) || !l.order.takes(c.Key) {
		return
	}
	l.key, l.id, l.back, l.stage = &c.Key, c.ID, c.Back, c.Stage
}

// timestampKey is how Postgres writes a timestamptz in a cursor's key.
const timestampKey = "2006-01-02 15:04:05.999999-07"

// takes says whether a cursor's key can be one of this order's, so that Postgres need not refuse it.
func (o order) takes(key string) bool {
	var err error
	switch o.kind {
	case "timestamptz":
		_, err = time.Parse(timestampKey, key)
	case "date":
		_, err = time.Parse(time.DateOnly, key)
	case "bigint":
		_, err = strconv.ParseInt(key, 10, 64)
	}
	return err == nil
}

func (l *list) cursorAt(c placed, back bool) string {
	raw, err := json.Marshal(cursor{Sort: l.filter.Sort, Key: c.key, ID: c.line.ID, Back: back, Stage: l.stage})
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// placed is a line with its place in the order.
type placed struct {
	line Line
	key  string
}

// page reads the page and one line more, which tells whether there is another page.
func (l *list) page(ctx context.Context) (Lines, error) {
	if l.facets != nil && len(l.facets) == 0 {
		return Lines{Flow: l.flow}, nil
	}
	found, err := l.read(ctx)
	partly := l.weeks != "" || (l.walked > 0 && l.judged() && int64(l.walked) < l.total)
	if err == nil && partly && len(found) <= l.limit {
		// What is asked for lies far down this order, all together. Better to gather it, however much it is.
		l.gather = true
		found, err = l.read(ctx)
	}
	if err != nil {
		return Lines{}, err
	}
	return l.cut(found), nil
}

func (l *list) read(ctx context.Context) ([]placed, error) {
	l.args, l.walked, l.weeks = nil, 0, ""
	ids, err := l.ids(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := l.tx.Query(ctx, `WITH page AS MATERIALIZED (`+ids+`)
		SELECT `+connectionColumns+`, m.name, coalesce(m.external_id, ''), g.refreshed_at, g.used_at, page.key::text
		FROM page JOIN connections c ON c.id = page.id JOIN merchants m ON m.id = c.merchant_id LEFT JOIN grants g ON g.connection_id = c.id
		ORDER BY page.key `+l.direction()+`, page.id `+l.direction(), l.args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (placed, error) {
		var p placed
		err := row.Scan(append(connectionTargets(&p.line.Connection), &p.line.MerchantName, &p.line.ExternalID, &p.line.RefreshedAt, &p.line.UsedAt, &p.key)...)
		return p, err
	})
}

// cut makes a page of the lines read, of which there may be one too many.
func (l *list) cut(found []placed) Lines {
	more := len(found) > l.limit
	if more {
		found = found[:l.limit]
	}
	if l.back {
		slices.Reverse(found)
	}
	page := Lines{Flow: l.flow, About: -1}
	if l.stage == alike {
		for _, t := range l.terms {
			page.Similar = append(page.Similar, t[0])
		}
	}
	for _, one := range found {
		page.All = append(page.All, one.line)
	}
	if len(found) > 0 {
		if (l.back && more) || (!l.back && l.key != nil) {
			page.Prev = l.cursorAt(found[0], true)
		}
		if l.back || more {
			page.Next = l.cursorAt(found[len(found)-1], false)
		}
	}
	if l.key == nil && !more {
		page.About = int64(len(found))
	} else if f := l.filter; len(l.terms) == 0 && f.Merchant == (pg.ID{}) && f.Used == "" && f.Since.IsZero() && f.Problem == "" && f.Bulk == (pg.ID{}) && !f.Lapsing && f.Who == "" {
		page.About = l.counted()
	}
	return page
}

// counted is what the counters say of the facets. They do not tell problems apart.
func (l *list) counted() (n int64) {
	if l.facets == nil {
		return l.total
	}
	held := map[facet]bool{}
	for _, f := range l.facets {
		held[facet{f.provider, f.environment, string(status.HealthOf(f.state))}] = true
	}
	for _, c := range l.counts {
		if held[facet{c.Provider, c.Environment, string(c.Health)}] {
			n += c.Connections
		}
	}
	return n
}
