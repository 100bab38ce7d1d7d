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
	after := database.Open(t)
	if n, err := after.Reseal(t.Context(), after.OlderKeys(), 0, nil); err != nil || n != 2 { // and the word of the first start
		t.Errorf("%d sealed anew, %v", n, err)
	}
	last := New(Options{DB: database.Retired(t).Open(t), Private: true, Log: slog.New(slog.DiscardHandler)})
	if got, err := last.Endpoint(t.Context(), e.ID); err != nil || got.URL != e.URL {
		t.Errorf("%+v, %v", got, err)
	}
}
