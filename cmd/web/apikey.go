package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/pg"
)

// apikey makes a key for one of the platform's own programs. The key is shown this once, alone on the last line.
func apikey(ctx context.Context, t terminal, args []string) error {
	f := t.flags("apikey", `add -name NAME [-merchant "Name"] [-scope `+strings.Join(db.Scopes(), ",")+`]`)
	name := f.String("name", "", "what the key is for, as admins see it")
	merchant := f.String("merchant", "", "the only merchant whose connections it may see (default: all)")
	scope := f.String("scope", strings.Join(db.Scopes(), ","), "what it may do, `scopes` with commas between")
	if err := parseVerb(f, "add", args); err != nil {
		return err
	}
	if strings.TrimSpace(*name) == "" {
		return misused(f, "-name is missing")
	}
	d, err := openDatabase(ctx, t.environ)
	if err != nil {
		return err
	}
	defer d.Close()
	key := db.APIKey{Name: *name, Scopes: list(*scope)}
	if *merchant != "" {
		m, err := d.MerchantByName(ctx, *merchant)
		switch {
		case errors.Is(err, pg.ErrNotFound):
			return fmt.Errorf("there is no merchant %q", *merchant)
		case err != nil:
			return err
		}
		key.MerchantID = m.ID
	}
	key, secret, err := d.AddAPIKey(ctx, audit.System, key)
	if err != nil {
		return err
	}
	whose := "all merchants"
	if *merchant != "" {
		whose = *merchant
	}
	_, err = fmt.Fprintf(t.out, "%q may do %s for %s. It is shown this once:\n%s\n", key.Name, strings.Join(key.Scopes, ", "), whose, string(secret))
	return err
}
