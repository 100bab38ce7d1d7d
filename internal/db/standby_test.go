package db_test

import (
	"testing"

	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
)

// TestReadOnlyConnectionsAreDropped has a pool's connections lead to what takes no writes, as after a failover (fleet#39228).
func TestReadOnlyConnectionsAreDropped(t *testing.T) {
	database := dbtest.Make(t)
	d := database.Open(t, pg.Options{})
	for _, statement := range []string{"SET default_transaction_read_only = on", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"} {
		if _, err := d.Pool.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
		var failed int
		for range 10 { // every write that fails drops the connection it went by
			if err := d.ResetLimit(t.Context(), "x"); err != nil {
				if failed++; !pg.Unavailable(err) {
					t.Errorf("%s: %v", statement, err)
				}
			}
		}
		if failed > 2 {
			t.Errorf("%s: %d of 10 writes went to a connection that takes none", statement, failed)
		}
	}
	dbtest.Eventually(t, "connections that take writes", func() bool { return d.Ready(t.Context()) == nil })
}
