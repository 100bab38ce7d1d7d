package main

import (
	"errors"
	"os"
	"path/filepath"

	"patchbay/internal/connectors"
)

// readProviders sets up the providers. Each connector reads its own settings; any setting may be given as a file.
func readProviders(e *env) []connectors.Provider {
	var entries []byte
	if path := e.get("CONNECTORS_FILE"); path != "" {
		var err error
		if entries, err = os.ReadFile(filepath.Clean(path)); err != nil {
			e.fault("CONNECTORS_FILE: %v", err)
		}
	}
	setups, err := connectors.Load(e.secret, entries, connectors.NewClient(nil, nil))
	var faults connectors.Errors
	if errors.As(err, &faults) {
		for _, fault := range faults {
			e.fault("%s", fault)
		}
	}
	return setups
}
