package main

import (
	"errors"
	"maps"
	"net/http"
	"os"

	"patchbay/internal/connectors"
	"patchbay/internal/trace"
)

// readProviders sets up the providers. Each connector reads its own settings; any setting may be given as a file.
func readProviders(e *env, traced bool) []connectors.Provider {
	var entries []byte
	if path := e.get("CONNECTORS_FILE"); path != "" {
		entries, _ = e.file("CONNECTORS_FILE", path)
	}
	var wrap func(http.RoundTripper) http.RoundTripper
	if traced {
		wrap = trace.Transport
	}
	ours := maps.Clone(e.known)
	secret := func(name string) string {
		if ours[name] || e.added(name) {
			e.fault("CONNECTORS_FILE: %s is a setting of Patchbay or of a tool beside it, and no secret of an entry's", name)
		}
		return e.secret(name)
	}
	setups, err := connectors.Load(secret, entries, connectors.NewClient(wrap, nil))
	var faults connectors.Errors
	if errors.As(err, &faults) {
		for _, fault := range faults {
			e.fault("%s", fault)
		}
	}
	for _, fault := range connectors.ReadLogos(setups, os.ReadFile) {
		e.fault("%s", fault)
	}
	return setups
}
