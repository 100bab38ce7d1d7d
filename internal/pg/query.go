package pg

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrNotFound is returned when a row does not exist or is not the caller's. The two are deliberately the same.
var ErrNotFound = errors.New("not found")

// Querier is what a pool, a connection and a transaction have in common.
type Querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// PlanWithArguments, before a statement's arguments, has Postgres plan it with them each time: for searches, where the best plan
// depends on how common the words are.
const PlanWithArguments = pgx.QueryExecModeCacheDescribe

// Args are the arguments of a statement that is put together.
type Args []any

// Add adds an argument and returns its placeholder.
func (a *Args) Add(v any) string {
	*a = append(*a, v)
	return "$" + strconv.Itoa(len(*a))
}

// Collect runs a query and scans every row. doing names the query in errors: "read keys".
func Collect[T any](ctx context.Context, q Querier, doing string, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	all, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	return all, nil
}

// Each runs a query, scans each row into the targets and calls do after it. doing names the query in errors.
func Each(ctx context.Context, q Querier, doing string, targets []any, do func() error, sql string, args ...any) error {
	rows, err := q.Query(ctx, sql, args...)
	if err == nil {
		_, err = pgx.ForEachRow(rows, targets, do)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// One runs a query and scans its first row. It returns ErrNotFound when there is none.
func One[T any](ctx context.Context, q Querier, doing string, scan pgx.RowToFunc[T], sql string, args ...any) (T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err == nil {
		var one T
		if one, err = pgx.CollectOneRow(rows, scan); err == nil {
			return one, nil
		}
	}
	var zero T
	if errors.Is(err, pgx.ErrNoRows) {
		return zero, ErrNotFound
	}
	return zero, fmt.Errorf("%s: %w", doing, err)
}

// Exec runs a statement and returns how many rows it affected.
func Exec(ctx context.Context, q Querier, doing, sql string, args ...any) (int64, error) {
	tag, err := q.Exec(ctx, sql, args...)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", doing, err)
	}
	return tag.RowsAffected(), nil
}

// NotFound turns pgx's error for no row into ErrNotFound and returns every other error as it is.
func NotFound(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

// Violates reports whether err is a breach of the named constraint or unique index.
func Violates(err error, constraint string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.ConstraintName == constraint
}

// ViolatesForeignKey reports whether a row was refused because one that it refers to is gone (foreign_key_violation): another process deleted it meanwhile.
func ViolatesForeignKey(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "23503"
}

// Contains is the LIKE pattern that finds text anywhere, in lower case; "" stays "".
func Contains(text string) string {
	text = strings.ToLower(strings.TrimSpace(text))
	if text == "" {
		return ""
	}
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(text) + "%"
}
