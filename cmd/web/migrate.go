package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"patchbay/internal/pg"
	"patchbay/migrations"
)

// errMigratesPooled is returned if the schema would be changed through a pooler in transaction mode, where the lock that keeps two
// processes apart and the limits of a migration are another connection's a moment later.
var errMigratesPooled = errors.New("a pooler such as pgbouncer, in transaction mode, stands between, through which nothing may be migrated: give MIGRATE_DATABASE_URL without the pooler, or serve with -migrate=false")

// migrate applies the schema (up, the default), takes its newest step back (down) or lists it (status).
func migrate(ctx context.Context, t terminal, args []string) error {
	f := t.flags("migrate", "[up|down|status]")
	direction := "up"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		direction, args = args[0], args[1:]
	}
	if err := parse(f, args); err != nil {
		return err
	}
	e := newEnv(t.environ)
	serving, migrating := readAddresses(e)
	if err := e.err(); err != nil {
		return err
	}
	switch direction {
	case "up":
		applied, err := migrateUp(ctx, serving, migrating)
		if err == nil {
			fmt.Fprintf(t.out, "%d applied; the schema is up to date\n", applied)
		}
		return err
	case "down":
		if err := migratesAlone(ctx, migrating); err != nil {
			return err
		}
		name, err := migrations.Down(ctx, migrating)
		if err == nil {
			fmt.Fprintf(t.out, "took back %s\n", name)
		}
		return err
	case "status":
		all, err := migrations.Status(ctx, migrating)
		for _, m := range all {
			state := "pending"
			if m.Applied {
				state = "applied"
			}
			fmt.Fprintf(t.out, "%-8s %s\n", state, m.Name)
		}
		return err
	}
	return misused(f, fmt.Sprintf("%q is none of up, down, status", direction))
}

// migratesAlone returns errMigratesPooled unless the connections to an address have sessions of their own.
func migratesAlone(ctx context.Context, migrating string) error {
	shared, err := pg.Pooled(ctx, migrating)
	if shared {
		return errMigratesPooled
	}
	return err
}

// migrateUp applies the migrations that are missing. Where another role owns the tables, it grants the serving role what
// that role needs.
func migrateUp(ctx context.Context, serving, migrating string) (int, error) {
	if migrations.Applied(ctx, migrating) != nil { // where nothing is to be applied no lock is taken
		if err := migratesAlone(ctx, migrating); err != nil {
			return 0, err
		}
	}
	applied, err := migrations.Up(ctx, migrating)
	if err != nil {
		return applied, err
	}
	if serving != migrating { // also with nothing applied: the role may be another than last time
		return applied, migrations.Allow(ctx, migrating, serving)
	}
	return applied, nil
}
