package account

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
)

// UserRow is a user as lists show them.
type UserRow struct {
	User
	Merchant  string    // its name; "" for staff
	SeenAt    time.Time // zero: never
	Sessions  int       // open ones
	LastAdmin bool      // the only admin who can sign in
}

// UserQuery says which users a list shows, in order of e-mail address. What is zero filters nothing.
type UserQuery struct {
	Merchant      pg.ID
	Role          string
	Search        string // words of e-mail address and name
	After, Before string // e-mail addresses: the users that follow or precede this one
	Limit         int
}

// ListUsers returns one page of users.
func (s *Store) ListUsers(ctx context.Context, q UserQuery) ([]UserRow, error) {
	if q.Search != "" {
		// Up to so many are found by the index of words and sorted. When there are more, a walk in the order of addresses fills a page soon.
		const few = 1000
		if all, found, err := s.listUsers(ctx, q, ` LIMIT `+strconv.Itoa(few+1)); err != nil || found <= few {
			return all, err
		}
	}
	all, _, err := s.listUsers(ctx, q, q.order()+` LIMIT `+strconv.Itoa(q.Limit))
	return all, err
}

func (q UserQuery) order() string {
	if q.Before != "" {
		return ` ORDER BY lower(email) DESC`
	}
	return ` ORDER BY lower(email)`
}

// listUsers finds users, cut by limit, and returns a page of them and how many it found.
func (s *Store) listUsers(ctx context.Context, q UserQuery, limit string) (all []UserRow, found int, err error) {
	where, args := "true", []any{s.db.Now(), s.db.Now().Add(-SessionIdle), q.Limit}
	and := func(condition string, value any) {
		args = append(args, value)
		where += fmt.Sprintf(" AND "+condition, len(args))
	}
	if q.Merchant != (pg.ID{}) {
		and(`merchant_id = $%d`, q.Merchant)
	}
	if q.Role != "" {
		and(`role = $%d`, q.Role)
	}
	for _, word := range strings.Fields(q.Search) {
		and(`words LIKE search_fold($%d)`, pg.Contains(word))
	}
	if q.Before != "" {
		and(`lower(email) < $%d`, strings.ToLower(q.Before))
	} else if q.After != "" {
		and(`lower(email) > $%d`, strings.ToLower(q.After))
	}
	all, err = pg.Collect(ctx, s.db.Pool, "read users", func(row pgx.CollectableRow) (UserRow, error) {
		var one UserRow
		err := row.Scan(append(userTargets(&one.User), &one.Merchant, &one.SeenAt, &one.Sessions, &one.LastAdmin, &found)...)
		return one, err
	}, `
		WITH found AS MATERIALIZED (SELECT id, lower(email) AS email FROM users WHERE `+where+limit+`)
		SELECT `+userColumns+`, coalesce(m.name, ''), u.seen_at,
			(SELECT count(*) FROM sessions s WHERE s.user_id = u.id AND s.expires_at > $1 AND s.seen_at > $2),
			u.role = 'admin' AND u.locked_at IS NULL AND u.password_hash <> ''
			AND NOT EXISTS (SELECT FROM users o WHERE o.role = 'admin' AND o.locked_at IS NULL AND o.password_hash <> '' AND o.id <> u.id),
			(SELECT count(*) FROM found)
		FROM (SELECT id FROM found`+q.order()+` LIMIT $3) f JOIN users u ON u.id = f.id LEFT JOIN merchants m ON m.id = u.merchant_id`+
		strings.ReplaceAll(q.order(), "email", "u.email"), args...)
	if err != nil {
		return nil, 0, err
	}
	if q.Before != "" {
		slices.Reverse(all)
	}
	return all, found, nil
}
