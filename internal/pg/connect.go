package pg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrReadOnly is returned where the database answers and takes no writes: a standby, or one that is set to read-only.
var ErrReadOnly = errors.New("the database answers, but takes no writes: it is a standby in recovery, or set to read-only")

// minConns is the fewest connections a process works with: one is held for notifications, and jobs, the sweep and requests wait
// for each other on fewer.
const minConns = 4

// ParseAddress reads a Postgres address. Its error says how to correct the address and quotes nothing of it, since it holds
// a password.
func ParseAddress(address string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(address)
	if err != nil {
		return nil, errors.New("is not a Postgres address like postgres://user:password@host/database" + parameterAtFault(err) +
			". Signs in the password other than letters, digits and - . _ ~ must be percent-encoded (@ is %40, / is %2F, # is %23, ? is %3F, % is %25); " +
			"or give the password in PGPASSWORD as it is, or the whole address as host=… user=… password='…' dbname=…")
	}
	switch mode := config.ConnConfig.DefaultQueryExecMode; {
	case mode == pgx.QueryExecModeExec, mode == pgx.QueryExecModeSimpleProtocol:
		return nil, fmt.Errorf("has default_query_exec_mode=%s, with which ids and JSON cannot be sent: take default_query_exec_mode=cache_describe, which works through poolers such as pgbouncer too",
			strings.ReplaceAll(mode.String(), " ", "_"))
	case mode == pgx.QueryExecModeCacheStatement && config.ConnConfig.StatementCacheCapacity <= 0:
		return nil, errors.New("has statement_cache_capacity=0: leave it out, and take default_query_exec_mode=cache_describe where a pooler keeps no prepared statements")
	case config.ConnConfig.DescriptionCacheCapacity <= 0: // PlanWithArguments needs it in every mode
		return nil, errors.New("has description_cache_capacity=0: leave it out")
	case config.MaxConns < minConns:
		return nil, fmt.Errorf("has pool_max_conns=%d: at least %d are needed", config.MaxConns, minConns)
	}
	config.ConnConfig.ValidateConnect = WithoutPanic(config.ConnConfig.ValidateConnect) // of target_session_attrs
	return config, nil
}

// WithPassword returns a Postgres address with this password, which may hold any signs, in the place of its own. An address that cannot
// be read is returned as it is: ParseAddress says what is wrong with it.
func WithPassword(address, password string) string {
	if !strings.HasPrefix(address, "postgres://") && !strings.HasPrefix(address, "postgresql://") { // keywords and values: the last counts
		return address + " password='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(password) + "'"
	}
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	u.User = url.UserPassword(u.User.Username(), password)
	return u.String()
}

// parameterAtFault names the parameter that pgx could not read, if its error names one.
func parameterAtFault(err error) string {
	for _, name := range []string{
		"default_query_exec_mode", "statement_cache_capacity", "description_cache_capacity", "pool_max_conns", "pool_min_conns", "pool_max_conn_lifetime",
		"pool_max_conn_idle_time", "pool_health_check_period", "target_session_attrs", "sslmode", "sslrootcert", "connect_timeout", "servicefile",
	} {
		if strings.Contains(err.Error(), name) {
			return " (" + name + " has a value that is not understood)"
		}
	}
	return ""
}

// WithoutPanic returns a check of new connections that fails where pgx's own checks panic: on an answer without a row, which a pooler
// under load sends now and then. The pool makes connections in goroutines of its own, so that a panic would end the process. Without a check
// it returns nil.
func WithoutPanic(check pgconn.ValidateConnectFunc) pgconn.ValidateConnectFunc {
	if check == nil {
		return nil
	}
	return func(ctx context.Context, conn *pgconn.PgConn) (err error) {
		defer func() {
			if recover() != nil {
				err = errors.New("the server's state is not known: its answer has no row")
			}
		}()
		return check(ctx, conn)
	}
}

// connectToPrimary keeps a pool to servers that take writes. A connection to any other is refused when it is made, as with
// target_session_attrs=read-write, and all are dropped when one of them turns out to be read-only: after a failover the address
// leads elsewhere, and connections that are kept busy would never notice.
func connectToPrimary(config *pgxpool.Config, reset func()) {
	if config.ConnConfig.ValidateConnect == nil {
		config.ConnConfig.ValidateConnect = WithoutPanic(pgconn.ValidateConnectTargetSessionAttrsReadWrite)
	}
	before := config.ConnConfig.OnPgError
	config.ConnConfig.OnPgError = func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
		if err.Code == readOnlyTransaction {
			go reset()
			return false
		}
		return before(conn, err)
	}
}

// connectionResetter calls reset when the other side has ended a connection under a query: a server that stops or crashes, and what stands
// between, ends all, and each of them would cost a request its answer.
type connectionResetter struct{ reset func() }

func (connectionResetter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (l connectionResetter) TraceQueryEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryEndData) {
	l.note(ctx, conn, data.Err)
}

func (connectionResetter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

func (connectionResetter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (l connectionResetter) TraceBatchEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchEndData) {
	l.note(ctx, conn, data.Err)
}

// note ignores a connection that pgx itself closed, because the caller's context had ended.
func (l connectionResetter) note(ctx context.Context, conn *pgx.Conn, err error) {
	if err != nil && conn.IsClosed() && ctx.Err() == nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		l.reset()
	}
}

const readOnlyTransaction = "25006" // SQLSTATE read_only_sql_transaction

// Writable returns ErrReadOnly if the database takes no writes, and drops the connections that lead there.
func (d *DB) Writable(ctx context.Context) error {
	var readOnly bool
	err := d.Pool.QueryRow(ctx, `SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean`).Scan(&readOnly)
	if err == nil && readOnly {
		d.Pool.Reset()
		return ErrReadOnly
	}
	return err
}

// Unavailable reports whether err means that the database cannot be used for now and the same request may succeed later: it
// cannot be reached, is stopping or full, takes no writes, or broke the request off because of another.
func Unavailable(err error) bool {
	var connecting *pgconn.ConnectError
	var network *net.OpError
	if errors.Is(err, ErrReadOnly) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &connecting) || errors.As(err, &network) {
		return true
	}
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || len(pgErr.Code) < 2 {
		return false
	}
	switch pgErr.Code[:2] {
	case "08", "53": // connection exceptions, insufficient resources
		return true
	case "57":
		return pgErr.Code != "57014" // query_canceled
	}
	return pgErr.Code == readOnlyTransaction || isRetryable(err)
}
