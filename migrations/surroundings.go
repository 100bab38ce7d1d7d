package migrations

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// surroundings returns an error that says how to mend what keeps the schema from being made: the schema public is not the first of
// search_path, pg_trgm is missing or out of its reach, or the role may not create tables.
func surroundings(ctx context.Context, db *sql.DB) error {
	var role, name, first, trgm string
	var reached, available, may, mayExtend, fresh bool
	err := db.QueryRowContext(ctx, `
		SELECT current_user, current_database(), coalesce(current_schema(), ''),
			coalesce((SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_trgm'), ''),
			coalesce((SELECT n.nspname = ANY (current_schemas(true)) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_trgm'), false),
			EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm'),
			coalesce(has_schema_privilege(to_regnamespace('public')::oid, 'CREATE'), false), has_database_privilege(current_database(), 'CREATE'),
			to_regclass('public.goose_db_version') IS NULL`).
		Scan(&role, &name, &first, &trgm, &reached, &available, &may, &mayExtend, &fresh)
	if err != nil {
		return err
	}
	role, name = pgx.Identifier{role}.Sanitize(), pgx.Identifier{name}.Sanitize()
	switch {
	case fresh && !may:
		return fmt.Errorf("the role %s may not create tables: as the database's owner, in the database %s: GRANT USAGE, CREATE ON SCHEMA public TO %s", role, name, role)
	case first != "public":
		return fmt.Errorf("tables are kept in the schema public, and search_path begins with %q: leave search_path out of the address, or put public first (search_path=public,…)", first)
	case trgm != "" && !reached:
		return fmt.Errorf("the extension pg_trgm is in the schema %s, which search_path leaves out: add search_path=public,%s to DATABASE_URL and MIGRATE_DATABASE_URL, or move it: ALTER EXTENSION pg_trgm SET SCHEMA public", trgm, trgm)
	case trgm == "" && !available:
		return fmt.Errorf("the extension pg_trgm is not there: install the package postgresql-contrib on the database's host")
	case trgm == "" && !mayExtend:
		return fmt.Errorf("the role %s may not create the extension pg_trgm: GRANT CREATE ON DATABASE %s TO %s, or as a superuser in it: CREATE EXTENSION pg_trgm", role, name, role)
	}
	return nil
}
