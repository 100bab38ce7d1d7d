package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/sandbox/platform"
)

// platformPath is where the demo's sample platform is, beside the sandboxes; platformFile, in the demo's folder, is what it keeps.
const (
	platformPath = "/platform"
	platformFile = "platform.json"
)

// keptPlatform is what the sample platform needs of one run in the next.
type keptPlatform struct {
	Key    string `json:"key"`
	Hook   string `json:"hook"` // where its webhooks go
	Secret string `json:"secret"`

	file string
}

// keepPlatform reads what an earlier run kept. In the first run it makes an API key.
func keepPlatform(ctx context.Context, d *db.DB, file string) (k keptPlatform, err error) {
	k.file = file
	text, err := os.ReadFile(file)
	if err == nil {
		if err := json.Unmarshal(text, &k); err != nil {
			return k, fmt.Errorf("%s: %w", file, err)
		}
		return k, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	_, secret, err := d.AddAPIKey(ctx, audit.System, db.APIKey{Name: "sample platform", Scopes: db.Scopes()})
	if err != nil {
		return k, err
	}
	k.Key = string(secret)
	return k, k.write()
}

func (k keptPlatform) write() error {
	text, err := json.Marshal(k)
	if err != nil {
		return err
	}
	return os.WriteFile(k.file, text, 0o600)
}

// subscribe has the platform take webhooks with the secret of an earlier run, if its address is still the same, or else with a new one.
func (k keptPlatform) subscribe(ctx context.Context, shop *platform.Platform) (err error) {
	if k.Hook != shop.HookURL() {
		k.Hook = shop.HookURL()
		if k.Secret, err = shop.Subscribe(ctx); err != nil {
			return err
		}
		if err := k.write(); err != nil {
			return err
		}
	}
	return shop.Trust(k.Secret)
}
