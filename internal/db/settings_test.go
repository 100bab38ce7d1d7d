package db_test

import (
	"context"
	"testing"

	"patchbay/internal/audit"
	"patchbay/internal/db/dbtest"
)

func TestRetentionIsKept(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := dbtest.New(t)
	if months, err := d.Audit.Retention(ctx); err != nil || months != 0 {
		t.Errorf("%d months before anybody said so, %v", months, err)
	}
	if err := d.Audit.SetRetention(ctx, audit.System, 6); err != nil {
		t.Fatal(err)
	}
	if months, err := d.Audit.Retention(ctx); err != nil || months != 6 {
		t.Errorf("%d months, %v", months, err)
	}
}
