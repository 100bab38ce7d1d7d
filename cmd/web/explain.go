package main

import (
	"errors"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"patchbay/internal/pg"
)

// explain returns what was found when Postgres refused and how to mend it, for the start and the doctor alike. It quotes no
// address, which may hold a password; it returns "" for an error that is not Postgres's.
func explain(err error) string {
	const encode = "Signs in a password within an address must be percent-encoded (@ is %40, / is %2F, # is %23, ? is %3F, % is %25); PGPASSWORD takes it as it is"
	var connecting *pgconn.ConnectError
	var lookup *net.DNSError
	var said *pgconn.PgError
	errors.As(err, &said)
	code := ""
	if said != nil {
		code = said.Code
	}
	switch {
	case errors.Is(err, pg.ErrStatementsLost):
		return pg.ErrStatementsLost.Error() + " of DATABASE_URL, and give MIGRATE_DATABASE_URL without the pooler"
	case errors.Is(err, errMigratesPooled):
		return errMigratesPooled.Error()
	case code == "08P01" && strings.Contains(said.Message, "transaction blocks not allowed"):
		return said.Message + ": a pooler such as pgbouncer stands between. Set its pool_mode to session or transaction"
	case errors.Is(err, pgconn.ErrReadOnlyConnection), errors.Is(err, pg.ErrReadOnly), code == "25006":
		return "Postgres takes no writes there: it is a standby, or read-only. DATABASE_URL must lead to the primary; of several hosts (host1,host2) the one that takes writes is chosen"
	case code == "28P01", code == "28000":
		return "Postgres refuses the user or the password of DATABASE_URL. " + encode
	case code == "3D000":
		return said.Message + ": make it with CREATE DATABASE … ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0"
	case code == "42501" && !strings.Contains(said.Message, "schema") && !strings.Contains(said.Message, "database"):
		return said.Message + ": name the role that owns the tables in MIGRATE_DATABASE_URL; patchbay migrate up then gives the role of DATABASE_URL what it needs. " +
			"By hand, as their owner: GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO the role; GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO the role"
	case code == "42501":
		return said.Message + ": as the database's owner: GRANT USAGE, CREATE ON SCHEMA public TO the role, and for the extension pg_trgm GRANT CREATE ON DATABASE"
	case code == "42P05", code == "26000":
		return said.Message + ": a pooler such as pgbouncer stands between. Add default_query_exec_mode=cache_describe to DATABASE_URL, and give MIGRATE_DATABASE_URL without the pooler"
	case code == "08P01" && strings.Contains(said.Message, "startup parameter"):
		return said.Message + ": a pooler such as pgbouncer stands between. Name the parameter in its ignore_startup_parameters"
	case errors.As(err, &connecting) && errors.As(err, &lookup):
		return "the host of DATABASE_URL is not known (no such host). " + encode
	case errors.As(err, &connecting):
		return "Postgres cannot be used: " + reason(err) + ". Is it running, and is DATABASE_URL right?"
	case said != nil:
		return said.Message + " (SQLSTATE " + code + ")"
	}
	return ""
}
