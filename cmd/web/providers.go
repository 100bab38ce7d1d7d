package main

import (
	"errors"
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
	setups, err := connectors.Load(e.secret, entries, connectors.NewClient(wrap, nil))
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
