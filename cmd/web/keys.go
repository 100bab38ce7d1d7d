package main

import (
	"context"
	"fmt"

	"patchbay/internal/seal"
)

// keys prints a fresh keyset, alone on its line, so that it can be written straight to a file or a secret store.
func keys(_ context.Context, t terminal, args []string) error {
	if err := parseVerb(t.flags("keys", "new"), "new", args); err != nil {
		return err
	}
	text, err := seal.NewKeyset()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(t.out, text)
	return err
}
