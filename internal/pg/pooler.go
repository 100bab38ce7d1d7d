package pg

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrStatementsLost is returned for an address behind which a pooler gives each transaction another session of Postgres's and keeps no
// prepared statements, while the address has them prepared.
var ErrStatementsLost = errors.New("a pooler such as pgbouncer, in transaction mode, stands between and keeps no prepared statements: add default_query_exec_mode=cache_describe to the address")

// poolerRounds is how often two connections are compared: a pooler that is busy may give both the same sessions as before by chance.
const poolerRounds = 10

// Pooled reports whether connections to an address share the sessions of Postgres, as they do behind a pooler in transaction
// mode: what one transaction sets, locks or listens to is another connection's in the next. It returns ErrStatementsLost if
// the address does not work there. Few connections at a quiet time would work in any mode, and lose statements under load.
func Pooled(ctx context.Context, address string) (bool, error) {
	config, err := ParseAddress(address)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var pair [2]*pgx.Conn
	for i := range pair {
		if pair[i], err = pgx.ConnectConfig(ctx, config.ConnConfig); err != nil {
			return false, fmt.Errorf("connect to Postgres: %w", err)
		}
		defer pair[i].Close(context.WithoutCancel(ctx))
	}
	one, other := pair[0], pair[1]
	shared := false
	for range poolerRounds {
		before, err := session(ctx, one)
		if err != nil {
			return false, err
		}
		tx, err := other.Begin(ctx)
		if err != nil {
			return false, err
		}
		theirs, err := session(ctx, other)
		if err != nil {
			return false, err
		}
		after, err := session(ctx, one)
		if err != nil {
			return false, err
		}
		if err := tx.Rollback(ctx); err != nil {
			return false, err
		}
		shared = shared || theirs == before || after != before
	}
	switch mode := config.ConnConfig.DefaultQueryExecMode; {
	case !shared, mode == pgx.QueryExecModeCacheDescribe:
		return shared, nil
	case mode == pgx.QueryExecModeDescribeExec: // the unnamed statement may be another's by the time that it is executed
		return shared, ErrStatementsLost
	}
	return shared, keepsStatements(ctx, one, other)
}

// keepsStatements returns ErrStatementsLost if a statement that one has prepared is not found while other holds its session. Newer
// poolers prepare it there too.
func keepsStatements(ctx context.Context, one, other *pgx.Conn) error {
	statement, err := one.Prepare(ctx, "patchbay_"+NewID().String(), `SELECT pg_backend_pid()`)
	if err != nil {
		return err
	}
	for range poolerRounds {
		tx, err := other.Begin(ctx)
		if err != nil {
			return err
		}
		var pid int
		err = one.QueryRow(ctx, statement.Name).Scan(&pid)
		if rolled := tx.Rollback(ctx); err == nil {
			err = rolled
		}
		if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) && pgErr.Code == statementMissing {
			return ErrStatementsLost
		}
		if err != nil {
			return err
		}
	}
	return nil
}

const statementMissing = "26000" // SQLSTATE invalid_sql_statement_name

// session returns which of Postgres's sessions a connection has for now.
func session(ctx context.Context, conn *pgx.Conn) (pid int, err error) {
	err = conn.QueryRow(ctx, `SELECT pg_backend_pid()`, pgx.QueryExecModeSimpleProtocol).Scan(&pid)
	return pid, err
}
