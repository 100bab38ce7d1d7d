package account

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/pg"
)

// UserRow is a user as lists show them.
type UserRow struct {
	User
	Merchant  string    // its name; "" for staff
	SeenAt    time.Time // zero: never
	Sessions  int       // open ones
	LastAdmin bool      // the only admin who can sign in with a password
}

// UserQuery says which users a list shows. A zero field filters nothing.
type UserQuery struct {
	Merchant pg.ID
	Role     audit.Role
	Search   string // words of e-mail address and name
}

// maxGathered is how many users a search may find to be gathered and sorted; of more, a scan in the list's order soon fills a page.
const maxGathered = 1000

// ListUsers returns one page of users in the order of e-mail addresses, at most limit, from a cursor on.
func (s *Store) ListUsers(ctx context.Context, q UserQuery, cursor string, limit int) (pg.Page[UserRow], error) {
	return pg.Read(ctx, s.db.DB, func(ctx context.Context, from pg.Querier) (pg.Page[UserRow], error) {
		return s.page(ctx, from, q, cursor, limit)
	})
}

func (s *Store) page(ctx context.Context, db pg.Querier, q UserQuery, cursor string, limit int) (pg.Page[UserRow], error) {
	order := pg.Order{Name: "email", Key: "lower(u.email)", Type: "text", ID: "u.id"}
	from := order.ParseCursor(cursor)
	all, found, err := []UserRow(nil), maxGathered+1, error(nil)
	if q.Search != "" {
		all, found, err = s.listUsers(ctx, db, q, order, from, limit, ` LIMIT `+strconv.Itoa(maxGathered+1))
	}
	if err == nil && found > maxGathered {
		all, _, err = s.listUsers(ctx, db, q, order, from, limit, order.OrderBy(from)+` LIMIT `+strconv.Itoa(limit+1))
	}
	if err != nil {
		return pg.Page[UserRow]{}, err
	}
	return pg.CutPage(order, all, from, limit, func(u UserRow) (string, pg.ID) { return strings.ToLower(u.Email), u.ID }), nil
}

// listUsers finds users, at most as many as cut says, and returns a page of them and how many it found.
func (s *Store) listUsers(ctx context.Context, db pg.Querier, q UserQuery, order pg.Order, from pg.Cursor, limit int, cut string) (all []UserRow, found int, err error) {
	args := pg.Args{s.db.Now(), s.db.Now().Add(-SessionIdle), limit + 1}
	where := "true" + order.After(from, args.Add)
	if q.Merchant != (pg.ID{}) {
		where += ` AND u.merchant_id = ` + args.Add(q.Merchant)
	}
	if q.Role != "" {
		where += ` AND u.role = ` + args.Add(q.Role)
	}
	for _, word := range strings.Fields(q.Search) {
		where += ` AND u.words LIKE search_fold(` + args.Add(pg.Contains(word)) + `)`
	}
	all, err = pg.Collect(ctx, db, "read users", func(row pgx.CollectableRow) (UserRow, error) {
		var one UserRow
		return one, row.Scan(append(userTargets(&one.User), &one.Merchant, &one.SeenAt, &one.Sessions, &one.LastAdmin, &found)...)
	}, `
		WITH found AS MATERIALIZED (SELECT u.id, u.email FROM users u WHERE `+where+cut+`)
		SELECT `+userColumns+`, coalesce(m.name, ''), u.seen_at,
			(SELECT count(*) FROM sessions s WHERE s.user_id = u.id AND s.expires_at > $1 AND s.seen_at > $2),
			`+isPasswordAdmin+` AND NOT EXISTS (SELECT FROM users o WHERE `+isPasswordAdmin+` AND o.id <> u.id),
			(SELECT count(*) FROM found)
		FROM (SELECT u.id FROM found u`+order.OrderBy(from)+` LIMIT $3) f JOIN users u ON u.id = f.id LEFT JOIN merchants m ON m.id = u.merchant_id`+order.OrderBy(from), append([]any{pg.PlanWithArguments}, args...)...)
	return all, found, err
}

// UsersNamed returns the users of some merchants whose e-mail address or name contains one of the folded words, at most 200.
func (s *Store) UsersNamed(ctx context.Context, merchants []pg.ID, words []string) ([]User, error) {
	like := make([]string, len(words))
	for i, word := range words {
		like[i] = pg.Contains(word)
	}
	return pg.Read(ctx, s.db.DB, func(ctx context.Context, q pg.Querier) ([]User, error) {
		return pg.Collect(ctx, q, "read users called", func(row pgx.CollectableRow) (User, error) {
			var one User
			return one, row.Scan(userTargets(&one)...)
		}, `SELECT `+userColumns+` FROM users u WHERE u.merchant_id = ANY($1) AND u.words LIKE ANY($2) ORDER BY lower(u.email), u.id LIMIT 200`, merchants, like)
	})
}
