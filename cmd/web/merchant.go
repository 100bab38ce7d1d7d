package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/resource"
)

// merchant erases a merchant and prints the receipt, as JSON. Providers are asked to end access by a process that serves.
func merchant(ctx context.Context, t terminal, args []string) error {
	f := t.flags("merchant", "erase -external-id ID")
	externalID := f.String("external-id", "", "the platform's own `id` of the merchant")
	if err := parseVerb(f, "erase", args); err != nil {
		return err
	}
	if *externalID == "" {
		return misused(f, "-external-id is missing")
	}
	d, err := openDatabase(ctx, t.environ)
	if err != nil {
		return err
	}
	defer d.Close()
	receipt, err := erase(ctx, d, *externalID)
	if errors.Is(err, pg.ErrNotFound) {
		return fmt.Errorf("there is no merchant with the external id %q, and none of that id was erased", *externalID)
	}
	if err != nil {
		return err
	}
	months, err := d.Audit.Retention(ctx)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(resource.ErasureOf(receipt, *externalID, months), "", "  ")
	if err != nil {
		return err
	}
	if _, err = fmt.Fprintf(t.out, "%s\n", text); err == nil && receipt.Pending > 0 {
		_, err = fmt.Fprintf(t.err, "patchbay merchant: a process that serves asks the providers within a minute: give the command again to see how they took it, before %s\n", receipt.PendingUntil.Format(time.RFC3339))
	}
	return err
}

func erase(ctx context.Context, d *db.DB, externalID string) (db.Erasure, error) {
	m, err := d.MerchantByExternalID(ctx, externalID)
	if err == nil {
		if err = d.EraseMerchant(ctx, audit.System, m.ID); err == nil {
			if err := d.EmptyEvents(ctx, m.ID); err != nil {
				return db.Erasure{}, err
			}
			return d.Erasure(ctx, m.ID)
		}
	}
	if errors.Is(err, pg.ErrNotFound) {
		return d.ErasureByExternalID(ctx, externalID)
	}
	return db.Erasure{}, err
}
