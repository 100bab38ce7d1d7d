package sample_test

import (
	"testing"

	"patchbay/internal/db/dbtest"
	"patchbay/internal/sample"
)

func TestSampleDataAgreesWithItself(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	if err := sample.Fill(t.Context(), d, sample.Scale{Connections: 2000, Environment: "sandbox", Events: 20}); err != nil {
		t.Fatal(err)
	}
	found, err := sample.Disagreements(t.Context(), d.Pool)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range found {
		t.Error(one)
	}
}
