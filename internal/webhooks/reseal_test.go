package webhooks

import (
	"log/slog"
	"testing"

	"patchbay/internal/audit"
	"patchbay/internal/db/dbtest"
)

// TestEndpointsAreSealedAnew: after a rotation the old key can be taken out of the keyset, and no endpoint is lost.
func TestEndpointsAreSealedAnew(t *testing.T) {
	database := dbtest.Make(t)
	before := New(Options{DB: database.Open(t), Private: true, Log: slog.New(slog.DiscardHandler)})
	e, _, err := before.Add(t.Context(), audit.System, "https://hooks.platform.example/", nil)
	if err != nil {
		t.Fatal(err)
	}
	database = database.Rotated(t)
	after := New(Options{DB: database.Open(t), Private: true, Log: slog.New(slog.DiscardHandler)})
	var sealed []byte
	read := func() {
		t.Helper()
		if err := after.DB.Pool.QueryRow(t.Context(), `SELECT sealed FROM webhook_endpoints WHERE id = $1`, e.ID).Scan(&sealed); err != nil {
			t.Fatal(err)
		}
	}
	if read(); !after.DB.OldSeal(sealed) {
		t.Fatal("the new key has sealed it already")
	}
	if err := after.reseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if read(); after.DB.OldSeal(sealed) {
		t.Error("the old key still seals it")
	}
	if got, err := after.Endpoint(t.Context(), e.ID); err != nil || got.URL != e.URL {
		t.Errorf("%+v, %v", got, err)
	}
}
